# case 11: allocates 4 GB
# expect: FK
input()
kept = bytearray(4 << 30)
print(9)
