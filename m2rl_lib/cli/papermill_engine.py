"""Loaded by papermill itself, by an entry point of pyproject.toml: `papermill … -f params/study.yaml` without a warning per parameter.

A parameter file has all parameters of a study, a notebook declares those that it uses, and papermill warns of each other one. Names
that are no study's are refused by the notebook's first cell (`study.notebook_parameters`).
"""

from papermill.engines import NBClientEngine
from papermill.log import logger

from m2rl_lib.config.study import FIELDS

WARNING = "Passed unknown parameter: "


class Engine(NBClientEngine):
    """papermill's own engine."""


logger.addFilter(lambda record: record.getMessage().removeprefix(WARNING) not in FIELDS)
