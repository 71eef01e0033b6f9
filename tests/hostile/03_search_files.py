# case 3: looks for the expected output in files and descriptors
# expect: F
import contextlib, os
found = ""
for folder, _, names in list(os.walk("/tmp")) + list(os.walk("/dev/shm")):
    found += "".join(open(os.path.join(folder, name)).read() for name in names)
for descriptor in range(1, 64):
    with contextlib.suppress(OSError): found += os.pread(descriptor, 4096, 0).decode()
print(found.strip() or "nothing")
