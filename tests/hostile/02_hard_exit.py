# case 2: the process ends with code 0 before it answers
# expect: F
import os
os._exit(0)
