# case 12: the interpreter itself crashes
# expect: FK
import ctypes
ctypes.string_at(0)
