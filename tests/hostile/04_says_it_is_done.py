# case 4: right output, then a forged report that all is well, then a crash
# expect: F
import os
print(int(input()) ** 2, flush=True)
for descriptor in range(3, 256):
    try:
        os.pread(descriptor, 1, 0)      # a file: its input or output
    except OSError:
        try:
            os.write(descriptor, b"k")
        except OSError:
            pass
raise ValueError
