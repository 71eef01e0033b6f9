"""Paths between models: planted barriers, and losses against a plain loop."""

import numpy as np
import pandas as pd
import pytest
import torch

from m2rl_lib.analysis.rq4_methods import straight_paths
from m2rl_lib.data import sft_corpus
from m2rl_lib.training import micro_model


def path(losses, start="a", end="b", domain="math"):
    shares = np.linspace(0, 1, len(losses))
    return pd.DataFrame({"start": start, "end": end, "share": shares, "domain": domain, "loss": losses})


def test_barriers_are_those_that_were_planted():
    """A double well (x² − 1)² from well to well has the barrier 1; a slope and a bowl have none."""
    x = np.linspace(-1, 1, 9)
    frame = pd.concat([path((x**2 - 1) ** 2, end="well"), path(3 - x, end="slope"), path(x**2, end="bowl")])
    found = straight_paths.barriers(frame).query("domain == 'math'").set_index("end")["barrier"]
    assert found.to_dict() == pytest.approx({"well": 1.0, "slope": 0.0, "bowl": 0.0})


def test_the_overall_barrier_is_of_the_mean_loss():
    """Domains that rise and fall against each other have barriers each, and none together."""
    found = straight_paths.barriers(pd.concat([path([0, 1, 0]), path([0, -1, 0], domain="coding")]))
    assert found.set_index("domain")["barrier"].to_dict() == {"math": 1.0, "coding": 0.0, "overall": 0.0}


def test_paths_run_between_the_published_models(smoke, publish_model, tokenizer):
    smoke.domains = ["math", "agent"]
    trained = enumerate(["rl-math", "rl-agent", "rl-multi"])
    built = {name: micro_model.build_model(tokenizer, 32, 2, 2, 512, seed) for seed, name in trained}
    base = publish_model("sft", micro_model.build_model(tokenizer, 32, 2, 2, 512, 9))
    for name, model in built.items():
        publish_model(name, model, [base])
    frame, barriers = straight_paths.run(smoke)
    assert set(zip(frame["start"], frame["end"])) == set(straight_paths.ends(smoke.domains)) and len(barriers) == 5 * 3
    for (_, _, _), part in frame.groupby(["start", "end", "domain"]):
        assert part["share"].tolist() == [0, 0.25, 0.5, 0.75, 1]

    halfway = micro_model.build_model(tokenizer, 32, 2, 2, 512, 9)
    with torch.no_grad():
        for mine, one, other in zip(halfway.parameters(), built["rl-math"].parameters(), built["rl-agent"].parameters()):
            mine.copy_((one + other) / 2)
        solved, total, count = straight_paths.solutions(smoke)["agent"], 0.0, 0
        for one in (sft_corpus.tokenise(tokenizer, example) for example in solved):
            log = halfway(input_ids=torch.tensor([one["input_ids"]])).logits[0].log_softmax(-1)
            for place, label in list(enumerate(one["labels"]))[1:]:
                if label != -100:
                    total, count = total - float(log[place - 1, label]), count + 1
    found = frame.query("start == 'rl-math' and end == 'rl-agent' and share == 0.5 and domain == 'agent'")["loss"].item()
    assert found == pytest.approx(total / count, rel=1e-4)


def test_a_loss_does_not_depend_on_how_solutions_are_batched(smoke, tokenizer):
    model = micro_model.build_model(tokenizer, 32, 2, 2, 512, 0)
    smoke.rlvr_selection_problems = 7
    solved = straight_paths.solutions(smoke)["agent"] + straight_paths.solutions(smoke)["math"]
    found = []
    for tokens in (1, 400, 10**6):
        batches = straight_paths.pad_batches(tokenizer, solved, tokens)
        assert sum(len(batch["labels"]) for batch in batches) == 14
        assert all(len(b["labels"]) == 1 or b["labels"].numel() <= tokens for b in batches)
        found.append(straight_paths.losses(model, model.state_dict(), {"all": batches})["all"])
    assert len(straight_paths.pad_batches(tokenizer, solved, 1)) == 14 and len(batches) == 1
    assert found == pytest.approx([found[0]] * 3, rel=1e-5)
