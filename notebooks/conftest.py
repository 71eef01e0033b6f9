"""Of the tests by nbval: a kernel that dies before it answers is started again, as a stage's is."""

import nbval.plugin

from m2rl_lib import stage

nbval.plugin.RunningKernel = stage.answered(nbval.plugin.RunningKernel)
