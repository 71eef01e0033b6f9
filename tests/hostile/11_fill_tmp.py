# case 11: fills /tmp
# expect: FK
for number in range(1 << 20):
    with open(f"/tmp/{number}", "wb") as file: file.write(b"x" * (1 << 19))
