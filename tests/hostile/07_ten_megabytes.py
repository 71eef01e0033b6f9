# case 7: prints 10 MB
# expect: F
print('9' * 10_000_000)
