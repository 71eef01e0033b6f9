# case 6: the right output, then an exit code that says failure
# expect: F
print(int(input()) ** 2)
raise SystemExit(1)
