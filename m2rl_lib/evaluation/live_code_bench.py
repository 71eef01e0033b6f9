"""Programs of LiveCodeBench and HumanEval graded in our sandbox: what is run, and what its output is compared with. By
LiveCodeBench's rule (github.com/LiveCodeBench/LiveCodeBench, `testing_util.py`) a program reads standard input, or a method of
`Solution` is called on JSON values, and every test must pass within 6 s; here with the standard library only, and a method's
result compared as JSON."""

import base64
import io
import json
import pickle
import re
import zlib
from collections.abc import Callable

from m2rl_lib import sandbox
from m2rl_lib.domains.coding import human_eval_tests, same_output

LIMITS = {"timeout_seconds": 6.0, "memory_bytes": 4 << 30, "output_bytes": 8 << 20}  # for each test
STARS = "string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys json builtins typing"
PREAMBLE = (  # the benchmark gives every program these names
    "".join(f"from {name} import *\n" for name in STARS.split())
    + "".join(f"import {name}\n" for name in STARS.split()[:-2])
    + "sys.setrecursionlimit(50000)\n"
)
FUTURE = re.compile(r"^from __future__ import (?:\([^)]*\)|[^\n(;]*)", re.MULTILINE)
CALL = """import io, json, sys
_arguments = [json.loads(line) for line in sys.stdin.read().strip().split("\\n")]
_stdout, sys.stdout = sys.stdout, io.StringIO()
_names = {{"__name__": "solution"}}
exec({source!r}, _names)
_method = getattr(_names["Solution"](), {name!r}) if "Solution" in _names else _names[{name!r}]
_stdout.write(json.dumps(_method(*_arguments)))
_stdout.flush()
"""


class _TextsOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        raise ValueError(f"LiveCodeBench's private tests hold {module}.{name}, where a text is expected")


def unpack_private_tests(text: str) -> str:
    """The JSON of the private tests, from itself or from base64 of zlib of a pickled text; any other pickle is a ValueError."""
    if text.lstrip().startswith("["):
        return text
    return _TextsOnly(io.BytesIO(zlib.decompress(base64.b64decode(text)))).load()


def grade_program(program: str, tests: dict) -> float | None:
    """1.0 where the program passes every test (inputs, outputs, fn_name), else 0.0; None where there are none or the sandbox failed."""
    if not tests["inputs"]:
        return None
    if not program.strip():
        return 0.0
    called = tests["fn_name"]
    future = [f"{line.strip()}\n" for line in FUTURE.findall(program)]  # these must come first
    source = "".join(future) + PREAMBLE + FUTURE.sub("", program)
    source = CALL.format(source=source, name=called) if called else source
    return _passes(source, tests["inputs"], tests["outputs"], _same_value if called else same_output)


def grade_function(program: str, task: dict) -> float | None:
    """1.0 where HumanEval's test passes on the `program` after the task's prompt, which imports and begins it; as `grade_program`."""
    tests = human_eval_tests(task)
    return _passes(f"{task['prompt']}{program}\n\n{tests['after']}", tests["inputs"], tests["outputs"], same_output)


def _passes(source: str, inputs: list[str], outputs: list[str], same: Callable) -> float | None:
    (runs,) = sandbox.run_programs([source], [inputs], **LIMITS)
    if runs is None:
        return None
    return float(all(run.status == "ok" and same(run.stdout, out) for run, out in zip(runs, outputs, strict=True)))


def _same_value(stdout: bytes, expected: str) -> bool:
    try:
        return json.loads(stdout) == json.loads(expected)
    except (ValueError, RecursionError):
        return False
