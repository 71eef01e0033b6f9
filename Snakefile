# The study as one graph: each rule runs one notebook through papermill and declares done/<name>.json, which
# only the notebook's last cell writes. A rule's parameters are those its notebook declares, so that a change
# of one reruns the stages that use it and what depends on them; so does a change of the notebook's code or of its version
# in m2rl_lib/config/versions.py. A change of an import, a comment, a docstring or prose reruns nothing.
#
#   snakemake --cores 2 --config params=params/study.yaml seeds=0,1,2
#
# A stage is one rule for every seed. An analysis reads the study's own seed (`seed` of the parameters), the seeds asked
# for, and every other seed of which all that it reads is there already: seeds add up. `snakemake rq1 --config
# seeds=3,4,5` makes of those seeds only what RQ1 reads.

import atexit
import json
import sys
from functools import lru_cache
from itertools import chain
from pathlib import Path

import m2rl_lib.cli  # before papermill: it keeps an import of two seconds out
from papermill.inspection import inspect_notebook

from m2rl_lib import sandbox
from m2rl_lib.cli import kernels, reruns
from m2rl_lib.config import locations, map_schedule, model_names, schedule, study, versions
from m2rl_lib.config.study import ParameterError
from m2rl_lib.data import problem_sets
from m2rl_lib.storage import locks
from m2rl_lib.training import launch

try:
    P = study.load(config.get("params", "params/study.yaml"))
    MAP = map_schedule.worlds(P)  # of RQ6's map, by name
    for world in (P, *MAP.values()):
        problem_sets.world_of(world)  # refuses domains and words that there are not
    ASKED = study.read_seeds(config.get("seeds", P.seed))
except (ParameterError, ValueError) as error:
    sys.exit(f"{error}")

EXPERTS = schedule.experts(P)
LOCK = locks.hold(locations.study_folder(P.study) / ".lock")  # instead of Snakemake's, which a kill leaves behind
CONTROLS = schedule.controls(P)  # the null run and a second run of the math expert
GROUPS = schedule.groups(P)
WORLDS = schedule.worlds(P)  # of RQ2's manipulation check, by name
# what a rule that runs the model asks of a cluster (profiles/slurm), where it runs on a GPU
DEVICE = {"gpu": 1, "mem_mb": 96_000, "runtime": 48 * 60} if P.plan_device == "cuda" else {}
# and one that trains: a GPU and as much memory for each process, on as many nodes as `train_accelerate` has machines
GPUS, NODES = (launch.configuration(P)[name] for name in ("num_processes", "num_machines"))
TRAINER = DEVICE and DEVICE | {"gpu": GPUS, "nodes": NODES, "mem_mb": DEVICE["mem_mb"] * GPUS // NODES}


SEEDS = {analysis: sorted({*ASKED, *schedule.seeds_there(P, analysis)}) for analysis in schedule.READS}
MAP_SEEDS = sorted({*ASKED, *map_schedule.seeds_there(P)})


wildcard_constraints:
    seed=r"\d+",


def done(*names, world=P, seed="{seed}"):
    return [str(locations.done_file(world.study, seed, name).relative_to(locations.ROOT)) for name in names]


def evaluated(analysis):
    """The evaluations, or judgings, that an analysis reads, of all its seeds; of others those that are there, for its ledger entries."""
    needed = {seed: done(*schedule.stages_read(P, analysis, GROUPS), seed=seed) for seed in sorted({*chain(*SEEDS.values())})}
    return [file for seed, files in needed.items() for file in files if seed in SEEDS[analysis] or Path(file).is_file()]


@lru_cache
def declared(notebook):
    return inspect_notebook(f"notebooks/{notebook}.ipynb").keys()


def parameters(notebook, world, seed, **run):
    """The study's values of the parameters that a notebook declares, as YAML (JSON) for papermill."""
    values = vars(world) | {"seed": seed}
    return json.dumps({key: value for key, value in values.items() if key in declared(notebook)} | run)


# Everything a notebook prints goes to the log; the stages' own lines ("rl-math: step 20/400, …") also to the screen.
# figures/<study> holds the figures of the study's own seed; those of other seeds' stages stay beside their notebooks.
# A stage of one process takes the first GPU that it is shown: transformers would split each batch among all of them.
SHOWN = "export CUDA_VISIBLE_DEVICES=${{CUDA_VISIBLE_DEVICES-0}}; CUDA_VISIBLE_DEVICES=${{CUDA_VISIBLE_DEVICES%%,*}}; "
ONE_GPU = "" if GPUS > 1 else SHOWN
# glibc gives freed tensors back to the kernel and asks for them again at every token: sampling took a quarter longer
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "500000000"}
KERNELS = kernels.ready(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TQDM_DISABLE="1", **MALLOC)
PAPERMILL = ONE_GPU + (
    "[[ {output[0]} == */seed-{P.seed}/* ]] || export M2RL_FIGURES=$(dirname {params.out})/figures; "
    "export OMP_NUM_THREADS={threads} MKL_NUM_THREADS={threads} TQDM_DISABLE=1; "
    f"export {' '.join(map('='.join, MALLOC.items()))}; "
    f"{sys.executable} -m m2rl_lib.cli.run_notebook notebooks/{{params.notebook}}.ipynb {{params.out}} {{params.log}} {{params.values:q}}"
)


def stage(name, notebook, world=P, **run):
    """The params of a rule: what its notebook is run with, and where its copy and its log go, both of one seed."""
    single = notebook[3:] not in ("rlvr_single_domain", "evaluation") and world is P and "@" not in name
    copy = f"{notebook}.ipynb" if single else f"{notebook}-{name}.ipynb"

    def of_seed(make):
        return lambda wildcards: make(int(wildcards.get("seed", P.seed)))

    return {
        "notebook": notebook,
        "values": of_seed(lambda seed: parameters(notebook, world, seed, **run)),
        "behaviour": versions.behaviour(Path(f"notebooks/{notebook}.ipynb")),
        "out": of_seed(lambda seed: f"runs/{P.study}/notebooks/seed-{seed}/{copy}"),
        "log": of_seed(lambda seed: str(locations.work_folder(P.study, seed, name).relative_to(locations.ROOT))),
    }


onstart:  # before any work: a machine that cannot run generated programs, or another run of this study, is reported in one line
    try:
        sandbox.configure(P.sandbox_kind)
        sandbox.check()
        sandbox.configure(P.sandbox_kind)  # ends the sandbox that was tried
        LOCK.__enter__()  # released when Snakemake ends, however it ends
        atexit.register(LOCK.__exit__, None, None, None)
    except (locks.LockedError, sandbox.SandboxError) as error:
        sys.exit(f"{error}")
    if workflow.local_exec:
        KERNELS.__enter__()
        atexit.register(KERNELS.__exit__, None, None, None)
    if sandbox.stamp(P.sandbox_kind):
        print(f"study: {sandbox.stamp(P.sandbox_kind)}")
    for line in reruns.explain((job.message or job.rule.name, workflow.dag.reason(job)) for job in workflow.dag.needrun_jobs()):
        print(f"study: {line}", flush=True)


def earlier(priority):
    """A stage's priority: before all stages of a later seed, so that an interrupted sitting leaves whole seeds."""
    every = sorted({*MAP_SEEDS}.union(*SEEDS.values()))
    return lambda wildcards: priority + 100 * sum(other > int(wildcards.seed) for other in every)


rule all:
    input:
        done("data", *(["rq6"] if MAP else [*SEEDS, "released", "paper", "claims"]), seed=P.seed),
        [] if MAP else [evaluated(analysis) for analysis in SEEDS],  # so that a new seed is seen even where .snakemake is lost


rule data:
    output:
        done("data", seed=P.seed),
    params:
        **stage("data", "01_data_and_verifiers"),
    message:
        "01: data and verifiers"
    shell:
        PAPERMILL


rule sft:
    output:
        done("sft"),
    params:
        **stage("sft", "02_sft"),
    resources:
        **TRAINER,
    threads: P.sft_threads
    priority: earlier(10)
    message:
        "02: supervised fine-tuning, seed {wildcards.seed}"
    shell:
        PAPERMILL


def expert_run(name):
    """The run parameters of notebook 03 that make the model `name`."""
    base, variant = model_names.parse_model_name(name)
    null = name == "rl-null"
    numbers = {"repeat": int(variant.get("repeat", 0)), "round": int(variant.get("round", 1)), "lora": int(variant.get("lora", 0))}
    return {"domain": P.domains[0] if null else base[3:], "permute_rewards": null} | numbers


SECOND, ADAPTED = schedule.second_teachers(P), schedule.lora_experts(P)

for model in [*EXPERTS, *CONTROLS, *SECOND, *ADAPTED]:

    rule:
        name:
            f"expert_{model}"
        input:
            done("mt-opd" if model in SECOND else "sft"),
        output:
            done(model),
        params:
            **stage(model, "03_rlvr_single_domain", **expert_run(model)),
        resources:
            **TRAINER,
        threads: P.rlvr_threads
        priority: earlier(4 if model in CONTROLS else 5)  # merges and the student wait for the experts
        message:
            f"03: {model}, seed {{wildcards.seed}}"
        shell:
            PAPERMILL


rule mixed:
    input:
        done("sft"),
    output:
        done("rl-multi"),
    params:
        **stage("rl-multi", "04_rlvr_mixed"),
    resources:
        **TRAINER,
    threads: P.rlvr_threads
    priority: earlier(9)  # the longest run begins first
    message:
        "04: RL-Multi, all domains mixed, seed {wildcards.seed}"
    shell:
        PAPERMILL


rule merges:
    input:
        done(*EXPERTS, "rl-null", *ADAPTED),
    output:
        done("merges"),
    params:
        **stage("merges", "05_merging"),
    priority: earlier(6)
    message:
        "05: merges, seed {wildcards.seed}"
    shell:
        PAPERMILL


rule distillation:
    input:
        done(*EXPERTS),
    output:
        done("mt-opd"),
    params:
        **stage("mt-opd", "06_mt_opd"),
    resources:
        **TRAINER,
    threads: P.distill_threads
    priority: earlier(6)
    message:
        "06: MT-OPD, the experts distilled into one student, seed {wildcards.seed}"
    shell:
        PAPERMILL


for model in schedule.joint_runs(P):  # further ways to one model
    (base, variant), notebook = model_names.parse_model_name(model), schedule.notebook_of(model)

    rule:
        name:
            f"joint_{model}"
        input:
            done(*SECOND, "mt-opd") if base == "mt-opd" else done("sft"),
        output:
            done(model),
        params:
            **stage(model, notebook, **{key: int(value) if value.isdigit() else value for key, value in variant.items()}),
        resources:
            **TRAINER,
        threads: P.distill_threads if base == "mt-opd" else P.rlvr_threads
        priority: earlier(5)
        message:
            f"{notebook[:2]}: {model}, seed {{wildcards.seed}}"
        shell:
            PAPERMILL


MAKERS = {
    "sft": ["sft"],
    "experts": EXPERTS,
    "floors": CONTROLS,
    "mixed": ["rl-multi"],
    "distilled": ["mt-opd"],
    "joint": [*schedule.joint_runs(P), *(["merges"] if ADAPTED else [])],
    "stages": schedule.cascades(P),
    "skills": [*CONTROLS, "rl-multi", "merges", "mt-opd", *schedule.joint_runs(P)],
}  # the others need the merges

for group, (purpose, models) in GROUPS.items():

    rule:
        name:
            f"evaluate_{group}"
        input:
            done(*MAKERS.get(group, ["merges"])),
        output:
            done(f"evaluate-{group}"),
        params:
            **stage(group, "07_evaluation", models=models, group=group, purpose=purpose),
        resources:
            **DEVICE,
        threads: P.evaluate_threads
        priority: earlier(len(models) / 100)  # the longest begins first
        message:
            f"07: evaluation of {group}, seed {{wildcards.seed}}"
        shell:
            PAPERMILL



rule measuring:
    input:
        done(*(f"evaluate-{group}" for group in schedule.groups_read(P, "rq3", GROUPS))),
    output:
        done("measuring"),
    params:
        **stage("measuring", "09_measuring", purpose="all"),
    resources:
        **DEVICE,
    threads: P.evaluate_threads
    priority: earlier(0)
    message:
        "09: weights, policies and gradients measured, seed {wildcards.seed}"
    shell:
        PAPERMILL



rule released:
    input:
        [] if P.released_models else done("sft", *EXPERTS, "rl-multi", seed=P.seed),
    output:
        done("released", seed=P.seed),
    params:
        **stage("released", "22_released_checkpoints"),
    resources:
        **DEVICE,
    message:
        "22: released checkpoints"
    shell:
        PAPERMILL


ANALYSES = {  # name: notebook, message, what it reads beside its evaluations
    "rq1": ("11_rq1_mix_or_merge", "11: RQ1, mix or merge?", []),
    "rq3": ("13_rq3_weights_and_policies", "13: RQ3, weights and policies", []),
    "rq4": ("14_rq4_merging_methods", "14: RQ4, how do merging methods differ?", done("measuring", seed=P.seed)),
    "rq5": ("15_rq5_verification", "15: RQ5, models as judges", []),
}

for analysis, (notebook, message, others) in ANALYSES.items():

    rule:
        name:
            analysis
        input:
            evaluated(analysis),
            others,
        output:
            done(analysis, seed=P.seed),
        params:
            **stage(analysis, notebook),
        message:
            message
        shell:
            PAPERMILL


rule judging:
    input:
        done(*(f"evaluate-{group}" for group in schedule.groups_read(P, "rq5", GROUPS))),
    output:
        done("judging"),
    params:
        **stage("judging", "08_judging"),
    resources:
        **DEVICE,
    threads: P.evaluate_threads
    priority: earlier(0)
    message:
        "08: models as judges, seed {wildcards.seed}"
    shell:
        PAPERMILL


rule paper:
    input:
        done("rq1", "rq3", "rq4", "rq5", "mt-opd", seed=P.seed),  # a figure whose results are missing is left out, so it comes last
    output:
        done("paper", seed=P.seed),
    params:
        **stage("paper", "20_paper_figures"),
    message:
        "20: the paper's figures, and ours in the same form"
    shell:
        PAPERMILL


PAIR = ["rl-math", "rl-coding"]

for name, WORLD in (WORLDS | MAP).items():  # studies that start from the same SFT where other readings are right

    rule:
        name:
            f"sft_{name}"
        input:
            done("sft"),
        output:
            done("sft", world=WORLD),
        params:
            models=f"runs/{WORLD.study}/models/seed-{{seed}}",
            sft=f"../../../{P.study}/models/seed-{{seed}}/sft",
        localrule: True
        priority: earlier(8)
        shell:
            "mkdir -p {params.models} && ln -sfn {params.sft} {params.models}/sft && cp {input} {output}"


for name, WORLD in WORLDS.items():  # math and coding once more

    for model in PAIR:

        rule:
            name:
                f"expert_{model}_{name}"
            input:
                done("sft", world=WORLD),
            output:
                done(model, world=WORLD),
            params:
                **stage(f"{name}-{model}", "03_rlvr_single_domain", world=WORLD, **expert_run(model)),
            resources:
                **TRAINER,
            threads: P.rlvr_threads
            priority: earlier(5)
            message:
                f"03: {model} in the world {name}, seed {{wildcards.seed}}"
            shell:
                PAPERMILL

    rule:
        name:
            f"evaluate_{name}"
        input:
            done(*PAIR, world=WORLD),
        output:
            done(f"evaluate-{name}", world=WORLD),
        params:
            **stage(name, "07_evaluation", world=WORLD, models=["sft", *PAIR], group=name, purpose="world"),
        resources:
            **DEVICE,
        threads: P.evaluate_threads
        priority: earlier(0)
        message:
            f"07: evaluation in the world {name}, seed {{wildcards.seed}}"
        shell:
            PAPERMILL

    rule:
        name:
            f"measuring_{name}"
        input:
            done(*PAIR, world=WORLD),
        output:
            done("measuring", world=WORLD),
        params:
            **stage(f"{name}-measuring", "09_measuring", world=WORLD, purpose="world"),
        resources:
            **DEVICE,
        threads: P.evaluate_threads
        priority: earlier(0)
        message:
            f"09: weights and gradients measured in the world {name}, seed {{wildcards.seed}}"
        shell:
            PAPERMILL


THREADS = {"06": P.distill_threads, "07": P.evaluate_threads, "09": P.evaluate_threads}  # others train by RL

ASKS = {"05": {}, "07": DEVICE, "09": DEVICE}

for name, WORLD in MAP.items():

    for made, (notebook, read, run) in map_schedule.stages(P).items():
        rule:
            name:
                f"map_{made}_{name}"
            input:
                done(*read, world=WORLD),
            output:
                done(made, world=WORLD),
            params:
                **stage(f"{name}-{made}", notebook, world=WORLD, **run),
            resources:
                **ASKS.get(notebook[:2], TRAINER),
            threads: THREADS.get(notebook[:2], P.rlvr_threads)
            priority: earlier(9 if made == "rl-multi" else 5)
            message:
                f"{notebook[:2]}: {made} in the world {name}, seed {{wildcards.seed}}"
            shell:
                PAPERMILL


rule rq6:
    input:
        [done(*map_schedule.NEEDED, world=world, seed=seed) for world in MAP.values() for seed in MAP_SEEDS],
    output:
        done("rq6", seed=P.seed),
    params:
        **stage("rq6", "16_when_to_mix_or_merge"),
    message:
        "16: RQ6, when to mix and when to merge"
    shell:
        PAPERMILL


rule rq2:
    input:
        done("measuring", "mt-opd", seed=P.seed),
        evaluated("rq2"),
        [done(f"evaluate-{name}", "measuring", world=world, seed=P.seed) for name, world in WORLDS.items()],
    output:
        done("rq2", seed=P.seed),
    params:
        **stage("rq2", "12_rq2_interference_and_synergy"),
    message:
        "12: RQ2, interference and synergy"
    shell:
        PAPERMILL


rule claims:
    input:
        done(*SEEDS, seed=P.seed),
    output:
        done("claims", seed=P.seed),
    params:
        **stage("claims", "21_claims"),
    message:
        "21: the paper's claims"
    shell:
        PAPERMILL
