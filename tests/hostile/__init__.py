"""Programs that try to fool, crash or outlive the graders, one file a case; `cases.py` says how to add one."""
