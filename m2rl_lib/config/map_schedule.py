"""The map of RQ6 (`map_worlds` × `map_budgets`): its worlds, as studies that start from one SFT, and the stages of each."""

from m2rl_lib.config import locations, schedule
from m2rl_lib.config.study import Parameters
from m2rl_lib.config.value_types import words_of

GROUP = "map"  # of each world's scores
NEEDED = (f"evaluate-{GROUP}", "measuring")  # stages of a world that notebook 16 reads
Stage = tuple[str, list[str], dict]  # notebook, the stages that it reads, its run parameters


def worlds(p: Parameters) -> dict[str, Parameters]:
    """The worlds of the map, by name ('s2p2c0': two shared and two private words, none in conflict)."""
    named = {words_of(world): world for world in p.map_worlds}
    return {name: p.model_copy(update={"study": f"{p.study}-{name}", "data_world": world}) for name, world in named.items()}


def models(p: Parameters) -> list[str]:
    """Every model that a world's scores are of: SFT, and at each budget experts, RL-Multi, merges and MT-OPD."""
    return ["sft", *(name for budget in p.map_budgets for name in schedule.at_budget(p, budget).values())]


def stages(p: Parameters) -> dict[str, Stage]:
    """The stages of one world, by name; SFT is the map's own."""
    steps = {schedule.at_budget(p, budget)["mt-opd"]: int(budget * p.rlvr_steps) for budget in p.map_budgets}
    usual = {"repeat": 0, "round": 1, "permute_rewards": False}
    made = {f"rl-{domain}": ("03_rlvr_single_domain", ["sft"], {"domain": domain} | usual) for domain in p.domains}
    made |= {"rl-multi": ("04_rlvr_mixed", ["sft"], {}), "merges": ("05_merging", schedule.experts(p), {})}
    for name, step in steps.items():
        made[name] = ("06_mt_opd", schedule.experts(p), {"teacher_step": step % p.rlvr_steps})
    asked = {"models": models(p), "group": GROUP, "purpose": "scores"}
    made[NEEDED[0]] = ("07_evaluation", ["rl-multi", "merges", *steps], asked)
    return made | {NEEDED[1]: ("09_measuring", schedule.experts(p), {"purpose": "map"})}


def seeds_there(p: Parameters) -> list[int]:
    """The seeds that the map speaks of: the study's own, and those of which every world has all that is read."""
    done = [
        {file.parent.name for file in locations.done_file(world.study, 0, "").parents[1].glob(f"seed-*/{name}.json")}
        for world in worlds(p).values()
        for name in NEEDED
    ]
    return sorted({p.seed, *(int(folder.removeprefix("seed-")) for folder in set.intersection(*done))} if done else {p.seed})
