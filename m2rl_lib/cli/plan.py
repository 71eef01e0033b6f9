"""What a study will take, before anything of it starts: steps, tokens, hours, memory, disk; and what cannot fit.

    python -m m2rl_lib.cli.plan params/one_gpu.yaml
    python -m m2rl_lib.cli.plan params/study.yaml --pilot runs/study --effect 3   # problems x K x seeds for an effect of 3 points

Counts follow from the parameters and the schedule; hours from the rates of the parameter file (`plan_*`) or of a finished study's
`costs` (`--pilot`). Memory is an estimate (`device_memory`), to refuse what is far out of reach. Nothing is downloaded: shapes of
the paper's two base models are in `training.model_shape`, another's `config.json` must be on this machine.
"""

import argparse
import os
import sys
from pathlib import Path

import pandas as pd

from m2rl_lib import domains
from m2rl_lib.config import locations, model_names, schedule, study
from m2rl_lib.config.study import ParameterError, Study
from m2rl_lib.data import problem_sets
from m2rl_lib.stats import power
from m2rl_lib.storage import hub
from m2rl_lib.training import launch
from m2rl_lib.training.model_shape import MERGE_SECONDS, shape_of

WEIGHT_BYTES = 4
TRAINED_BYTES = 16  # a parameter in training: float32 weight, gradient and two moments
TEACHER_PASS = 1 / 3  # of a training pass: a teacher only reads


def stages(p: Study, rates: dict[str, float]) -> pd.DataFrame:
    """One row per stage: stage, runs, steps, sequences, generated_tokens, trained_tokens, hours (of one device).

    `rates`: `tokens` (of a completion), `example` (of a training sequence, prompt and all), `generated`, `trained` (a second).
    """
    experts = len(p.domains) + len(schedule.floors(p))
    batch = p.rlvr_prompts_per_step * p.rlvr_completions
    distilled = p.distill_prompts_per_step * p.distill_completions
    rows = [
        ("SFT", 1, p.sft_steps, p.sft_steps * p.sft_batch, 0, 1),
        ("RLVR: experts, null, repeat", experts, p.rlvr_steps, experts * p.rlvr_steps * batch, 1, 1),
        ("RLVR: mixed", 1, p.rlvr_mixed_steps, p.rlvr_mixed_steps * batch, 1, 1),
        ("MT-OPD", 1, p.distill_steps, p.distill_steps * distilled, 1, 1 + TEACHER_PASS),
    ]
    rows += [(f"evaluation: {name}", models, 0, completions, 1, 0) for name, models, completions in evaluations(p)]
    frame = pd.DataFrame(rows, columns=["stage", "runs", "steps", "sequences", "generates", "trains"])
    frame["generated_tokens"] = frame["sequences"] * frame.pop("generates") * rates["tokens"]
    frame["trained_tokens"] = frame["sequences"] * frame.pop("trains") * rates["example"]
    frame = frame.astype({"generated_tokens": float, "trained_tokens": float})
    frame["hours"] = (frame["generated_tokens"] / rates["generated"] + frame["trained_tokens"] / rates["trained"]) / 3600
    merges = len(schedule.merges(p))
    seconds = merges * len(p.domains) * shape_of(p).parameters * MERGE_SECONDS
    return pd.concat([frame, pd.DataFrame([["merges", merges, 0, 0, 0.0, 0.0, seconds / 3600]], columns=frame.columns)])


def evaluations(p: Study) -> list[tuple[str, int, int]]:
    """(group, models, completions) of every run of notebook 07."""
    benchmarks = problem_sets.study_benchmarks(p)
    test = len(benchmarks) * p.evaluate_problems * p.evaluate_samples
    selection = len(benchmarks) * p.evaluate_selection_problems * p.evaluate_selection_samples
    rows = []
    for group, (purpose, models) in schedule.groups(p).items():
        count = {
            "scores": len(models) * (test + selection),
            "test": len(models) * test,
            "sweep": len(models) * selection + len({model_names.parse_model_name(name)[0] for name in models}) * test,
            "skills": len(models) * len(p.domains) * p.analysis_skill_problems * p.analysis_skill_samples,
        }[purpose]
        if group == "sft":  # and SFT sharpened
            count += len(p.evaluate_sharpened_temperatures) * selection + test
        rows.append((group, len(models), count))
    return rows


def stated_rates(p: Study) -> dict[str, float]:
    """The rates that the parameter file states."""
    speeds = {"generated": p.plan_generated_tokens_per_second, "trained": p.plan_trained_tokens_per_second}
    return {"tokens": p.plan_completion_tokens, "example": p.plan_example_tokens} | speeds


def measured_rates(costs: pd.DataFrame) -> dict[str, float]:
    """The rates that a finished study's `costs` has, by device-second: evaluation for `generated`; for `trained` what RL took
    longer than its rollouts alone would have. ValueError where it has neither."""
    spent = costs.groupby("stage")[["generated_tokens", "trained_tokens", "device_seconds", "prompts"]].sum()
    if not {"test", "rl"} <= set(spent.index):
        raise ValueError(f"the pilot's costs have the stages {', '.join(spent.index)}; test and rl are needed")
    generated = spent.loc["test", "generated_tokens"] / spent.loc["test", "device_seconds"]
    rl = spent.loc["rl"]
    training = rl["device_seconds"] - rl["generated_tokens"] / generated
    if training <= 0:
        training = rl["device_seconds"] / 2  # rollouts in training are the faster ones: no way to tell the two apart
    return {"generated": generated, "trained": rl["trained_tokens"] / training}


def device_memory(p: Study) -> pd.DataFrame:
    """use, gigabytes: the largest need of each kind of stage on its device, without vLLM's, which is a setting of its own.

    Training: 16 bytes a parameter; per token of a micro-batch, 4 bytes for every activation of every layer and three times for
    every number of the vocabulary (logits, log-softmax, gradient). Sampling: 4 bytes a parameter, and keys and values of
    `evaluate_batch` sequences. Distillation: the teachers too. Of several processes each has its share of a batch; FSDP shards all
    16 bytes and the teachers, ZeRO-2 all but the weights' 4; on a CPU they share one memory.
    """
    shape, config = shape_of(p), launch.configuration(p)
    count = config["num_processes"]
    sharded = count if "fsdp_config" in config else 1  # pieces of the weights
    moments = count if sharded > 1 or config.get("deepspeed_config") else 1  # pieces of gradients and Adam's moments
    fixed = shape.parameters * (WEIGHT_BYTES / sharded + (TRAINED_BYTES - WEIGHT_BYTES) / moments)
    together = count if config.get("use_cpu") else 1
    cache = 8 * shape.layers * shape.kv_heads * shape.head_dim
    kept = shape.layers * shape.activations
    if config.get("fsdp_config", {}).get("fsdp_activation_checkpointing"):  # between layers; within one at a time
        kept = shape.layers * shape.hidden + shape.activations
    token = 4 * (kept + 3 * shape.vocabulary)
    longest = p.rlvr_prompt_tokens + p.rlvr_max_tokens
    held = {
        "SFT": (p.sft_batch, p.micro_context),
        "RLVR": (p.rlvr_prompts_per_step * p.rlvr_completions, longest),
        "MT-OPD": (p.distill_prompts_per_step * p.distill_completions, longest),
    }
    rows = []
    for use, (sequences, length) in held.items():
        teachers = WEIGHT_BYTES * shape.parameters * len(p.domains) / sharded if use == "MT-OPD" else 0
        rows.append((use, together * (fixed + teachers + token * min(sequences // count, p.train_device_batch) * length)))
    rows.append(("evaluation", WEIGHT_BYTES * shape.parameters + cache * p.evaluate_batch * p.evaluate_max_tokens))
    return pd.DataFrame([(use, size / 1e9) for use, size in rows], columns=["use", "gigabytes"])


def models_kept(p: Study) -> int:
    """Model folders of a study: base and SFT, kept checkpoints, merges, MT-OPD's quarters."""
    runs = len(p.domains) + len(schedule.floors(p))
    kept = runs * len(schedule.expert_checkpoints(p)) + len(schedule.mixed_checkpoints(p))
    return 2 + kept + len(schedule.merges(p)) + len(schedule.quarters(p.distill_steps))


def disk(p: Study) -> float:
    """Gigabytes of models, as they are written: merges in `merge_dtype`, the rest in float32."""
    size, merges = shape_of(p).parameters, len(schedule.merges(p))
    merged = merges * size * (2 if p.merge_dtype == "bfloat16" else 4)
    return (merged + 4 * size * (models_kept(p) - merges)) / 1e9


def refusals(p: Study) -> list[str]:
    """What this machine lacks for the plan, a line each; [] where it can start."""
    lacking, memory = launch.lacking(p), device_memory(p)
    need, use = memory["gigabytes"].max(), memory.loc[memory["gigabytes"].idxmax(), "use"]
    have, where = _memory(p.plan_device)
    if have is None:
        lacking.append(
            f"plan_device is cuda and this machine has no CUDA GPU: run it where there is one, or set plan_device: cpu ({p.study})"
        )
    elif need > have:
        lacking.append(
            f"{use} needs about {need:.1f} GB of memory, {where} has {have:.1f}: lower train_device_batch or the token limits"
        )
    try:
        hub.check_disk(round(1e9 * disk(p)), locations.RUNS, f"the models of {p.study}")
    except hub.SourceError as error:
        lacking.append(str(error))
    return lacking


def _memory(device: str) -> tuple[float | None, str]:
    """(gigabytes, what has them) of the device asked for; None where there is none."""
    if device == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, "this machine"
    import torch  # slow to import, and not needed for a CPU

    if not torch.cuda.is_available():
        return None, ""
    return torch.cuda.get_device_properties(0).total_memory / 1e9, torch.cuda.get_device_name()


def describe(p: Study, rates: dict[str, float]) -> str:
    """The plan as text."""
    table, memory = stages(p, rates).astype({"runs": "Int64", "steps": "Int64"}), device_memory(p)
    sums = table[["sequences", "generated_tokens", "trained_tokens", "hours"]].sum()
    total = pd.DataFrame([{"stage": "all", "runs": pd.NA, "steps": pd.NA, **sums}]).astype(table.dtypes)
    table = pd.concat([table, total], ignore_index=True)
    numbers = {name: "{:,.0f}".format for name in ("sequences", "generated_tokens", "trained_tokens")}
    shown = table.to_string(index=False, na_rep="", formatters={"hours": "{:.2f}".format, **numbers})
    uses = ", ".join(f"{row.use} {row.gigabytes:.1f}" for row in memory.itertuples())
    speeds = f"{rates['generated']:,.0f} generated and {rates['trained']:,.0f} trained a second"
    lines = [
        f"{p.study}: {shape_of(p).parameters / 1e6:,.1f} M parameters on {p.plan_device}, {models_kept(p)} model folders",
        f"rates: {rates['tokens']:.0f} tokens a completion, {rates['example']:.0f} a training sequence, {speeds}",
        shown,
        f"memory, GB at once: {uses}",
        f"disk, GB of models: {disk(p):.1f}, beside data (`python -m m2rl_lib.cli.data_report`)",
    ]
    return "\n".join(lines)


def size_study(p: Study, pilot: Path, effect: float, model: str, reference: str, rates: dict[str, float]) -> str:
    """How large a study must be to detect `effect` points between two models, from a pilot's test scores."""
    scores = pd.concat([pd.read_parquet(file) for file in sorted((pilot / "results" / "scores").glob("*.parquet"))])
    scores = scores[(scores["split"] == "test") & ~scores["domain"].isin(domains.UNTRAINED)]
    found = power.measure_components(scores, model, reference)
    training = stages(p, rates).query("trained_tokens > 0")["hours"].sum()
    table = power.size_table(effect, found, rates["tokens"], rates["generated"], training)
    head = (
        f"{model} against {reference}, an effect of {effect:g} points detected with 80% power; pilot: {found.pilot}; "
        f"variances (points²): seeds {found.seeds:.1f}, problems {found.problems:.0f}, samples {found.samples:.0f}"
    )
    return head + "\n" + table.to_string(index=False, float_format="{:.1f}".format)


def main(arguments: list[str]) -> int:
    """Print the plan; 1 where something cannot fit, its lines last."""
    parser = argparse.ArgumentParser(prog="python -m m2rl_lib.cli.plan", description="what a study will take")
    parser.add_argument("params")
    parser.add_argument("--check", action="store_true", help="say only what cannot fit")
    parser.add_argument("--pilot", type=Path, help="the folder of a finished study: its rates, and its scores for --effect")
    parser.add_argument("--effect", type=float, help="points that are to be detected; needs --pilot")
    parser.add_argument("--model", default="rl-multi")
    parser.add_argument("--reference", default="merge-ties")
    given = parser.parse_args(arguments)
    p = study.load(given.params)
    for name in p.domains:
        domains.check_domain(name)
    rates = stated_rates(p)
    if given.pilot:
        files = sorted((given.pilot / "results" / "costs").glob("*.parquet"))
        if not files:
            raise ParameterError(f"{given.pilot} is no finished study: it has no results/costs")
        rates |= measured_rates(pd.concat([pd.read_parquet(file) for file in files]))
    if not given.check:
        print(describe(p, rates))
    if given.effect is not None:
        if not given.pilot or given.effect <= 0:
            raise ParameterError("--effect is a positive number of points and needs --pilot, the folder of a finished study")
        print(size_study(p, given.pilot, given.effect, given.model, given.reference, rates))
    lines = refusals(p)
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ValueError as error:
        sys.exit(str(error))
