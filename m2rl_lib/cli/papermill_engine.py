"""Loaded by papermill itself (pyproject.toml): `papermill … -f params/study.yaml` without a warning for each parameter of the
study that a notebook does not declare. Other names are refused by the notebook's first cell (`study.notebook_parameters`)."""

from papermill.engines import NBClientEngine
from papermill.log import logger

from m2rl_lib.config.study import FIELDS

Engine = NBClientEngine  # the entry point
logger.addFilter(lambda record: record.getMessage().removeprefix("Passed unknown parameter: ") not in FIELDS)
