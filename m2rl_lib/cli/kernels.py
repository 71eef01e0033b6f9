"""Kernels of a study's stages, forked from one process that has imported what they need: each starts five seconds sooner.

`python -m m2rl_lib.cli.kernels` is that process. It ends with its standard input, a kernel with the stage that asked for it. Not
for GPUs, which a fork cannot share."""

import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

ADDRESS = "M2RL_KERNELS"  # the variable that names the process's socket
# what stages import; matplotlib is not among it, since a kernel decides how it draws
IMPORTED = ("m2rl_lib.training.grpo", "m2rl_lib.training.sft", "m2rl_lib.training.mt_opd", "m2rl_lib.evaluation.avg_at_k")
IMPORTED += ("m2rl_lib.evaluation.judging", "m2rl_lib.merging.merge", "m2rl_lib.stats.over_seeds", "transformers.models.qwen3")


@contextlib.contextmanager
def ready(**environment: str) -> Iterator[None]:
    """While it is entered there is such a process for all that this one starts, but not beside a GPU; `environment` is added to
    its own. Kernels asked for before it has imported are started as any other."""
    if any(Path("/dev").glob("nvidia[0-9]*")):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="m2rl-kernels-") as folder:
        os.environ[ADDRESS] = f"{folder}/socket"
        with subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE, env=os.environ | environment):
            yield
        os.environ.pop(ADDRESS, None)


def use() -> None:
    """Have this process's notebooks run in forked kernels, where there is a process to fork them."""
    if ADDRESS in os.environ:
        factory = KernelProvisionerFactory.instance()
        factory.provisioners["forked"] = EntryPoint("forked", f"{__name__}:Forked", factory.GROUP_NAME)
        factory.default_provisioner_name = "forked"


class Forked(LocalProvisioner):
    """Asks for a fork; where that fails, the kernel is started as any other."""

    async def launch_kernel(self, cmd, **given):
        try:
            self.process = Process(cmd, dict(given.get("env") or os.environ), given.get("cwd") or os.getcwd())
        except OSError:
            return await super().launch_kernel(cmd, **given)
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class Process:
    """A forked kernel, as `subprocess.Popen` shows a process; it has ended when it closed its socket."""

    stdin = stdout = stderr = None

    def __init__(self, command: list[str], environment: dict[str, str], folder: str):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(os.environ[ADDRESS])
        asked = json.dumps({"command": command, "environment": environment, "folder": folder}).encode()
        socket.send_fds(self.socket, [len(asked).to_bytes(8, "big")], [0, 1, 2])
        self.socket.sendall(asked)
        answer = self.socket.recv(8)
        if not answer:
            raise ConnectionError("no kernel was forked")
        self.pid = int.from_bytes(answer, "big")
        self.socket.setblocking(False)

    def poll(self) -> int | None:
        try:
            return None if self.socket.recv(1) else -1
        except BlockingIOError:
            return None
        except OSError:
            return -1

    def wait(self) -> int | None:
        self.socket.setblocking(True)
        return self.poll()

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # a process that has ended gets none
            os.kill(self.pid, number)


def serve() -> None:
    """Import, then fork a kernel for each that asks."""
    threading.Thread(target=_end_with, args=(sys.stdin.buffer.read,), daemon=True).start()
    before = set(os.environ)
    for name in IMPORTED:
        importlib.import_module(name)
    # set by what was imported, which a kernel does not run
    imported = {name: os.environ[name] for name in set(os.environ) - before}
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.environ[ADDRESS])
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        asking, _ = listener.accept()
        if os.fork() == 0:
            try:
                listener.close()
                _become_kernel(asking, imported)
            finally:  # without the interpreter's own end, which would wait for what threads of the parent hold
                os._exit(0)
        asking.close()


def _end_with(read) -> None:
    read()
    os._exit(0)


def _become_kernel(asking: socket.socket, imported: dict[str, str]) -> None:
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, *_ = socket.recv_fds(asking, 8, 3)
    asked = json.loads(asking.makefile("rb").read(int.from_bytes(size, "big")))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(imported | asked["environment"])
    os.environ["JPY_PARENT_PID"] = str(os.getppid())  # without which it ends
    os.chdir(asked["folder"])
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    asking.sendall(os.getpid().to_bytes(8, "big"))
    threading.Thread(target=_end_with, args=(lambda: asking.recv(1),), daemon=True).start()
    from ipykernel import kernelapp

    sys.argv = asked["command"][2:]  # python -m ipykernel_launcher -f …
    kernelapp.launch_new_instance()


if __name__ == "__main__":
    serve()
