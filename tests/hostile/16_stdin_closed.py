# case 16: closes its input, then reads
# expect: FK
import os
os.close(0)
print(int(input()) ** 2)
