"""One process of several under `accelerate launch`: which it is, and what all of them must do together."""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")
PATIENCE = timedelta(hours=2)  # making data ready and hashing checkpoints may take longer than NCCL's 10 minutes


def count() -> int:
    """How many processes train together: 1 unless a launcher started more."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number; the main one's is 0."""
    return int(os.environ.get("RANK", "0")) if count() > 1 else 0


def is_main() -> bool:
    """Whether this process is the one that publishes."""
    return rank() == 0


def _state():
    import torch  # seconds, and only needed where there are several processes
    from accelerate import PartialState

    # without `cpu` it would be alone where there is no GPU
    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def wait() -> None:
    """Return when every process has come here."""
    if count() > 1:
        _state().wait_for_everyone()


def from_main(make: Callable[[], T]) -> T:
    """What the main process makes, given to all."""
    return gather(make() if is_main() else None)[0]


def main_first(make: Callable[[], T]) -> T:
    """What each process makes for itself, the main one first: it fills the caches that the others read."""
    if count() == 1:
        return make()
    with _state().main_process_first():
        return make()


def gather(value: T) -> list[T]:
    """The values of all processes, in their order."""
    if count() == 1:
        return [value]
    from accelerate.utils import gather_object

    _state()
    return gather_object([value])
