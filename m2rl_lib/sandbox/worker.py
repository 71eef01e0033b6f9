"""The half of the sandbox that runs inside it: a warm interpreter which forks untrusted programs and collects their bytes.

`sandbox.py` starts this file with bare Python (standard library only), inside bubblewrap, and talks to it over one socket. The *server*,
process 1 of the sandbox's process namespace, reads a request and forks a *child* which gives up all rights, compiles the program and runs it. Process 1
cannot be signalled from inside its namespace, adopts every orphan, and kills and reaps all that is left before the next child. No verdict is
computed here and no expected output is ever here: what comes back is what the program wrote, and how it ended.

A fork costs about a millisecond, so a program that cannot plausibly leave anything behind for its next test (`leaves_no_state`) runs
up to 64 tests in one child, each with fresh globals and streams; any other program, and whatever follows a test that ended its
process, gets a fork a test. That choice is about fidelity, not safety: a child knows nothing that would help it cheat.
"""

import atexit

# Imported once here so that programs need not load them: what short programs import most.
import bisect  # noqa: E401, F401
import builtins
import ctypes
import gc
import json
import opcode
import os
import resource
import select
import signal
import struct
import sys
import time
import types

OK, ERROR, TIMEOUT, OUTPUT, MEMORY = b"k", b"e", b"t", b"o", b"m"
SEPARATE = b"s"  # a child's first report: one test here, the others in children of their own
MNT_DETACH, MS_NOSUID_NODEV = 2, 6
PR_SET_DUMPABLE = 4
SCRATCH = {"/tmp": "16m", "/dev/shm": "16m"}  # the only places a program can write
MOST_PROCESSES = 8  # of one program, looked at every TICK; RLIMIT_NPROC is the hard stop
TICK = 0.1
TESTS_PER_CHILD = 64

libc = ctypes.CDLL(None, use_errno=True)

# A program qualifies for one child for all of its tests only if it imports nothing else and names nothing of the second list.
PURE_MODULES = {
    "math",
    "cmath",
    "collections",
    "collections.abc",
    "itertools",
    "functools",
    "heapq",
    "bisect",
    "operator",
    "string",
    "re",
    "sys",
    "typing",
    "copy",
    "dataclasses",
    "enum",
    "fractions",
    "statistics",
    "numbers",
    "array",
    "datetime",
    "time",
}
STATEFUL_NAMES = {
    "open",
    "exec",
    "eval",
    "compile",
    "globals",
    "vars",
    "setattr",
    "delattr",
    "getattr",
    "modules",
    "path",
    "meta_path",
    "path_hooks",
    "settrace",
    "setprofile",
    "excepthook",
    "displayhook",
    "unraisablehook",
    "detach",
    "close",
    "fileno",
    "reconfigure",
    "tzset",
    "setswitchinterval",
}
PLAIN_DUNDERS = {
    "__name__",
    "__init__",
    "__main__",
    "__len__",
    "__lt__",
    "__gt__",
    "__le__",
    "__ge__",
    "__eq__",
    "__ne__",
    "__hash__",
    "__repr__",
    "__str__",
    "__iter__",
    "__next__",
    "__add__",
    "__sub__",
    "__mul__",
    "__getitem__",
    "__setitem__",
    "__contains__",
    "__call__",
    "__slots__",
    "__module__",
    "__qualname__",
    "__doc__",
    "__annotations__",
    "__post_init__",
    "__bool__",
    "__radd__",
    "__rmul__",
    "__neg__",
    "__truediv__",
    "__floordiv__",
    "__mod__",
    "__pow__",
    "__classcell__",
    "__missing__",
}
IMPORT = opcode.opmap["IMPORT_NAME"]
ATTRIBUTE_WRITES = [opcode.opmap["STORE_ATTR"], opcode.opmap["DELETE_ATTR"]]


def leaves_no_state(code: types.CodeType) -> bool:
    """True if the compiled program imports pure modules only, names no door to shared state, and sets attributes only in methods."""
    for name in code.co_names:
        if name in STATEFUL_NAMES or name == "_getframe" or name.startswith("__") and name not in PLAIN_DUNDERS:
            return False
    instructions = code.co_code[::2]
    if any(write in instructions for write in ATTRIBUTE_WRITES) and code.co_varnames[:1] != ("self",):
        return False
    if IMPORT in instructions:
        for at, operation in enumerate(
            instructions
        ):  # an argument above 255 names carries a prefix: such programs are long, fork them
            if operation == IMPORT and (len(code.co_names) > 255 or code.co_names[code.co_code[2 * at + 1]] not in PURE_MODULES):
                return False
    return all(leaves_no_state(inner) for inner in code.co_consts if isinstance(inner, types.CodeType))


def call(name: str, *arguments) -> None:
    """A C library call that must return zero."""
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def mount_scratch(path: str) -> None:
    call("mount", b"tmpfs", path.encode(), b"tmpfs", MS_NOSUID_NODEV, f"size={SCRATCH[path]},nr_inodes=2048,mode=1777".encode())


def bytes_file(content: bytes = b"") -> int:
    """A descriptor of an unnamed file in memory (on disk where the system has no memfd), positioned at its start."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("io")
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    while content:
        content = content[os.write(descriptor, content) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


# ---- the child: no rights, runs the program ------------------------------------------------------------------------------------------


def give_up_rights(isolated: bool, drop_uid: bool, limits: dict, tests: int) -> None:
    """Resource limits (which also hold for root: the uid changes first), then no capability and no uid to come back to."""
    seconds = int(limits["timeout"] * tests) + 2
    wanted = [
        ("RLIMIT_CPU", seconds),
        ("RLIMIT_AS", limits["memory"]),
        ("RLIMIT_FSIZE", limits["output"] + (1 << 20)),
        ("RLIMIT_CORE", 0),
    ]
    if isolated:
        wanted += [("RLIMIT_NOFILE", 64 + 2 * tests), ("RLIMIT_NPROC", 32), ("RLIMIT_MEMLOCK", 0), ("RLIMIT_MSGQUEUE", 0)]
    for name, value in wanted:
        try:
            resource.setrlimit(getattr(resource, name), (value, value))
        except (AttributeError, ValueError, OSError):
            if isolated:
                raise
    if not isolated:
        return
    if drop_uid:
        os.setgroups([])
        os.setgid(1)
        os.setuid(1)  # takes every capability with it
    else:
        call("capset", struct.pack("=II", 0x20080522, 0), bytes(24))
    call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)  # its own /proc/self, and so /dev/stdin, stays readable


def run_test(code: types.CodeType, stdin: int, stdout: int) -> bytes:
    """Run the compiled program once as `__main__` on two descriptors. How it ended: OK, ERROR or MEMORY."""
    os.dup2(stdin, 0)
    os.dup2(stdout, 1)
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__builtins__ = builtins
    status = OK
    try:
        try:
            exec(code, main.__dict__)
        except SystemExit as end:
            status = OK if end.code is None or end.code == 0 and isinstance(end.code, int) else ERROR
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
    except MemoryError:
        status = MEMORY
    except BaseException:
        status = ERROR
    try:  # what was printed before the end still counts as printed
        sys.__stdout__.flush()
    except BaseException:
        status = ERROR if status == OK else status
    return status


def compiled(program: str) -> types.CodeType:
    """The program's code; of a program that does not compile, code that raises."""
    try:
        return compile(program, "program.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return compile("raise SyntaxError", "program.py", "exec")


def child(files: list, report: int, context: dict) -> None:
    """Run the tests whose (stdin, stdout) descriptors are given and report one byte after each. Never returns."""
    status = ERROR
    try:
        me = os.getpid()
        os.dup2(0, 2)  # the server's standard input is /dev/null
        kept = {descriptor for pair in files for descriptor in pair} | {0, 1, 2, report}
        for descriptor in range(3, max(kept)):
            if descriptor not in kept:
                try:
                    os.close(descriptor)
                except OSError:
                    pass
        os.closerange(max(kept) + 1, 1 << 16)
        if context["isolated"]:
            os.chdir("/tmp")
        else:
            os.setsid()
        give_up_rights(context["isolated"], context["drop_uid"], context["limits"], len(files))
        code = compiled(context["request"].pop("program"))
        context["request"].clear()  # nothing of the other tests is left to find
        context.clear()
        if len(files) > 1 and not leaves_no_state(code):
            os.write(report, SEPARATE)
            files = files[:1]
        depth, digits = sys.getrecursionlimit(), getattr(sys, "get_int_max_str_digits", int)()
        for stdin, stdout in files:
            status = run_test(code, stdin, stdout)
            if os.getpid() != me:
                break  # a process that the program forked and that ran to the program's end: it has no say
            os.write(report, status)
            if len(files) > 1:
                sys.modules["__main__"].__dict__.clear()
                sys.setrecursionlimit(depth)
                if digits:
                    sys.set_int_max_str_digits(digits)
                gc.collect()
    finally:
        os._exit(0 if status == OK else 1)


# ---- the server: process 1 of the sandbox; how it runs one program ------------------------------------------------------------------


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


def end_everything(pid: int, isolated: bool) -> int:
    """Kill the child and all that it started, wait for them, wipe what they wrote; the child's wait status."""
    status = 0
    if not isolated:
        try:
            os.killpg(pid, signal.SIGKILL)
        except OSError:
            os.kill(pid, signal.SIGKILL)
        return os.waitpid(pid, 0)[1]
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        while True:
            ended, code = os.waitpid(-1, 0)
            status = code if ended == pid else status
    except ChildProcessError:
        pass
    for path in SCRATCH:
        if os.listdir(path):
            call("umount2", path.encode(), MNT_DETACH)
            mount_scratch(path)
    return status


def run_batch(request: dict, inputs: list, isolated: bool, drop_uid: bool, channel: int) -> list:
    """Run the program on `inputs` in one child; one (status, stdout) for each test it got to, at least one."""
    limits = request["limits"]
    files = [(bytes_file(text.encode("utf-8", "replace")), bytes_file()) for text in inputs]
    reading, writing = os.pipe()
    context = dict(request=request, isolated=isolated, drop_uid=drop_uid, limits=limits)
    pid = os.fork()
    if pid == 0:
        inputs.clear()
        child(files, writing, context)
    os.close(writing)
    poller = select.poll()
    poller.register(reading, select.POLLIN)
    poller.register(channel, getattr(select, "POLLRDHUP", select.POLLHUP))
    wanted = len(files)
    statuses, stopped, reporting = [], None, True
    deadline = time.monotonic() + limits["timeout"]
    while len(statuses) < wanted and stopped is None:
        remaining = deadline - time.monotonic()
        ready = poller.poll(max(0, min(remaining, TICK)) * 1000 if reporting else 0.5)
        if any(descriptor == channel for descriptor, _ in ready):
            if not isolated:
                end_everything(pid, isolated)
            os._exit(0)  # nobody waits for the answer; the kernel ends the namespace with its process 1
        if ready:
            reports = os.read(reading, wanted - len(statuses) + 1)
            if reports[:1] == SEPARATE and wanted > 1 and not statuses:
                wanted, reports = 1, reports[1:]
                if not reports:
                    continue
            reports = reports[: wanted - len(statuses)]
            statuses += [bytes([report]) if report in b"kem" else ERROR for report in reports]
            deadline = deadline if not reports else time.monotonic() + limits["timeout"]
            if not reports:  # the child has ended, or closed its descriptors and went on
                reporting = False
                poller.unregister(reading)
        elif has_ended(pid):
            break
        elif remaining <= 0:
            stopped = TIMEOUT
        elif isolated:
            processes, resident = usage()
            stopped = ERROR if processes > MOST_PROCESSES else MEMORY if resident > limits["memory"] else None
    os.close(reading)
    exit_status = end_everything(pid, isolated)
    if len(statuses) < wanted:
        statuses.append(stopped or (OK if exit_status == 0 else ERROR))
    results = []
    for (_, stdout), status in zip(files, statuses):
        written = os.pread(stdout, limits["output"] + 1, 0)
        results.append((OUTPUT if len(written) > limits["output"] else status, written[: limits["output"]]))
    for pair in files:
        os.close(pair[0])
        os.close(pair[1])
    return results


def has_ended(pid: int) -> bool:
    """Whether the child has ended; it stays to be reaped."""
    if not hasattr(os, "waitid"):
        return True  # macOS, unprotected: it has closed its descriptors, as good as ended
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def run_program(request: dict, isolated: bool, drop_uid: bool, channel: int) -> bytes:
    """The framed reply for one program: for each input a status byte, a length and what it wrote."""
    inputs, results, batch = request["inputs"], [], TESTS_PER_CHILD
    while len(results) < len(inputs):
        sent = inputs[len(results) : len(results) + batch]
        asked = len(sent)
        done = run_batch(request, sent, isolated, drop_uid, channel)
        if len(done) > 1 and done[-1][0] == MEMORY:
            done.pop()  # perhaps the fault of the tests before it: it runs again, alone
        if len(done) < asked:
            batch = 1
        results += done
        if done[-1][0] == TIMEOUT:
            results += [(TIMEOUT, b"")] * (len(inputs) - len(results))
    return b"".join(struct.pack("!cI", status, len(written)) + written for status, written in results)


def read_exactly(descriptor: int, count: int) -> bytes:
    chunks = []
    while count:
        chunk = os.read(descriptor, min(count, 1 << 20))
        if not chunk:
            os._exit(0)  # the other side is gone
        chunks.append(chunk)
        count -= len(chunk)
    return b"".join(chunks)


def serve(isolated: bool, drop_uid: bool) -> None:
    """Answer requests until the other side hangs up."""
    channel = os.dup(0)
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1):  # standard error stays: what fails in here is told outside
        os.dup2(null, descriptor)
    builtins.exit = builtins.quit = sys.exit  # what the site module would have added
    sys.argv[:] = ["program.py"]
    sys.path[:] = [entry for entry in sys.path if "/python" in entry]
    os.environ.clear()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    if isolated:
        call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)  # no one may read this process's memory or open its descriptors
        for path in SCRATCH:
            mount_scratch(path)
    gc.collect()
    gc.freeze()
    os.write(channel, b"ready")
    while True:
        request = json.loads(read_exactly(channel, struct.unpack("!I", read_exactly(channel, 4))[0]))
        reply = run_program(request, isolated, drop_uid, channel)
        reply = memoryview(struct.pack("!I", len(reply)) + reply)
        while reply:
            reply = reply[os.write(channel, reply) :]


if __name__ == "__main__":
    serve(isolated="isolated" in sys.argv, drop_uid="drop-uid" in sys.argv)
