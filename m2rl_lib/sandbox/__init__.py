"""Untrusted programs and bounded graders: what the verifiers stand on.

`run_programs` gives back what programs wrote, never a verdict. `bounded` asks a function in a process with limits on
processor time and memory. Stages call `configure` and `check` first.
"""

from m2rl_lib.sandbox.bubblewrap import Run, SandboxError
from m2rl_lib.sandbox.programs import _pool, check, configure, kind, run_programs, stamp

__all__ = ["Run", "SandboxError", "_pool", "check", "configure", "kind", "run_programs", "stamp"]
