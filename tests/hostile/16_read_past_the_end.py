# case 16: reads more lines than there are
# expect: FK
while True: input()
