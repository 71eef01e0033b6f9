# case 11: allocates in many processes
# expect: FK
import os
for _ in range(7):
    if os.fork() == 0: break
kept = []
while True:
    try:
        kept.append(bytearray(b"x" * (1 << 20)))
    except MemoryError:
        pass
