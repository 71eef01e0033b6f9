# case 12: a source that grows while it is compiled
# expect: FK
x = (1,) * 10 ** 9 * 10 ** 9; y = "x" * 10 ** 9 * 9
exec("[" * 5000 + "]" * 5000)
