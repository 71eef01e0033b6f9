"""The sandbox's system call filter: what namespaces alone leave open.

Classic BPF as seccomp(2) takes it, assembled here because the standard library has no assembler. It refuses what a
short program never needs: new user namespaces, tracing and reading other processes, changing their priority, kernel
key rings, BPF, io_uring, System V and POSIX message objects (which outlive their maker), files in memory that no
limit counts, and all sockets but Unix ones: a network namespace does not confine every family (AF_VSOCK reaches the
host of a virtual machine, AF_ALG the kernel), and TCP buffers are memory that no limit counts. Call numbers: the
kernel's syscall tables for x86_64 and for aarch64 (asm-generic).
"""

import errno
import platform
import struct

ARCHITECTURES = {  # audit architecture, then call numbers
    "x86_64": (
        0xC000003E,
        dict(
            socket=41,
            socketpair=53,
            clone=56,
            clone3=435,
            unshare=272,
            prlimit64=302,
            ptrace=101,
            process_vm_readv=310,
            process_vm_writev=311,
            kcmp=312,
            pidfd_getfd=438,
            keyctl=250,
            add_key=248,
            request_key=249,
            bpf=321,
            perf_event_open=298,
            userfaultfd=323,
            io_uring_setup=425,
            io_uring_enter=426,
            io_uring_register=427,
            shmget=29,
            semget=64,
            msgget=68,
            mq_open=240,
            memfd_create=319,
            memfd_secret=447,
            setpriority=141,
            sched_setparam=142,
            sched_setscheduler=144,
            sched_setaffinity=203,
            sched_setattr=314,
            ioprio_set=251,
            migrate_pages=256,
            move_pages=279,
            process_madvise=440,
        ),
    ),
    "aarch64": (
        0xC00000B7,
        dict(
            socket=198,
            socketpair=199,
            clone=220,
            clone3=435,
            unshare=97,
            prlimit64=261,
            ptrace=117,
            process_vm_readv=270,
            process_vm_writev=271,
            kcmp=272,
            pidfd_getfd=438,
            keyctl=219,
            add_key=217,
            request_key=218,
            bpf=280,
            perf_event_open=241,
            userfaultfd=282,
            io_uring_setup=425,
            io_uring_enter=426,
            io_uring_register=427,
            shmget=194,
            semget=190,
            msgget=186,
            mq_open=180,
            memfd_create=279,
            memfd_secret=447,
            setpriority=140,
            sched_setparam=118,
            sched_setscheduler=119,
            sched_setaffinity=122,
            sched_setattr=274,
            ioprio_set=30,
            migrate_pages=238,
            move_pages=239,
            process_madvise=440,
        ),
    ),
}
FAMILIES = (1,)  # AF_UNIX, confined by the network and mount namespaces; asyncio and multiprocessing need it
CLONE_NEWUSER = 0x10000000
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENT_0 = 0, 4, 16  # offsets in struct seccomp_data


def program() -> bytes:
    """The filter for this machine, ready for `bwrap --seccomp`. Raises NotImplementedError on an architecture whose
    call numbers are not listed."""
    if platform.machine() not in ARCHITECTURES:
        raise NotImplementedError(f"no system call filter for {platform.machine()}, only for {', '.join(ARCHITECTURES)}")
    architecture, calls = ARCHITECTURES[platform.machine()]
    special = ("socket", "socketpair", "clone", "clone3", "unshare", "prlimit64")
    code = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        (AT_LEAST, 0, 1, 0x40000000),
        (RETURN, 0, 0, KILL),  # the x32 numbering of the same calls
        (EQUAL, 0, 1, calls["clone3"]),
        (RETURN, 0, 0, REFUSE | errno.ENOSYS),
    ]  # its flags cannot be read here; libc falls back to clone
    for name, number in calls.items():
        if name not in special:
            code += [(EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE | errno.EPERM)]
    for name in ("clone", "unshare"):
        code += [
            (EQUAL, 0, 4, calls[name]),
            (LOAD, 0, 0, ARGUMENT_0),
            (ANY_BIT, 0, 1, CLONE_NEWUSER),
            (RETURN, 0, 0, REFUSE | errno.EPERM),
            (RETURN, 0, 0, ALLOW),
        ]
    code += [
        (EQUAL, 0, 4, calls["prlimit64"]),
        (LOAD, 0, 0, ARGUMENT_0),
        (EQUAL, 1, 0, 0),
        (RETURN, 0, 0, REFUSE | errno.EPERM),
        (RETURN, 0, 0, ALLOW),
    ]
    for name in ("socket", "socketpair"):
        code += [(EQUAL, 0, len(FAMILIES) + 3, calls[name]), (LOAD, 0, 0, ARGUMENT_0)]
        code += [(EQUAL, len(FAMILIES) - at, 0, family) for at, family in enumerate(FAMILIES)]
        code += [(RETURN, 0, 0, REFUSE | errno.EAFNOSUPPORT), (RETURN, 0, 0, ALLOW)]
    code += [(RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
