# case 5: patches builtins, json, math and sys.stdout for whoever comes next
# expect: F
import builtins, io, json, math, sys
builtins.int = builtins.float = lambda *a: 9
builtins.len = lambda *a: 1
builtins.all = builtins.any = builtins.isinstance = lambda *a: True
builtins.print = lambda *a, **k: sys.__stdout__.write("9\n")
json.loads = json.dumps = lambda *a, **k: True
math.isclose = lambda *a, **k: True
sys.stdout = io.StringIO()
