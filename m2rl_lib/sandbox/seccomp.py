"""The sandbox's system call filter (classic BPF): what a short program never needs and namespaces alone leave open."""

import errno
import platform
import struct

CALLS = """
socket 41 198, socketpair 53 199, clone 56 220, clone3 435 435, unshare 272 97, prlimit64 302 261, ptrace 101 117,
process_vm_readv 310 270, process_vm_writev 311 271, kcmp 312 272, pidfd_getfd 438 438, keyctl 250 219,
add_key 248 217, request_key 249 218, bpf 321 280, perf_event_open 298 241, userfaultfd 323 282,
io_uring_setup 425 425, io_uring_enter 426 426, io_uring_register 427 427, shmget 29 194, semget 64 190,
msgget 68 186, mq_open 240 180, memfd_create 319 279, memfd_secret 447 447, setpriority 141 140,
sched_setparam 142 118, sched_setscheduler 144 119, sched_setaffinity 203 122, sched_setattr 314 274,
ioprio_set 251 30, migrate_pages 256 238, move_pages 279 239, process_madvise 440 440
"""  # name, number on x86_64, number on aarch64 (asm-generic): the kernel's tables
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # as audit(7) numbers them
AF_UNIX = 1  # AF_UNIX, confined by the network and mount namespaces; asyncio and multiprocessing need it
CLONE_NEWUSER = 0x10000000
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENT_0 = 0, 4, 16  # offsets in struct seccomp_data


def program() -> bytes:
    """The filter for this machine, for `bwrap --seccomp`. NotImplementedError on an architecture that is not listed."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise NotImplementedError(f"no system call filter for {machine}, only for {', '.join(ARCHITECTURES)}")
    place = 1 + list(ARCHITECTURES).index(machine)
    calls = {words[0]: int(words[place]) for words in map(str.split, CALLS.split(","))}
    refuse = (RETURN, 0, 0, REFUSE | errno.EPERM)
    code = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, ARCHITECTURES[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        (AT_LEAST, 0, 1, 0x40000000),
        (RETURN, 0, 0, KILL),  # the x32 numbering of the same calls
        (EQUAL, 0, 1, calls.pop("clone3")),
        (RETURN, 0, 0, REFUSE | errno.ENOSYS),  # its flags cannot be read here; libc falls back to clone
    ]
    for names, test in (  # by their first argument
        (("clone", "unshare"), [(ANY_BIT, 0, 1, CLONE_NEWUSER), refuse]),
        (("prlimit64",), [(EQUAL, 1, 0, 0), refuse]),
        (("socket", "socketpair"), [(EQUAL, 1, 0, AF_UNIX), (RETURN, 0, 0, REFUSE | errno.EAFNOSUPPORT)]),
    ):
        for name in names:
            code += [(EQUAL, 0, 4, calls.pop(name)), (LOAD, 0, 0, ARGUMENT_0), *test, (RETURN, 0, 0, ALLOW)]
    for number in calls.values():
        code += [(EQUAL, 0, 1, number), refuse]
    code += [(RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
