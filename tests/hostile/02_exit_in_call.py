# case 2: SystemExit inside the solution
# expect: F
import sys
def solve(n):
    sys.exit(0)
print(solve(int(input())))
