# case 8: stops itself, so that it never ends
# expect: K
import os, signal
os.kill(os.getpid(), signal.SIGSTOP)
