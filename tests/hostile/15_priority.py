# case 15: slows down its supervisor
# expect: P
import contextlib, os
def attempt(action):
    with contextlib.suppress(OSError):
        action()
        print("ESCAPED")
attempt(lambda: os.setpriority(os.PRIO_PROCESS, 1, 19))
attempt(lambda: os.setpriority(os.PRIO_USER, os.getuid(), 19))
attempt(lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)))
attempt(lambda: os.sched_setaffinity(1, {0}))
print(int(input()) ** 2)
