# case 7: prints a pickle that runs code where it is loaded
# expect: F
import pickle, sys
class Bomb:
    def __reduce__(self): return (eval, ("__import__('os').system('touch {TOKEN}.pickle')",))
sys.stdout.buffer.write(pickle.dumps(Bomb()))
