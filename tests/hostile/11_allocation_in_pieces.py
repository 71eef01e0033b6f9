# case 11: allocates without end in small pieces
# expect: FK
kept = []
while True: kept.append(bytearray(1 << 20))
