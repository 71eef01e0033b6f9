# case 12: a regular expression that backtracks for ever
# expect: FK
import re
print(re.match(r'(a+)+$', 'a' * 64 + 'b'))
