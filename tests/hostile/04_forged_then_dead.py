# case 4: reports success on every descriptor but its output, prints nothing
# expect: F
import os
for descriptor in range(3, 256):
    try:
        os.write(descriptor, b"k")
    except OSError:
        pass
