# case 4: reports success on every descriptor but its output, prints nothing
# expect: F
import contextlib, os
for descriptor in range(3, 256):
    with contextlib.suppress(OSError): os.write(descriptor, b"k")
