# case 14: a file left in one test is gone in the next
# expect: P
import os
assert os.listdir("/tmp") == [] == os.listdir("/dev/shm"), "state of another test"
os.makedirs("/tmp/a/b"); open("/tmp/a/b/left", "w").write("9"); os.chmod("/tmp/a", 0)
open("/dev/shm/left", "w").write("9")
print(int(input()) ** 2)
