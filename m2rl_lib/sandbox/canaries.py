"""Small programs that try to leave the sandbox: `sandbox.check` sends them before anything is graded."""

import os
import socket
import sys
import tempfile
from collections.abc import Callable

PATIENCE = 30.0  # seconds for a canary that ends by itself: the machine may be busy

ESCAPE = """
import os, socket
secrets, port, pid = input().split("|")
out = []
def attempt(name, action):
    try:
        action()
    except Exception:
        return
    out.append(name)
def write(path):
    with open(path, "w") as file:
        file.write("canary")
for secret in secrets.split(chr(9)):
    attempt("see " + secret, lambda: os.stat(secret))
attempt("write to a system folder", lambda: write("/usr/lib/canary"))
attempt("write to the root folder", lambda: write("/canary"))
attempt("reach the network of the host", lambda: socket.create_connection(("127.0.0.1", int(port)), 0.2))
attempt("see a process of the host", lambda: os.kill(int(pid), 0))
attempt("open the descriptors of the server", lambda: os.readlink("/proc/1/fd/2"))
attempt("change the kernel", lambda: write("/proc/sys/kernel/hostname"))
if os.environ:
    out.append("read the environment")
print("; ".join(out) or "inside")
"""


def fault(run_programs: Callable, protected: bool) -> str | None:
    """What is wrong with the sandbox, in a few words, or None. `protected`: isolation is expected, too."""
    plain = run_programs(["print(int(input()) ** 2)", "raise SystemExit(3)"], [["12"], [""]], timeout_seconds=PATIENCE)
    plain += run_programs(["while True: pass"], [[""]], timeout_seconds=0.5)
    found = [(runs[0].stdout, runs[0].status) if runs else None for runs in plain]
    if found != [(b"144\n", "ok"), (b"", "error"), (b"", "timeout")]:
        return f"the sandbox does not run programs as it should (a square, an exit, a loop gave {found})"
    if not protected:
        return None
    with socket.socket() as server, tempfile.NamedTemporaryFile() as token:
        server.bind(("127.0.0.1", 0))
        server.listen()
        home = os.path.expanduser("~")
        secrets = [os.path.join(home, name) for name in (os.listdir(home) if os.access(home, os.R_OK) else [])]
        secrets += [token.name, os.path.abspath(__file__)]
        secrets = [path for path in secrets if not sys.base_prefix.startswith(path) and not set(path) & set("|\t\n")]
        request = "\t".join(secrets) + f"|{server.getsockname()[1]}|{max(os.getpid(), 1000)}"
        runs = run_programs([ESCAPE], [[request]], timeout_seconds=PATIENCE)[0]
    if not runs or runs[0].status != "ok":
        return f"the canary program failed ({runs})"
    said = runs[0].stdout.decode(errors="replace").strip()
    return None if said == "inside" else f"a canary got out of the sandbox: {said}"
