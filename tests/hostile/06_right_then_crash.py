# case 6: the right output, then an exception
# expect: F
print(int(input()) ** 2, flush=True)
raise ValueError
