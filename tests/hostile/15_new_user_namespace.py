# case 15: asks for a user namespace of its own, mounts and leftovers
# expect: P
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000) == 0: print("ESCAPED unshare")
if libc.unshare(0x20000) == 0: print("ESCAPED mount namespace")
if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0: print("ESCAPED mount")
if libc.setuid(0) == 0 and libc.chroot(b"/tmp") == 0: print("ESCAPED chroot")
if libc.shmget(1, 4096, 0o1666) >= 0: print("ESCAPED shared memory")
print(int(input()) ** 2)
