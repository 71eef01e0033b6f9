# case 6: the right first line, then another
# expect: F
print(int(input()) ** 2)
print('and more')
