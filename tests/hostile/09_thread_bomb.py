# case 9: starts threads without end
# expect: FK
import threading, time
while True: threading.Thread(target=time.sleep, args=(1000,)).start()
