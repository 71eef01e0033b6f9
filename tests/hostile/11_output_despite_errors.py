# case 11: output without end, errors ignored
# expect: FK
import os
while True:
    try:
        os.write(1, b"9" * 65536)
    except OSError:
        pass
