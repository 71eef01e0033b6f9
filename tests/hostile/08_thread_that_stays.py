# case 8: ends its main thread but not another
# expect: K
import threading
def forever():
    while True: pass
threading.Thread(target=forever).start()
