"""A study's parameters, typed and checked.

Keys are flat, in params/<study>.yaml; a notebook's cell tagged `parameters` declares those that it uses.
"""

import difflib
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from m2rl_lib.config.locations import ROOT
from m2rl_lib.config.value_types import (
    Budgets,
    Configuration,
    Count,
    JointModels,
    MapWorlds,
    Method,
    Number,
    Place,
    Positive,
    Sampler,
    Share,
    Source,
    World,
    given_once,
)


class ParameterError(ValueError):
    """A parameter that is unknown, missing, wrongly typed or out of range; the message is one line."""


class Section(BaseModel):
    """Parameters without misspelt names or converted values."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Study(Section):
    """Every parameter of a study; the order is that of the JSON by which Snakemake sees a change."""

    # where generated programs run
    sandbox_kind: Place  # where generated programs run; none is unprotected
    # what the planner reckons with
    plan_device: Literal["cpu", "cuda"]  # what it is meant to run on
    plan_completion_tokens: Positive  # mean number that the model writes
    plan_example_tokens: Positive  # mean length of a training sequence: prompt, completion and tool results
    plan_generated_tokens_per_second: Positive  # of one device, as stated; a finished study's costs have measured ones
    plan_trained_tokens_per_second: Positive
    # released checkpoints, notebook 22
    released_models: list[Source]  # notebook 22: SFT, one expert per domain, RL-Multi; [] takes this study's own
    # models as judges
    judging_trajectories: Annotated[int, Field(ge=2)]  # per domain and balanced set, half of them right
    judging_problems: Count  # per domain, whose samples are chosen from and in which wrong steps are planted
    judging_temperature: Annotated[Number, Field(ge=0)]  # of the judge; 0 is greedy
    # what the research questions are asked with
    analysis_draws: Annotated[int, Field(ge=100)]  # bootstrap resamples
    analysis_margin: Positive  # points; the δ of the three-way verdict
    analysis_skill_problems: Count  # per domain, for the gain vectors
    analysis_skill_samples: Annotated[int, Field(ge=4)]  # per problem
    analysis_gradient_prompts: Annotated[int, Field(ge=4)]  # per domain and checkpoint, in the gradient lens
    analysis_manipulation_check: bool  # whether math and coding are trained again without shared and without conflicting words
    analysis_kl_problems: Annotated[int, Field(ge=2)]  # test prompts per domain on which policies are compared
    analysis_kl_samples: Count  # completions per prompt and policy there
    # when to mix, when to merge
    map_worlds: MapWorlds  # worlds of counts, as `data_world`; where there are any, the study is this map alone
    map_budgets: Budgets  # 0.25, 0.5, 0.75 or 1: shares of the RL steps at which mixing and merging are compared
    # Avg@K
    evaluate_problems: Count  # per test benchmark
    evaluate_samples: Count  # K of Avg@K
    evaluate_selection_problems: Count  # per selection benchmark
    evaluate_selection_samples: Count
    evaluate_temperature: Positive
    evaluate_sharpened_temperatures: Annotated[list[Annotated[Number, Field(ge=0)]], Field(min_length=1)]  # 0 is greedy
    evaluate_max_tokens: Annotated[int, Field(ge=8)]
    evaluate_batch: Count  # sequences
    evaluate_threads: Count
    evaluate_dtype: Literal["auto", "float32", "bfloat16"]  # of the weights when models are asked; auto: as they are stored
    # merging by weights
    merge_methods: Annotated[list[Method], Field(min_length=1), AfterValidator(given_once)]
    merge_lambda: Positive  # scales the merged task vector
    merge_ties_density: Annotated[Share, Field(gt=0)]  # share of each tensor that TIES keeps
    merge_dare_density: Annotated[Share, Field(gt=0)]  # share of each task vector that DARE keeps
    merge_sce_topk: Annotated[Share, Field(gt=0)]
    merge_dtype: Literal["float32", "bfloat16"]  # what is written; the arithmetic is float32
    merge_sweep_lambdas: Annotated[list[Positive], Field(min_length=1)]
    merge_sweep_densities: Annotated[list[Annotated[Share, Field(gt=0)]], Field(min_length=1)]
    # MT-OPD
    distill_steps: Annotated[int, Field(ge=4)]
    distill_prompts_per_step: Count
    distill_completions: Count  # per prompt
    distill_learning_rate: Positive
    distill_threads: Count
    # further ways to one model
    joint_models: JointModels  # trained, evaluated and shown beside RL-Multi, the merges and MT-OPD
    # GRPO, on one domain or on all mixed
    rlvr_steps: Annotated[int, Field(ge=4)]  # of an expert's run
    rlvr_mixed_steps: Annotated[int, Field(ge=4)]  # of the mixed run
    rlvr_prompts_per_step: Count
    rlvr_completions: Annotated[int, Field(ge=2)]  # per prompt
    rlvr_learning_rate: Positive
    rlvr_kl: Annotated[Number, Field(ge=0)]  # weight of the KL to SFT in the loss
    rlvr_warmup_steps: Annotated[int, Field(ge=0)]
    rlvr_prompt_tokens: Annotated[int, Field(ge=8)]  # of the longest prompt trained on; agent's may be longer
    rlvr_max_tokens: Annotated[int, Field(ge=8)]  # of a completion, tool results counted
    rlvr_rollouts: Sampler  # what samples in training: transformers, vllm, or a vLLM server's address
    rlvr_selection_problems: Count  # per domain, logged at each named checkpoint
    rlvr_threads: Count
    # what all training stages share
    train_accelerate: Configuration  # none: in the notebook; else profiles/accelerate/<name>.yaml
    train_device_batch: Count  # micro-batch size; a larger batch is accumulated
    # supervised fine-tuning
    sft_base_model: Source  # what SFT starts from: micro, untrained, or a causal LM of the Hub or a folder
    sft_demonstrations: Count  # per domain
    sft_general: Count  # demonstrations of general facts
    sft_judge: Count  # conversations of verdicts, per domain and mode
    sft_shifted_share: Share  # of the demonstrations, like the shifted benchmarks, which RL never trains
    sft_steps: Count
    sft_batch: Count  # examples per step
    sft_learning_rate: Positive
    sft_warmup_share: Share
    sft_threads: Count
    # where rows come from
    data_sources: Annotated[list[Source], Field(min_length=1)]  # [micro], or the data sets of the blends
    data_world: World  # how many words of two readings are shared, private to each domain, conflicting (`domains.conventions`)
    data_thinking: dict[str, Share]  # domain: the share of its SFT demonstrations that work the problem out (not named: all)
    data_wrong_share: Share  # of the steps of the SFT demonstrations
    data_wrong_steps: Literal["random", "systematic"]
    # the micro model
    micro_vocabulary: Annotated[int, Field(ge=300)]  # tokens
    micro_hidden_size: Annotated[int, Field(ge=8, multiple_of=8)]
    micro_layers: Count
    micro_heads: Count
    micro_context: Annotated[int, Field(ge=256)]  # tokens
    # which study, which seed, which domains
    study: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]  # the parameter file's stem
    seed: Annotated[int, Field(ge=0)]  # of demonstrations, SFT and RL
    domains: Annotated[list[str], Field(min_length=2), AfterValidator(given_once)]  # of those in m2rl_lib/domains


class Run(Section):
    """What a notebook is asked to run, beside the study's parameters: its `-p name value`; 03 and so on are notebooks."""

    domain: Annotated[str, Field(pattern=r"^[a-z_]+$")]  # 03: the domain to be expert in
    repeat: Annotated[int, Field(ge=0)]  # 03: another draw of RL prompts and samples from the same SFT
    permute_rewards: bool  # 03: the null run, on all domains
    teacher_step: Annotated[int, Field(ge=0)]  # 06: the kept step of the experts that teach; 0 is their last
    round: Annotated[int, Field(ge=1, le=2)]  # 03 and 06: 2 starts from MT-OPD's student, with teachers trained from it
    lora: Annotated[int, Field(ge=0)]  # 03: the rank of the adapters that are trained; 0: all weights
    order: Literal["given", "reverse"]  # 10: of the cascade's domains
    balance: Literal["prompts", "tokens", "rows"]  # 04: what each domain has as much of: prompts, or what has an advantage
    models: Annotated[list[str], Field(min_length=1)]  # 07: names of the models to evaluate
    group: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]  # 07: the name of their part of the tables
    purpose: Literal["scores", "test", "sweep", "skills", "world", "map", "all"]  # 07: of the evaluation; 09: all, world or map


class Parameters(Study, Run):
    """The parameters that a notebook declares, or a study's: asked for another, it raises AttributeError."""


FIELDS = Parameters.model_fields
PLAIN = (bool, int, float, str, list, tuple, dict, type(None))  # what a parameter's value can be
INJECTED = "# Parameters"  # how the cell begins that papermill puts below the declared parameters


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key given twice is an error; PyYAML lets the last one win."""

    def construct_mapping(self, node, deep=False):
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [str(name) for at, name in enumerate(names) if name in names[:at]]:
            raise yaml.YAMLError(f"{twice[0]} is given twice, allowed is once")
        return super().construct_mapping(node, deep)


def load(path: Path | str) -> Study:
    """The parameters of a file, all checked (ParameterError)."""
    path = Path(path)
    if not path.is_file():
        known = ", ".join(str(p.relative_to(ROOT)) for p in sorted((ROOT / "params").glob("*.yaml")))
        raise ParameterError(f"parameter file {path} does not exist; there are {known}")
    try:
        values = yaml.load(path.read_text(), _UniqueKeys)
    except yaml.YAMLError as error:
        raise ParameterError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ParameterError(f"{path} must map names to values, not {type(values).__name__}")
    _check(values, str(path))
    if stray := [name for name in values if name in Run.model_fields]:
        raise ParameterError(f"{path}: {', '.join(stray)} is given to one notebook by -p, not in a parameter file")
    if missing := [name for name in Study.model_fields if name not in values]:
        raise ParameterError(f"{path}: missing {', '.join(missing)}")
    if values["study"] != path.stem:
        raise ParameterError(f"{path}: study is {values['study']!r}, allowed is the file's stem {path.stem!r}")
    if stray := [name for name in values["data_thinking"] if name not in values["domains"]]:
        allowed = f"the domains {', '.join(values['domains'])}"
        raise ParameterError(f"{path}: data_thinking names {', '.join(stray)}, allowed are {allowed}")
    if bool(values["map_worlds"]) != bool(values["map_budgets"]):
        given = f"map_worlds is {values['map_worlds']}, map_budgets {values['map_budgets']}"
        raise ParameterError(f"{path}: {given}, allowed are both empty or neither")
    if values["rlvr_mixed_steps"] < len(values["domains"]):
        allowed = f"at least {len(values['domains'])}, one for each domain"
        raise ParameterError(f"{path}: rlvr_mixed_steps is {values['rlvr_mixed_steps']}, allowed are {allowed}")
    wide, odd = divmod(values["micro_hidden_size"], values["micro_heads"])
    if odd or wide < 2 or wide % 2:
        given = f"micro_heads is {values['micro_heads']}, micro_hidden_size {values['micro_hidden_size']}"
        raise ParameterError(f"{path}: {given}; allowed is an even number of units, two or more, for each head")
    return Study(**values)


def read_seeds(text: str | int) -> list[int]:
    """The seeds of `make study SEEDS=…`, in order. ParameterError in one line for anything but numbers with commas.

    >>> read_seeds("2,0,1"), read_seeds(3)
    ([0, 1, 2], [3])
    """
    if not re.fullmatch(r"\d+(,\d+)*", str(text)):
        raise ParameterError(f"seeds {str(text)!r}: whole numbers with commas between are allowed, such as 0,1,2")
    return sorted({int(seed) for seed in str(text).split(",")})


def notebook_parameters(variables: dict) -> Parameters:
    """The parameters among a notebook's variables (its `globals()`), checked; called before any work.

    Refused as misspelt: a plain value under another name (papermill injects whatever `-p` names), and a parameter of `Run`
    that this notebook does not declare. Modules, functions and IPython's own names pass.
    """
    plain = {name for name, value in variables.items() if isinstance(value, PLAIN) and name[0] != "_"} - {"In", "Out"}
    values = {name: value for name, value in variables.items() if name in FIELDS or name in plain}
    cells = variables.get("In", ())
    injected, own = ("\n".join(cell for cell in cells if cell.startswith(INJECTED) == put) for put in (True, False))
    for name in Run.model_fields:
        given = re.compile(rf"^{name} *=", re.MULTILINE)
        if given.search(injected) and not given.search(own):
            raise ParameterError(f"notebook: {name} is not among the parameters that it declares in its first code cell")
    return Parameters.model_construct(**_check(values, "notebook"))


@cache
def _type_of(name: str) -> TypeAdapter:
    return TypeAdapter(Annotated[FIELDS[name].annotation, FIELDS[name]], config=ConfigDict(strict=True, allow_inf_nan=False))


def _check(values: dict, source: str) -> dict:
    """Each value validated by itself; returns them as their proper types."""
    checked = {}
    for name, value in values.items():
        if name not in FIELDS:
            close = difflib.get_close_matches(str(name), FIELDS, n=1, cutoff=0.8)
            hint = f"did you mean {close[0]}?" if close else f"allowed are {', '.join(FIELDS)}"
            raise ParameterError(f"{source}: unknown parameter {name!r}; {hint}")
        try:
            checked[name] = _type_of(name).validate_python(value)
        except ValidationError as error:
            why = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ParameterError(f"{source}: {name} is {value!r}, but {why[0].lower()}{why[1:]}") from None
    return checked
