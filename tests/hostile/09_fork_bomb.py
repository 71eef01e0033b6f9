# case 9: forks without end
# expect: K
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
