# case 14: writes and follows a symlink outside
# expect: P
import contextlib, os
def attempt(action):
    with contextlib.suppress(OSError):
        action()
        print("ESCAPED")
def write(path):
    with open(path, "w") as file: file.write("x")
def link():
    os.path.lexists("/tmp/link") or os.symlink("{TOKEN}", "/tmp/link")
    write("/tmp/link")
attempt(link)
for path in ("{TOKEN}", "{REPO}/escaped", "{HOME}/escaped", "/usr/lib/escaped", "/escaped", "/etc/escaped", "/dev/escaped", "/proc/sys/kernel/core_pattern"):
    attempt(lambda: write(path))
print(int(input()) ** 2)
