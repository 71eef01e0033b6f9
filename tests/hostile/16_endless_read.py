# case 16: reads without end
# expect: FK
import sys
while True: sys.stdin.read()
