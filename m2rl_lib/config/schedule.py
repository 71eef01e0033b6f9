"""Which checkpoints the runs keep, what is merged from them, and in which groups models are evaluated.

At the *matched* step all experts together have seen as many prompts as the mixed run. The learning rate is constant after
warm-up: a checkpoint is what a shorter run would have given."""

from collections.abc import Collection
from itertools import combinations, product
from pathlib import Path

from m2rl_lib.config import locations, model_names
from m2rl_lib.config.study import Parameters

TWO_DEFINITIONS = ("task-arithmetic-dare", "ties", "ties-dare", "sce")  # where the paper's code differs from mergekit
WITH_LAMBDA = ("task-arithmetic", "task-arithmetic-dare", "ties", "ties-dare", "tsv")
WITH_DENSITY = ("task-arithmetic-dare", "ties", "ties-dare", "sce")
HEADLINE = ("sft", "experts", "floors", "mixed", "merges", "matched", "distilled")  # the groups that RQ1 reads
READS = {  # the groups that each analysis reads: what a seed needs in order to be in it
    "rq1": (*HEADLINE, "joint"),
    "rq2": ("sft", "experts", "floors", "mixed"),
    "rq3": (*HEADLINE, "definitions", "sweeps", "pairs", "left-out"),
    "rq4": (*HEADLINE, "definitions", "sweeps", "pairs", "left-out", "joint", "stages", "skills"),
    "rq5": ("sft", "experts", "mixed", "merges", "distilled"),  # by way of the seed's judging, which reads them
}
LORA_RANK = 16  # of the adapters of experts that are merged as a further way
JOINT = {  # value of `joint_models`: its model (papermill does not find a parameter whose default holds a second =)
    "balanced-rows": "rl-multi@balance=rows",
    "balanced-tokens": "rl-multi@balance=tokens",
    "cascade": "cascade",
    "cascade-reverse": "cascade@order=reverse",
    "second-round": "mt-opd@round=2",
    "lora-average": f"merge-average@lora={LORA_RANK}",
    "lora-ties": f"merge-ties@lora={LORA_RANK}",
}
JOINT_NOTEBOOKS = {"rl-multi": "04_rlvr_mixed", "cascade": "10_cascade", "mt-opd": "06_mt_opd"}  # by base name
LEFT_OUT = ("average", "ties")  # the methods of leave-one-expert-out


def experts(p: Parameters) -> list[str]:
    """The finished experts' names."""
    return [f"rl-{domain}" for domain in p.domains]


def matched_step(p: Parameters) -> int:
    """The experts' step at matched prompts."""
    return min(p.rlvr_mixed_steps // len(p.domains), p.rlvr_steps)


def quarters(steps: int) -> list[int]:
    """The steps after each quarter of a run."""
    return [steps * quarter // 4 for quarter in (1, 2, 3, 4)]


def expert_checkpoints(p: Parameters) -> list[int]:
    """Steps at which an expert's model is kept: its quarters and the matched step."""
    return sorted({*quarters(p.rlvr_steps), matched_step(p)})


def mixed_checkpoints(p: Parameters) -> list[int]:
    """Steps at which the mixed run's model is kept: nine, as there are merging methods, so that each side has as many.

    Of fewer than 64 steps the quarters, since the sixteenths would be steps apart."""
    sixteenths = (4, 6, 8, 10, 12, 13, 14, 15, 16) if p.rlvr_mixed_steps >= 64 else (4, 8, 12, 16)
    return sorted({p.rlvr_mixed_steps * sixteenth // 16 for sixteenth in sixteenths})


def checkpoint_name(name: str, step: int, steps: int) -> str:
    """The model name of a run at a kept step; at its last step, the run's own name."""
    base, variant = model_names.parse_model_name(name)
    return name if step == steps else model_names.model_name(base, **variant, step=step)


def checkpoint_folder(p: Parameters, name: str, step: int, steps: int) -> Path:
    """The published folder of a run at a kept step."""
    return locations.model_folder(p.study, p.seed, checkpoint_name(name, step, steps))


def defaults(p: Parameters) -> list[str]:
    """The merge of all experts by each method at its published setting."""
    return [f"merge-{method}" for method in p.merge_methods]


def matched(p: Parameters) -> list[str]:
    """The same from the experts' checkpoints at matched prompts."""
    return [checkpoint_name(name, matched_step(p), p.rlvr_steps) for name in defaults(p)]


def candidates(p: Parameters) -> list[str]:
    """The merges among which the merging side of RQ1 chooses, and which it therefore pays for."""
    return list(dict.fromkeys([*defaults(p), *matched(p)]))


def definitions(p: Parameters) -> list[str]:
    """The methods whose definition in the paper's code differs from mergekit's, as the former has them."""
    methods = [method for method in p.merge_methods if method in TWO_DEFINITIONS]
    return [model_names.model_name(f"merge-{method}", definition="paper") for method in methods]


def equal_norms(p: Parameters) -> list[str]:
    """Each method's merge with its task vector scaled to the experts' mean norm."""
    return [model_names.model_name(name, norm="equal") for name in defaults(p)]


def sweep(p: Parameters) -> list[str]:
    """The grid of λ and density for each method that has them, without the default setting itself."""
    names = []
    for method in p.merge_methods:
        usual = {"ties": p.merge_ties_density, "sce": p.merge_sce_topk}.get(method, p.merge_dare_density)
        densities = p.merge_sweep_densities if method in WITH_DENSITY else [usual]
        lambdas = p.merge_sweep_lambdas if method in WITH_LAMBDA else [p.merge_lambda]
        for density, scale in product(densities, lambdas):
            changed = {"density": density if density != usual else None, "lambda": scale if scale != p.merge_lambda else None}
            names.append(model_names.model_name(f"merge-{method}", **changed))
    return [name for name in names if "@" in name]


def pairs(p: Parameters) -> list[str]:
    """Averages of each two experts, and of each with SFT and with RL-Null: averaging alone halves a task vector."""
    chosen = [*combinations(p.domains, 2), *((domain, other) for other in ("sft", "null") for domain in p.domains)]
    return [model_names.model_name("merge-average", experts="+".join(pair)) for pair in chosen]


def left_out(p: Parameters) -> list[str]:
    """Merges of all experts but one."""
    methods = [method for method in LEFT_OUT if method in p.merge_methods]
    kept = ["+".join(domain for domain in p.domains if domain != out) for out in p.domains]
    return [model_names.model_name(f"merge-{method}", experts=experts) for method, experts in product(methods, kept)]


def at_budget(p: Parameters, budget: float) -> dict[str, str]:
    """Finished experts, RL-Multi, default merges and MT-OPD: each with its name at a share of the RL steps, a quarter or several."""
    steps = dict.fromkeys([*experts(p), *defaults(p)], p.rlvr_steps) | {"rl-multi": p.rlvr_mixed_steps}
    names = {name: checkpoint_name(name, int(budget * last), last) for name, last in steps.items()}
    return names | {"mt-opd": student_name(1, int(budget * p.rlvr_steps) % p.rlvr_steps)}


def merges(p: Parameters) -> list[str]:
    """Every merge of a study, by name, those that others are made from first; of a map the defaults at its budgets."""
    if p.map_budgets:
        return [at_budget(p, budget)[name] for budget in p.map_budgets for name in defaults(p)]
    made = [*candidates(p), *definitions(p), *equal_norms(p), *sweep(p), *pairs(p), *left_out(p), *joint_merges(p)]
    return list(dict.fromkeys(made))


def cascade_name(order: str) -> str:
    """The model name of a cascade: `cascade` in the order of `domains`, `cascade@order=reverse` from the last to the first."""
    return model_names.model_name("cascade", order=None if order == "given" else order)


def cascade_stages(p: Parameters, name: str) -> list[tuple[str, str, int]]:
    """(domain, model, step at which it ends) of each stage of a cascade; the last is the cascade itself. Equal shares of RL-Multi's steps."""
    order = p.domains[::-1] if "order" in model_names.parse_model_name(name)[1] else p.domains
    ends = [p.rlvr_mixed_steps * place // len(order) for place in range(1, len(order) + 1)]
    return [(domain, checkpoint_name(name, end, p.rlvr_mixed_steps), end) for domain, end in zip(order, ends)]


def joint(p: Parameters) -> list[str]:
    """The study's further ways to one model, by model name."""
    return [JOINT[name] for name in p.joint_models]


def cascades(p: Parameters) -> list[str]:
    """The cascades among the study's joint models."""
    return [name for name in joint(p) if name.startswith("cascade")]


def round_of(p: Parameters) -> int:
    """The round of MT-OPD that a run of notebook 03 or 06 belongs to; 1 where its caller names none."""
    return vars(p).get("round", 1)


def teacher_name(domain: str, number: int) -> str:
    """The expert that teaches a domain in a round of MT-OPD: of the second, `rl-<domain>@round=2`, trained from the first's student."""
    return model_names.model_name(f"rl-{domain}", round=number if number > 1 else None)


def student_name(number: int, teacher_step: int) -> str:
    """MT-OPD's student of a round (`mt-opd`, `mt-opd@round=2`), or of the experts' kept step: `mt-opd@teacher_step=40`."""
    return model_names.model_name("mt-opd", round=number if number > 1 else None, teacher_step=teacher_step or None)


def second_teachers(p: Parameters) -> list[str]:
    """The experts that teach MT-OPD's second round, where the study has one."""
    return [teacher_name(domain, 2) for domain in p.domains] if "second-round" in p.joint_models else []


def joint_merges(p: Parameters) -> list[str]:
    """The joint models that are merged: of experts by adapters."""
    return [name for name in joint(p) if name.startswith("merge-")]


def joint_runs(p: Parameters) -> list[str]:
    """The joint models that are trained."""
    return [name for name in joint(p) if name not in joint_merges(p)]


def lora_experts(p: Parameters) -> list[str]:
    """The experts by adapters, where the study merges some."""
    return [model_names.model_name(f"rl-{domain}", lora=LORA_RANK) for domain in p.domains] if joint_merges(p) else []


def notebook_of(name: str) -> str:
    """The notebook that trains a joint model."""
    return JOINT_NOTEBOOKS[model_names.parse_model_name(name)[0]]


def runs_of(p: Parameters, name: str) -> list[str]:
    """The runs that a joint model costs: its own; a cascade's stages; of a second round of MT-OPD all teachers and both students; the
    experts of a merge of adapters."""
    if name.startswith("cascade"):
        return [stage for _, stage, _ in cascade_stages(p, name)]
    if name.startswith("mt-opd@round"):
        return [*(teacher_name(domain, number) for number in (1, 2) for domain in p.domains), "mt-opd", name]
    return lora_experts(p) if name.startswith("merge-") else [name]


def controls(p: Parameters) -> list[str]:
    """The null run and, where math is a domain, the same domain's second run."""
    return ["rl-null", "rl-math@repeat=1"] if "math" in p.domains else ["rl-null"]


def last_models(p: Parameters) -> list[str]:
    """Every model that is compared with SFT as it ended: experts, controls, mixed, merges at published settings, distilled."""
    return [*experts(p), *controls(p), "rl-multi", *defaults(p), "mt-opd"]


def kept_mixed(p: Parameters) -> list[str]:
    """The kept checkpoints of the mixed run, by name."""
    return [checkpoint_name("rl-multi", step, p.rlvr_mixed_steps) for step in mixed_checkpoints(p)]


def groups(p: Parameters) -> dict[str, tuple[str, list[str]]]:
    """What notebook 07 evaluates, one run per group: name -> (purpose, models), without groups that have no models."""
    every = {
        "sft": ("scores", ["sft"]),
        "experts": ("scores", experts(p)),
        "floors": ("scores", controls(p)),  # the group's name is that of result tables
        "mixed": ("scores", kept_mixed(p)),
        "merges": ("scores", defaults(p)),
        "matched": ("scores", [name for name in matched(p) if "@" in name]),
        "distilled": ("scores", ["mt-opd"]),
        "definitions": ("test", [*definitions(p), *equal_norms(p)]),
        "sweeps": ("sweep", sweep(p)),
        "pairs": ("test", pairs(p)),
        "left-out": ("test", [name for name in left_out(p) if name not in pairs(p)]),  # of three domains all but one is a pair
        "joint": ("scores", joint(p)),
        "stages": ("test", [stage for name in cascades(p) for _, stage, _ in cascade_stages(p, name)[:-1]]),
        "skills": ("skills", ["sft", *last_models(p), *joint(p)]),
    }
    return {name: (purpose, models) for name, (purpose, models) in every.items() if models}


def groups_read(p: Parameters, analysis: str, planned: Collection[str] | None = None) -> list[str]:
    """The groups that an analysis reads, of those `planned` (`groups` of all parameters). A notebook, which has not all of them, goes
    by what is done where a group may be empty since no merging method has settings to try or leaves experts out."""
    there = {"matched": lambda: matched_step(p) != p.rlvr_steps, "joint": lambda: bool(p.joint_models)}
    there |= {"stages": lambda: bool(cascades(p))}
    for name in ("sweeps", "left-out"):
        there[name] = locations.done_file(p.study, p.seed, f"evaluate-{name}").is_file
    return [name for name in READS[analysis] if (name in planned if planned else there.get(name, lambda: True)())]


def stages_read(p: Parameters, analysis: str, planned: Collection[str] | None = None) -> list[str]:
    """The stages that must be done for a seed to be in an analysis. RQ2's manipulation check reads every seed's measures, RQ4 those of
    the study's own seed alone."""
    if analysis == "rq5":
        return ["judging"]
    groups = [f"evaluate-{group}" for group in groups_read(p, analysis, planned)]
    measures = analysis == "rq3" or (analysis == "rq2" and worlds(p))
    return [*groups, *(["measuring"] if measures else [])]


def measured(p: Parameters) -> tuple[list[str], list[str], list[str]]:
    """What notebook 09 measures: models of which weights are compared with SFT, of which gradients are taken, and domains."""
    if p.purpose == "map":  # the experts at its budgets
        return [at_budget(p, budget)[name] for budget in p.map_budgets for name in experts(p)], [], p.domains
    if p.purpose == "world":  # only what the manipulation check reads
        return ["rl-math", "rl-coding"], ["sft"], ["math", "coding"]
    halves = [checkpoint_name("rl-multi", step, p.rlvr_mixed_steps) for step in quarters(p.rlvr_mixed_steps)[:2]]
    return last_models(p), ["sft", *halves], p.domains


def seeds_there(p: Parameters, analysis: str) -> list[int]:
    """The seeds that an analysis speaks of: the study's own, and those of which all that it reads is done."""
    found = [int(folder.name.removeprefix("seed-")) for folder in locations.done_file(p.study, 0, "").parents[1].glob("seed-*")]
    needed = stages_read(p, analysis)
    done = {n for n in found if all(locations.done_file(p.study, n, name).is_file() for name in needed)}
    return sorted({p.seed, *done})


WITHOUT = {"unshared": "shared", "agreeing": "conflicting"}  # world of the manipulation check: the words that it takes away


def worlds(p: Parameters) -> dict[str, Parameters]:
    """The worlds of RQ2's manipulation check beside the study's own, as studies that start from its SFT."""
    if not (p.analysis_manipulation_check and {"math", "coding"} <= set(p.domains)):
        return {}
    changed = {name: p.data_world | {kind: 0} for name, kind in WITHOUT.items() if p.data_world[kind]}
    return {name: p.model_copy(update={"study": f"{p.study}-{name}", "data_world": world}) for name, world in changed.items()}
