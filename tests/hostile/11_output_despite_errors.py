# case 11: output without end, errors ignored
# expect: FK
import contextlib, os
while True:
    with contextlib.suppress(OSError): os.write(1, b"9" * 65536)
