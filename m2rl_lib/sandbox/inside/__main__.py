"""The half of the sandbox that runs inside it: a warm interpreter, process 1, that forks a child (`program.py`) per program."""

import builtins
import gc
import importlib
import itertools
import json
import os
import resource
import select
import signal
import struct
import sys
import time

from program import ERROR, EXIT_CODES, MEMORY, OUTPUT, PR_SET_DUMPABLE, SCRATCH, TIMEOUT, call, child, compiled, run_test
from sharing import may_share

for name in ["bisect", "collections", "functools", "heapq", "math", "operator", "re", "string", "typing"]:
    importlib.import_module(name)  # what short programs import most, loaded once so that no child has to

REPORTS = b"".join(EXIT_CODES)  # what a child may say of a test
MNT_DETACH, MS_NOSUID_NODEV = 2, 6
SCRATCH_OPTIONS = b"size=16m,nr_inodes=2048,mode=1777"
MOST_PROCESSES = 8  # of one program, looked at every TICK; RLIMIT_NPROC is the hard stop
TICK = 0.1
TESTS_PER_CHILD = 64  # of a program that leaves no state (`sharing.py`); 1 of others, and after a test that ended its process
WARM_UP = "import sys\nn = int(input())\na = [int(x) for x in sys.stdin.read().split()]\nprint(n, max(a), *sorted(a), f'{n}')\n"


def bytes_file(folder: int | None, content: bytes = b"") -> int:
    """A descriptor of an unnamed file in memory (on disk where `folder` is None), positioned at its start."""
    if folder is None:
        import tempfile  # not for the programs: it seeds `random`

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    else:
        descriptor = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o666, dir_fd=folder)
    at = 0
    while at < len(content):
        at += os.pwrite(descriptor, content[at:], at)
    return descriptor


def usage() -> tuple:
    """(processes, resident bytes) of the program that is running: everything in this sandbox but process 1."""
    processes, pages = 0, 0
    for entry in os.listdir("/proc"):
        if entry.isdigit() and entry != "1":
            try:
                with open(f"/proc/{entry}/statm") as file:
                    pages += int(file.read().split()[1])
                processes += 1
            except OSError:
                pass
    return processes, pages * resource.getpagesize()


def mount_scratch(path: str, options: bytes = SCRATCH_OPTIONS) -> None:
    call("mount", b"tmpfs", path.encode(), b"tmpfs", MS_NOSUID_NODEV, options)


class Server:
    """Process 1 of the sandbox (`isolated`), or an ordinary process. `drop_uid`: programs run as a user of their own."""

    def __init__(self, isolated: bool, drop_uid: bool):
        self.isolated, self.drop_uid = isolated, drop_uid
        self.channel = os.dup(0)
        self.folder = None  # of the files that programs read and write as standard streams
        self.close_streams()
        os.umask(0)
        builtins.exit = builtins.quit = sys.exit  # what the site module would have added
        sys.argv[:] = ["program.py"]
        sys.path[:] = [entry for entry in sys.path if "/python" in entry]
        sys.path_importer_cache.clear()
        os.environ.clear()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        if isolated:
            call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)  # no one may read this process's memory or open its descriptors
            mount_scratch("/tmp", b"mode=700")
            self.folder = os.open("/tmp", os.O_RDONLY | os.O_DIRECTORY)
            call("umount2", b"/tmp", MNT_DETACH)  # reached by this descriptor only
            for path in SCRATCH:
                mount_scratch(path)

    @staticmethod
    def close_streams() -> None:
        """Point standard input and output at nothing. Standard error stays: failures in here are reported outside."""
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.close(null)

    def warm_up(self) -> None:
        """Run a small program, so that children inherit what the interpreter makes on first use, and freeze the collector."""
        for _ in range(20):
            streams = bytes_file(self.folder, b"3\n1 2 3\n"), bytes_file(self.folder)
            code = compiled(WARM_UP)
            may_share(code)
            run_test(code, *streams)
            for descriptor in streams:
                os.close(descriptor)
        self.close_streams()
        gc.collect()
        gc.freeze()

    def end_everything(self, pid: int) -> int:
        """Kill the child and all that it started, wait for them, wipe what they wrote; the child's wait status."""
        if not self.isolated:
            try:
                os.killpg(pid, signal.SIGKILL)
            except OSError:
                os.kill(pid, signal.SIGKILL)
            return os.waitpid(pid, 0)[1]
        status = 0
        try:  # whatever a child leaves behind is this process's child in turn, so having none means that nothing is left
            while True:
                ended, code = os.waitpid(-1, os.WNOHANG)
                if ended == 0:
                    os.kill(-1, signal.SIGKILL)
                    ended, code = os.waitpid(-1, 0)
                status = code if ended == pid else status
        except ChildProcessError:
            pass
        for path in SCRATCH:
            if os.listdir(path):
                call("umount2", path.encode(), MNT_DETACH)
                mount_scratch(path)
        return status

    def run_batch(self, request: dict, inputs: list) -> list:
        """Run the program on `inputs` in one child; one (status, stdout) for each test it got to, at least one."""
        limits = request["limits"]
        files = [(bytes_file(self.folder, text.encode("utf-8", "replace")), bytes_file(self.folder)) for text in inputs]
        reading, writing = os.pipe()
        context = dict(request=request, isolated=self.isolated, drop_uid=self.drop_uid, limits=limits)
        pid = os.fork()
        if pid == 0:
            inputs.clear()
            child(files, writing, context)
        os.close(writing)
        os.set_blocking(reading, False)
        reports, stopped = self.watch(pid, reading, len(files), limits)
        os.close(reading)
        code = os.waitstatus_to_exitcode(self.end_everything(pid))
        statuses = [bytes([report]) if report in REPORTS else ERROR for report in reports[: len(files) - 1]]
        statuses.append(stopped or next((status for status, exit_code in EXIT_CODES.items() if code == exit_code), ERROR))
        results = []
        for (_, stdout), status in zip(files, statuses):
            written = os.pread(stdout, limits["output"] + 1, 0)
            results.append((OUTPUT if len(written) > limits["output"] else status, written[: limits["output"]]))
        for descriptor in itertools.chain(*files):
            os.close(descriptor)
        return results

    def watch(self, pid: int, reading: int, tests: int, limits: dict) -> tuple:
        """Wait until the child has ended or has to be stopped: (reports on all tests but the last, why stopped or None)."""
        ended, event = end_of(pid, reading)
        poller = select.poll()
        poller.register(ended, event)
        poller.register(self.channel, getattr(select, "POLLRDHUP", select.POLLHUP))
        reports, stopped, over, deadline = b"", None, False, time.monotonic() + limits["timeout"]
        while stopped is None and not over:
            remaining = deadline - time.monotonic()
            ready = {descriptor for descriptor, _ in poller.poll(max(0, min(remaining, TICK)) * 1000)}
            if self.channel in ready:
                if not self.isolated:
                    self.end_everything(pid)
                os._exit(0)  # nobody waits for the answer; the kernel ends the namespace with its process 1
            over = ended in ready
            try:
                fresh = os.read(reading, tests - len(reports))
            except BlockingIOError:
                fresh = b""
            reports += fresh
            if len(reports) >= tests:
                stopped = ERROR  # the program has written reports of its own
            elif fresh:
                deadline = time.monotonic() + limits["timeout"]
            elif remaining <= 0 and not over:
                stopped = TIMEOUT
            elif self.isolated and not over:
                processes, resident = usage()
                stopped = ERROR if processes > MOST_PROCESSES else MEMORY if resident > limits["memory"] else None
        if ended != reading:
            os.close(ended)
        return reports, stopped

    def run_program(self, request: dict) -> bytes:
        """The framed reply for one program: for each input a status byte, a length and what it wrote."""
        inputs, results, batch = request["inputs"], [], TESTS_PER_CHILD
        while len(results) < len(inputs):
            sent = inputs[len(results) : len(results) + batch]
            done = self.run_batch(request, sent)
            if len(done) > 1 and done[-1][0] == MEMORY:
                done.pop()  # perhaps the fault of the tests before it: it runs again, alone
            if len(done) < len(sent):
                batch = 1
            results += done
            if done[-1][0] == TIMEOUT:
                results += [(TIMEOUT, b"")] * (len(inputs) - len(results))
        return b"".join(struct.pack("!cI", status, len(written)) + written for status, written in results)

    def serve(self) -> None:
        """Answer requests until the other side hangs up."""
        os.write(self.channel, b"ready")
        while True:
            request = json.loads(read_exactly(self.channel, struct.unpack("!I", read_exactly(self.channel, 4))[0]))
            reply = self.run_program(request)
            reply = memoryview(struct.pack("!I", len(reply)) + reply)
            while reply:
                reply = reply[os.write(self.channel, reply) :]


def end_of(pid: int, reading: int) -> tuple:
    """(descriptor, events) to poll for a child's end, or (macOS, Linux before 5.3) for its letting go of its pipe."""
    try:
        return os.pidfd_open(pid), select.POLLIN
    except (AttributeError, OSError):
        return reading, 0


def read_exactly(descriptor: int, count: int) -> bytearray:
    data = bytearray()
    while len(data) < count:
        chunk = os.read(descriptor, min(count - len(data), 1 << 20))
        if not chunk:
            os._exit(0)  # the other side is gone
        data += chunk
    return data


if __name__ == "__main__":
    server = Server(isolated="isolated" in sys.argv, drop_uid="drop-uid" in sys.argv)
    server.warm_up()
    server.serve()
