"""Untrusted programs (`configure` and `check` first, then `run_programs`) and `bounded` graders: what the verifiers stand on."""

from m2rl_lib.sandbox.bubblewrap import Run, SandboxError
from m2rl_lib.sandbox.programs import _pool, check, configure, kind, run_programs, stamp

__all__ = ["Run", "SandboxError", "_pool", "check", "configure", "kind", "run_programs", "stamp"]
