# case 6: the right answer, on standard error
# expect: F
import sys
print(int(input()) ** 2, file=sys.stderr)
