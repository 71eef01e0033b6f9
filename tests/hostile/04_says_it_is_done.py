# case 4: right output, then a forged report that all is well, then a crash
# expect: F
import contextlib, os
print(int(input()) ** 2, flush=True)
for descriptor in range(3, 256):
    try:
        os.pread(descriptor, 1, 0)      # a file: its input or output
    except OSError:
        with contextlib.suppress(OSError): os.write(descriptor, b"k")
raise ValueError
