"""The child of the sandbox: gives up every right, then runs an untrusted program on its inputs, one after the other."""

import atexit
import builtins
import ctypes
import gc
import os
import resource
import struct
import sys
import types

from sharing import may_share

OK, ERROR, TIMEOUT, OUTPUT, MEMORY = b"k", b"e", b"t", b"o", b"m"
EXIT_CODES = {OK: 0, ERROR: 1, MEMORY: 2}
SCRATCH = ("/tmp", "/dev/shm")  # the only places a program can write
MOST_FILES = 64  # open at once, of one process
PR_SET_DUMPABLE = 4
libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments) -> None:
    """A C library call that must return zero."""
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def give_up_rights(isolated: bool, drop_uid: bool, limits: dict, tests: int) -> None:
    """Resource limits (which also hold for root), then no capability and no uid to come back to."""
    seconds = int(limits["timeout"] * tests) + 2
    wanted = {"CPU": seconds, "AS": limits["memory"], "FSIZE": limits["output"] + (1 << 20), "CORE": 0}
    if isolated:
        wanted |= {"NOFILE": MOST_FILES + 2 * tests, "NPROC": 32, "MEMLOCK": 0, "MSGQUEUE": 0}
    for name, value in wanted.items():
        try:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
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


def run_test(code: types.CodeType, stdin: int, stdout: int) -> bytes:
    """Run the compiled program once as `__main__` on two descriptors. How it ended: OK, ERROR or MEMORY."""
    os.dup2(stdin, 0)
    os.dup2(stdout, 1)
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__builtins__, main.__file__ = builtins, "program.py"
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
    try:  # what was printed before the end still counts as printed, and what finalizers print
        sys.__stdout__.flush()
        main = sys.modules["__main__"] = None
        gc.collect(1)  # of what the program has made, see `child`
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


def keep_only(descriptors: set[int]) -> None:
    """Close every descriptor but these."""
    start = 0
    for descriptor in sorted(descriptors):
        if start < descriptor:  # closerange(0, 0) would close everything
            os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, 1 << 16)


def child(files: list, report: int, context: dict) -> None:
    """Run the tests of these (stdin, stdout) descriptors, only the first where each needs a process. Never returns."""
    status = ERROR
    try:
        gc.freeze()  # so that collecting touches no page that is still shared with the server
        me = os.getpid()
        os.dup2(0, 2)  # the server's standard input is /dev/null
        keep_only({0, 1, 2, report}.union(*files))
        isolated = context["isolated"]
        os.chdir("/tmp") if isolated else os.setsid()
        give_up_rights(isolated, context["drop_uid"], context["limits"], len(files))
        code = compiled(context["request"].pop("program"))
        context["request"]["inputs"].clear()  # nothing of the other tests is left to find
        context["request"].clear()
        context.clear()
        shares, opens = may_share(code)
        if isolated and (opens or not shares):
            call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)  # for its own /proc/self, and so /dev/stdin; others have no use for it
        if not shares or opens and not isolated:
            files = files[:1]
            keep_only({0, 1, 2, *files[0]})
            if isolated:
                resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_FILES, MOST_FILES))
        depth, digits = sys.getrecursionlimit(), getattr(sys, "get_int_max_str_digits", int)()
        for at, (stdin, stdout) in enumerate(files):
            if at:
                os.write(report, status)
                sys.setrecursionlimit(depth)
                if digits:
                    sys.set_int_max_str_digits(digits)
            status = ERROR
            status = run_test(code, stdin, stdout)
            if os.getpid() != me:  # a process that the program forked and that ran to the program's end: it has no say
                break
            if len(files) > 1 and opens and any(map(os.listdir, SCRATCH)):  # it has left a file
                break
    finally:
        os._exit(EXIT_CODES[status])
