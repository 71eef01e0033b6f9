# case 14: reads a token, the home folder and the grader
# expect: P
import contextlib, os
def attempt(action):
    with contextlib.suppress(OSError):
        action()
        print("ESCAPED")
for path in ("{TOKEN}", "{REPO}/m2rl_lib/sandbox/__init__.py", "/etc/passwd", "/etc/shadow", "{HOME}/.bashrc", "/proc/1/environ", "/proc/1/mem", "/proc/1/maps", "/proc/kcore"):
    attempt(lambda: open(path, "rb").read(1))
attempt(lambda: os.readlink("/proc/1/fd/2"))
for path in ("{REPO}", "/proc/1/root", "/proc/1/cwd"):
    attempt(lambda: os.listdir(path))
print(int(input()) ** 2)
