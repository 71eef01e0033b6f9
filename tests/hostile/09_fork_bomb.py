# case 9: forks without end
# expect: K
import contextlib, os
while True:
    with contextlib.suppress(OSError): os.fork()
