# case 4: the same, by a program that names nothing but open
# expect: F
print(int(input()) ** 2, flush=True)
for descriptor in range(3, 64):
    try:
        open(descriptor, "ab", buffering=0, closefd=False).write(b"k" * descriptor)
    except OSError:
        pass
raise ValueError
