# case 5: a patch made in one test is gone in the next
# expect: P
import builtins, math
assert not hasattr(math, "patched") and not hasattr(builtins, "patched")
math.patched = builtins.patched = True
print(int(input()) ** 2)
