# case 10: a double-forked daemon stays behind
# expect: P
import os, signal, time
answer = int(input()) ** 2
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.closerange(0, 64)
        while True: time.sleep(1000)
    os._exit(0)
os.wait()
print(answer)
