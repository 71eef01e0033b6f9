# case 11: 1 GB of output
# expect: FK
import os
block = b"9" * (1 << 20)
for _ in range(1024): os.write(1, block)
