"""What a study will take, before anything of it starts: steps, tokens, hours, memory, disk; and what cannot fit.

Nothing is downloaded: a base model's `config.json` must be on this machine, but for the paper's two. `--pilot runs/study
--effect 3` sizes a study for an effect of 3 points."""

import argparse
import os
import sys
from pathlib import Path

import pandas as pd

from m2rl_lib import domains
from m2rl_lib.config import locations, map_schedule, model_names, schedule, study
from m2rl_lib.config.study import ParameterError, Study
from m2rl_lib.data import problem_sets
from m2rl_lib.stats import power
from m2rl_lib.storage import hub
from m2rl_lib.training import launch
from m2rl_lib.training.model_shape import MERGE_SECONDS, TSV_SECONDS, shape_of

WEIGHT_BYTES = 4
TRAINED_BYTES = 16  # a parameter in training: float32 weight, gradient and two moments
TEACHER_PASS = 1 / 3  # of a training pass: a teacher only reads


def stages(p: Study, rates: dict[str, float]) -> pd.DataFrame:
    """One row per stage: stage, runs, steps, sequences, generated_tokens, trained_tokens, hours (of one device).
    `rates`: `tokens` (of a completion), `example` (of a training sequence, prompt and all), `generated`, `trained` (a second)."""
    worlds, budgets = max(1, len(p.map_worlds)), max(1, len(p.map_budgets))
    experts = worlds * len(p.domains) + (0 if p.map_worlds else len(schedule.controls(p)))
    batch, distilled = _batches(p)["RLVR"], _batches(p)["MT-OPD"]
    rows = [
        ("SFT", 1, p.sft_steps, p.sft_steps * p.sft_batch, 0, 1),
        ("RLVR: experts, null, repeat", experts, p.rlvr_steps, experts * p.rlvr_steps * batch, 1, 1),
        ("RLVR: mixed", worlds, p.rlvr_mixed_steps, worlds * p.rlvr_mixed_steps * batch, 1, 1),
        ("MT-OPD", worlds * budgets, p.distill_steps, worlds * budgets * p.distill_steps * distilled, 1, 1 + TEACHER_PASS),
    ]
    if joint := [name for name in schedule.joint_runs(p) if not name.startswith("mt-opd")]:
        rows.append(("RLVR: balanced, cascades", len(joint), p.rlvr_mixed_steps, len(joint) * p.rlvr_mixed_steps * batch, 1, 1))
    if adapted := schedule.lora_experts(p):
        rows.append(("RLVR: adapters", len(adapted), p.rlvr_steps, len(adapted) * p.rlvr_steps * batch, 1, 1))
    if second := schedule.second_teachers(p):
        rows.append(("RLVR: second round", len(second), p.rlvr_steps, len(second) * p.rlvr_steps * batch, 1, 1))
        rows.append(("MT-OPD: second round", 1, p.distill_steps, p.distill_steps * distilled, 1, 1 + TEACHER_PASS))
    rows += [(f"evaluation: {name}", models, 0, completions, 1, 0) for name, models, completions in evaluations(p)]
    merges = worlds * len(schedule.merges(p))
    rows.append(("merges", merges, 0, 0, 0, 0))
    frame = pd.DataFrame(rows, columns=["stage", "runs", "steps", "sequences", "generates", "trains"])
    frame["generated_tokens"] = (frame["sequences"] * frame.pop("generates") * rates["tokens"]).astype(float)
    frame["trained_tokens"] = (frame["sequences"] * frame.pop("trains") * rates["example"]).astype(float)
    frame["hours"] = (frame["generated_tokens"] / rates["generated"] + frame["trained_tokens"] / rates["trained"]) / 3600
    shape, tsv = shape_of(p), sum(name.startswith("merge-tsv") and "norm=" not in name for name in schedule.merges(p))
    seconds = (merges - tsv) * MERGE_SECONDS + tsv * max(MERGE_SECONDS, TSV_SECONDS * shape.hidden)
    frame.iloc[-1, -1] = seconds * len(p.domains) * shape.parameters / 3600
    return frame


def _batches(p: Study) -> dict[str, int]:
    """Sequences of one step of each kind of training."""
    distilled = p.distill_prompts_per_step * p.distill_completions
    return {"SFT": p.sft_batch, "RLVR": p.rlvr_prompts_per_step * p.rlvr_completions, "MT-OPD": distilled}


def evaluations(p: Study) -> list[tuple[str, int, int]]:
    """(group, models, completions) of every run of notebook 07."""
    benchmarks = problem_sets.study_benchmarks(p)
    test, greedy = len(benchmarks) * p.evaluate_problems * p.evaluate_samples, len(benchmarks) * p.evaluate_problems
    selection = len(benchmarks) * p.evaluate_selection_problems * p.evaluate_selection_samples
    rows = []
    groups = {name: ("scores", map_schedule.models(p)) for name in map_schedule.worlds(p)} or schedule.groups(p)
    for group, (purpose, models) in groups.items():
        count = {
            "scores": len(models) * (test + greedy + selection),
            "test": len(models) * test * p.evaluate_selection_samples // p.evaluate_samples,
            "sweep": len(models) * selection + len({model_names.parse_model_name(name)[0] for name in models}) * test,
            "skills": len(models) * len(problem_sets.skill_benchmarks(p)) * p.analysis_skill_problems * p.analysis_skill_samples,
        }[purpose]
        if group == "sft" or p.map_worlds:  # and SFT decoded at lower temperatures
            count += len(p.evaluate_sharpened_temperatures) * selection + test
        rows.append((group, len(models), count))
    return rows


def stated_rates(p: Study) -> dict[str, float]:
    """The rates that the parameter file states."""
    return {
        "tokens": p.plan_completion_tokens,
        "example": p.plan_example_tokens,
        "generated": p.plan_generated_tokens_per_second,
        "trained": p.plan_trained_tokens_per_second,
    }


def measured_rates(costs: pd.DataFrame) -> dict[str, float]:
    """A finished study's rates by device-second: `generated` of evaluation; `trained` of RL less its rollouts."""
    spent = costs.groupby("stage")[["generated_tokens", "trained_tokens", "device_seconds"]].sum()
    if not {"test", "rl"} <= set(spent.index):
        raise ValueError(f"the pilot's costs have the stages {', '.join(spent.index)}; test and rl are needed")
    test, rl = spent.loc["test"], spent.loc["rl"]
    generated = test["generated_tokens"] / test["device_seconds"]
    training = rl["device_seconds"] - rl["generated_tokens"] / generated
    # not positive: rollouts in training are the faster ones, and the two cannot be separated
    return {"generated": generated, "trained": rl["trained_tokens"] / (training if training > 0 else rl["device_seconds"] / 2)}


def device_memory(p: Study) -> pd.Series:
    """Gigabytes that each kind of stage needs at most on its device, without vLLM's; on a CPU all processes share one memory."""
    shape, config = shape_of(p), launch.configuration(p)
    count, weights = config["num_processes"], WEIGHT_BYTES * shape.parameters
    sharded = count if "fsdp_config" in config else 1  # pieces of weights and teachers: FSDP
    moments = count if sharded > 1 or config.get("deepspeed_config") else 1  # of gradients and Adam's moments: ZeRO-2 too
    fixed = shape.parameters * (WEIGHT_BYTES / sharded + (TRAINED_BYTES - WEIGHT_BYTES) / moments)
    kept = shape.layers * shape.activations
    if config.get("fsdp_config", {}).get("fsdp_activation_checkpointing"):  # between layers; within one at a time
        kept = shape.layers * shape.hidden + shape.activations
    token = 4 * (kept + 3 * shape.vocabulary)  # logits, log-softmax, gradient
    needs = {}
    for use, batch in _batches(p).items():
        length = p.micro_context if use == "SFT" else p.rlvr_prompt_tokens + p.rlvr_max_tokens
        others = {"MT-OPD": len(p.domains), "RLVR": int(p.rlvr_kl > 0)}.get(use, 0)  # teachers, or SFT for the KL
        needs[use] = fixed + others * weights / sharded + token * min(batch // count, p.train_device_batch) * length
        needs[use] *= count if config.get("use_cpu") else 1
    cache = 8 * shape.layers * shape.kv_heads * shape.head_dim  # keys and values of a token
    needs["evaluation"] = weights + cache * p.evaluate_batch * p.evaluate_max_tokens
    return pd.Series(needs) / 1e9


def models_kept(p: Study) -> int:
    """Model folders of a study: base and SFT, kept checkpoints, merges, quarters of MT-OPD and balanced runs, a cascade's stages."""
    counted = (schedule.merges, schedule.expert_checkpoints, schedule.mixed_checkpoints)
    merged, experts, mixed = (len(names(p)) for names in counted)
    if p.map_worlds:
        students = len(p.map_budgets) * len(schedule.quarters(p.distill_steps))
        return 2 + len(p.map_worlds) * (len(p.domains) * experts + mixed + merged + students)
    kept = (len(p.domains) + len(schedule.controls(p))) * experts + mixed
    runs = {"rl-multi": 4, "cascade": len(p.domains), "mt-opd": 4}
    kept += sum(runs[model_names.parse_model_name(name)[0]] for name in schedule.joint_runs(p))
    kept += len(schedule.second_teachers(p)) + len(schedule.lora_experts(p))
    return 2 + kept + merged + len(schedule.quarters(p.distill_steps))


def disk(p: Study) -> float:
    """Gigabytes of models, as they are written: merges in `merge_dtype`, the rest in float32."""
    saved = 2 * max(1, len(p.map_worlds)) * len(schedule.merges(p)) if p.merge_dtype == "bfloat16" else 0
    return shape_of(p).parameters * (WEIGHT_BYTES * models_kept(p) - saved) / 1e9


def refusals(p: Study) -> list[str]:
    """What this machine lacks for the plan, one line for each; [] where it can start."""
    lacking, memory = launch.lacking(p), device_memory(p)
    need, use = memory.max(), memory.idxmax()
    have, where = _memory(p.plan_device)
    if have is None:
        cure = f"run it where there is one, or set plan_device: cpu ({p.study})"
        lacking.append(f"plan_device is cuda and this machine has no CUDA GPU: {cure}")
    elif need > have:
        cure = "lower train_device_batch or the token limits"
        lacking.append(f"{use} needs about {need:.1f} GB of memory, {where} has {have:.1f}: {cure}")
    try:
        hub.check_disk(round(1e9 * disk(p)), locations.RUNS, f"the models of {p.study}")
        if problem_sets.is_micro(p.data_sources):  # a blend's rows are counted where they are drawn
            problem_sets.check_counts(p)
    except ValueError as error:
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
    table = stages(p, rates).astype({"runs": "Int64", "steps": "Int64"})
    counts = ["sequences", "generated_tokens", "trained_tokens"]
    total = table[[*counts, "hours"]].sum().to_frame().T.assign(stage="all").reindex(columns=table.columns).astype(table.dtypes)
    formats = {"hours": "{:.2f}".format} | dict.fromkeys(counts, "{:,.0f}".format)
    speeds = f"{rates['generated']:,.0f} generated and {rates['trained']:,.0f} trained a second"
    lines = [
        f"{p.study}: {shape_of(p).parameters / 1e6:,.1f} M parameters on {p.plan_device}, {models_kept(p)} model folders",
        f"rates: {rates['tokens']:.0f} tokens a completion, {rates['example']:.0f} a training sequence, {speeds}",
        pd.concat([table, total]).to_string(index=False, na_rep="", formatters=formats),
        f"memory, GB at once: {', '.join(f'{use} {size:.1f}' for use, size in device_memory(p).items())}",
        f"disk, GB of models: {disk(p):.1f}, beside data (`python -m m2rl_lib.cli.data_report`)",
    ]
    return "\n".join(lines)


def read_pilot(pilot: Path, table: str) -> pd.DataFrame:
    """A result table of a finished study, of all seeds."""
    files = sorted((pilot / "results" / table).glob("*.parquet"))
    if not files:
        raise ParameterError(f"{pilot} is no finished study: it has no results/{table}")
    return pd.concat([pd.read_parquet(file) for file in files])


def size_study(p: Study, pilot: Path, effect: float, model: str, reference: str, rates: dict[str, float]) -> str:
    """How large a study must be to detect `effect` points between two models, from a pilot's test scores."""
    scores = read_pilot(pilot, "scores").query(f"split == 'test' and domain not in {[*domains.UNTRAINED]}")
    found = power.measure_components(scores, model, reference)
    training = stages(p, rates).query("trained_tokens > 0")["hours"].sum()
    table = power.size_table(effect, found, rates["tokens"], rates["generated"], training)
    variances = f"seeds {found.seeds:.1f}, problems {found.problems:.0f}, samples {found.samples:.0f}"
    head = f"{model} against {reference}, an effect of {effect:g} points detected with 80% power; pilot: {found.pilot}; "
    return f"{head}variances (points²): {variances}\n{table.to_string(index=False, float_format='{:.1f}'.format)}"


def main(arguments: list[str]) -> int:
    """Print the plan; 1 where something cannot fit, its lines last."""
    parser = argparse.ArgumentParser("python -m m2rl_lib.cli.plan", description="what a study will take")
    parser.add_argument("params")
    parser.add_argument("--check", action="store_true", help="say only what cannot fit")
    parser.add_argument("--pilot", type=Path, help="the folder of a finished study: its rates, and its scores for --effect")
    parser.add_argument("--effect", type=float, help="points that are to be detected; needs --pilot")
    parser.add_argument("--model", default="rl-multi")
    parser.add_argument("--reference", default="merge-ties")
    given = parser.parse_args(arguments)
    p = study.load(given.params)
    for world in (p, *map_schedule.worlds(p).values()):
        problem_sets.world_of(world)  # refuses domains and words that there are not
    rates = stated_rates(p)
    if given.pilot:
        rates |= measured_rates(read_pilot(given.pilot, "costs"))
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
