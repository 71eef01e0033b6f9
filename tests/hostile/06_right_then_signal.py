# case 6: the right output, then a signal
# expect: F
import os, signal
print(int(input()) ** 2, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
