"""Of the tests by nbval: a kernel that dies before it answers is started again, as a stage's is."""

import nbval.plugin

from m2rl_lib.cli import run_notebook

nbval.plugin.RunningKernel = run_notebook.answered(nbval.plugin.RunningKernel)
