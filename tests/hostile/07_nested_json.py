# case 7: prints deeply nested JSON
# expect: F
print('[' * 20000 + ']' * 20000)
