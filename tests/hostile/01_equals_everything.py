# case 1: an object, an int and a str that equal everything
# expect: F
class Anything(str):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
class Number(int):
    def __eq__(self, other): return True
input()
answer = Anything("whatever")
assert answer == "9" and Number(5) == 9
print(answer)
