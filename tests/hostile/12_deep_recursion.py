# case 12: recursion until the stack ends
# expect: FK
import sys
sys.setrecursionlimit(10 ** 9)
def down(n): return down(n + 1) + 1
print(down(0))
