# case 6: prints nothing
# expect: F
input()
