"""Which programs may run all of their tests in one process, for speed: those that cannot plausibly leave anything behind."""

import opcode
import types


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PURE_MODULES = _words(
    """math cmath collections collections.abc itertools functools heapq bisect operator string re sys typing copy
    dataclasses enum fractions statistics numbers array datetime time __future__"""
)
STATEFUL_NAMES = _words(
    """exec eval compile globals vars setattr delattr getattr modules path meta_path path_hooks settrace setprofile
    excepthook displayhook unraisablehook detach close fileno reconfigure tzset setswitchinterval _getframe"""
)
PLAIN_DUNDERS = _words(
    """__name__ __init__ __main__ __len__ __lt__ __gt__ __le__ __ge__ __eq__ __ne__ __hash__ __repr__ __str__ __iter__
    __next__ __add__ __sub__ __mul__ __getitem__ __setitem__ __contains__ __call__ __slots__ __module__ __qualname__
    __doc__ __annotations__ __post_init__ __bool__ __radd__ __rmul__ __neg__ __truediv__ __floordiv__ __mod__ __pow__
    __classcell__ __missing__"""
)
KNOWN = PLAIN_DUNDERS | PURE_MODULES
IMPORT = opcode.opmap["IMPORT_NAME"]
ATTRIBUTE_WRITES = (opcode.opmap["STORE_ATTR"], opcode.opmap["DELETE_ATTR"])


def may_share(code: types.CodeType) -> tuple[bool, bool]:
    """(whether a program imports pure modules only and reaches no shared state; whether it names `open`, and may write)."""
    harmless, opens, pending = True, False, [code]
    while pending and harmless:
        code = pending.pop()
        harmless = _harmless(code)
        opens = opens or "open" in code.co_names
        pending += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return harmless, opens


def _harmless(code: types.CodeType) -> bool:
    for name in code.co_names:
        if name in STATEFUL_NAMES or name.startswith("__") and name not in KNOWN:
            return False
    instructions = code.co_code[::2]
    if any(write in instructions for write in ATTRIBUTE_WRITES) and code.co_varnames[:1] != ("self",):
        return False
    if IMPORT not in instructions:
        return True
    if len(code.co_names) > 255:  # an argument above 255 carries a prefix; such a program is long, fork it
        return False
    imported = (code.co_names[code.co_code[2 * at + 1]] for at, operation in enumerate(instructions) if operation == IMPORT)
    return PURE_MODULES.issuperset(imported)
