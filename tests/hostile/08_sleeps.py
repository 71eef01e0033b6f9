# case 8: sleeps for ever
# expect: K
import time
while True: time.sleep(1000)
