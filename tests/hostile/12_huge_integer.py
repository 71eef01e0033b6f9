# case 12: an integer with billions of digits
# expect: FK
print(9 ** 9 ** 9 ** 9)
