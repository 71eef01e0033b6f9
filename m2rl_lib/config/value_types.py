"""Types of parameter values: what each may be, and the line that says so."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from m2rl_lib.config.locations import ACCELERATE


def _number(value: object) -> object:
    """`1e-4` is a string in YAML: read it as the number it is."""
    written = isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value)
    return float(value) if written or isinstance(value, int) and not isinstance(value, bool) else value


def _pinned(value: str) -> str:
    """`micro`, a folder, or a Hub repository at a commit: what a branch or tag holds may change, so it is refused."""
    if value == "micro" or value.startswith(("/", "./", "../")) or PINNED.fullmatch(value):
        return value
    pinned = "owner/name@<the 40 hex digits of a commit>"
    if "/" in value:
        raise ValueError(f"a repository needs its revision, {pinned}, and a folder a ./ or / at its start")
    raise ValueError(f"allowed are micro, {pinned}, or a folder that starts with ./ or /")


def _configuration(value: str) -> str:
    """`none`, or the name of a configuration in profiles/accelerate."""
    known = sorted(path.stem for path in ACCELERATE.glob("*.yaml"))
    if value not in ("none", *known):
        raise ValueError(f"allowed are none and the files of profiles/accelerate: {', '.join(known)}")
    return value


def _words_or_address(first: str, second: str, server: str) -> AfterValidator:
    def check(value: str) -> str:
        if value not in (first, second) and not re.match(r"https?://[^/\s]+", value):
            raise ValueError(f"allowed are {first!r}, {second!r} or the http address of a {server} server")
        return value

    return AfterValidator(check)


PINNED = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})(?::(?P<files>\S+))?")
Source = Annotated[str, AfterValidator(_pinned)]
Number = Annotated[float, BeforeValidator(_number)]
Share = Annotated[Number, Field(ge=0, le=1)]
Positive = Annotated[Number, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Configuration = Annotated[str, AfterValidator(_configuration)]
Sampler = Annotated[str, _words_or_address("transformers", "vllm", "vLLM")]
Place = Annotated[str, _words_or_address("bubblewrap", "none", "SandboxFusion")]
Method = Literal["average", "task-arithmetic", "task-arithmetic-dare", "ties", "ties-dare", "sce", "ram", "ram-plus", "tsv"]
Joint = Literal[
    "balanced-rows", "balanced-tokens", "cascade", "cascade-reverse", "second-round", "lora-average", "lora-ties"
]  # `schedule.JOINT`; without a =


def given_once(value: list) -> list:
    """No value twice."""
    if twice := sorted({str(one) for one in value if value.count(one) > 1}):
        raise ValueError(f"{', '.join(twice)} is given twice, allowed is once")
    return value


JointModels = Annotated[list[Joint], AfterValidator(given_once)]


def _world(value: dict) -> dict:
    """A number of words, or for shared and conflicting their list, for each kind of word."""
    if sorted(value) != ["conflicting", "private", "shared"]:
        raise ValueError(f"it has {', '.join(value) or 'nothing'}, allowed are exactly shared, private and conflicting")
    if isinstance(value["private"], list):
        raise ValueError("private is a list, allowed is a number of words for each domain")
    for kind in ("shared", "conflicting"):
        if isinstance(value[kind], list) and len({*value[kind]}) < len(value[kind]):
            raise ValueError(f"a word of {kind} is given twice, allowed is once")
    return value


World = Annotated[dict[str, Annotated[int, Field(ge=0)] | list[str]], AfterValidator(_world)]


def _map(worlds: list[dict]) -> list[dict]:
    """Different worlds, in each of which a domain has as many words: else they would differ in difficulty too."""
    given_once([words_of(world) for world in worlds])
    sums = [sum(world.values()) for world in worlds]
    if len({*sums}) > 1:
        raise ValueError(f"a domain has {', '.join(map(str, sums))} words in its worlds, allowed is one sum for all")
    return worlds


def words_of(world: dict[str, int]) -> str:
    """A world of counts in short: 's2p2c0' has two shared, two private and no conflicting words."""
    return "".join(f"{kind[0]}{world[kind]}" for kind in ("shared", "private", "conflicting"))


Counts = Annotated[dict[str, Annotated[int, Field(ge=0)]], AfterValidator(_world)]
MapWorlds = Annotated[list[Counts], AfterValidator(_map)]
Budgets = Annotated[list[Annotated[Number, Field(gt=0, le=1, multiple_of=0.25)]], AfterValidator(given_once)]
