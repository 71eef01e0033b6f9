# case 4: writes to its supervisor what is no report
# expect: F
print(int(input()) ** 2, flush=True)
for descriptor in range(3, 64):
    try:
        open(descriptor, "ab", buffering=0, closefd=False).write(b"?")
    except OSError:
        pass
