# case 15: signals, traces and opens its supervisor and everything it can see
# expect: P
import ctypes, os, resource, signal
libc = ctypes.CDLL(None, use_errno=True)
me = int(os.readlink("/proc/self"))   # /proc counts from the server on
for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()] + [1, {PID}]:
    if pid != me:
        for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
            try: os.kill(pid, number)
            except OSError: pass
        if libc.ptrace(16, pid, 0, 0) == 0: print("ESCAPED ptrace")
        try:
            resource.prlimit(pid, resource.RLIMIT_CPU, (0, 0)); print("ESCAPED prlimit")
        except OSError: pass
        try:
            open(f"/proc/{pid}/mem", "r+b"); print("ESCAPED mem", pid, me)
        except OSError: pass
print(int(input()) ** 2)
