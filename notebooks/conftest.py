"""Of the tests by nbval: kernels are started as those of a study's stages are, forked, and again where one dies before it answers."""

import nbval.plugin

from m2rl_lib.cli import kernels, run_notebook

nbval.plugin.RunningKernel = run_notebook.answered(nbval.plugin.RunningKernel)


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # xdist's workers share one process
        ready = kernels.ready(OMP_NUM_THREADS="1")
        ready.__enter__()
        config.add_cleanup(lambda: ready.__exit__(None, None, None))
    kernels.use()
