"""Every notebook on the public blends: `make blend` runs a whole study by its own graph on small files of the published form.

Problems by the hundred, since 2% and 4% of them are held out, and easy ones, so that a micro-size model, taken from a folder like one
of the Hub, gets some right and some wrong after 200 steps of SFT. The values are the smoke study's otherwise.
"""

import subprocess
import sys

import corpora
import nbformat
import published_form as form
import pytest
import yaml

from m2rl_lib.cli import data_report
from m2rl_lib.config import locations, study
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import rl_blend, sft_corpus
from m2rl_lib.evaluation import judging
from m2rl_lib.storage import result_tables
from m2rl_lib.training import micro_model

pytestmark = pytest.mark.slow  # `make blend`
NAME = "smoke-blend"  # its figures are ignored by git, as the smoke study's are
DOMAINS = ["math", "coding", "science", "instruction_following"]
COUNT = 500  # problems of each domain
LONG = 3  # further ones of math, which RL may not take
QUIET = ["--rerun-triggers", "mtime", "params", "input", "--rerun-incomplete", "--nolock", "--quiet", "rules", "host", "progress"]
CHANGES = {"sft_steps": 200, "rlvr_prompt_tokens": 100, "data_wrong_share": 0.0, "evaluate_samples": 4, "domains": DOMAINS}
NO_WORDS = {"shared": 0, "private": 0, "conflicting": 0}  # a blend has no words of two readings
CHANGES |= {"data_world": NO_WORDS, "data_thinking": {}}


def write_world(folder) -> None:
    """The blends, small: `COUNT` problems of each domain, the odd rows, and an SFT corpus that shows the form of an answer."""
    letters = ["ABCI"[i % 4] for i in range(COUNT)]
    some = [form.placeholder("dapo17k", i, {"prefix": "Put your answer in \\boxed{}."}) for i in range(COUNT + LONG)]
    some += [form.mcqa(f"Which letter has number {i}?", form.FOUR, letter) for i, letter in enumerate(letters)]
    some += [form.following(f"Say {i} without commas.", ["punctuation:no_comma"], [{"num_words": None}]) for i in range(COUNT)]
    some += [form.program(f"Print {i} plus n.", ["1\n"], [f"{i + 1}\n"]) for i in range(COUNT)]
    some += [row for row, _ in form.RL if "_hf_placeholder" not in row]
    texts = [f"What is {i} plus 1?" for i in range(COUNT)] + [f"What is {i} plus 1? " + "Think well. " * 60 for i in range(LONG)]
    dapo = [form.problem(form.DAPO.format(text), str(i + 1)) for i, text in enumerate(texts)]
    form.write_rl(folder, some, dapo, form.SKYWORK)

    def shown(text: str, answer: str) -> dict:
        return form.conversation(form.user(text), {"role": "assistant", "reasoning_content": "so", "content": answer})

    science = [shown(f"Which letter has number {i}?", f"Answer: {letters[i]}") for i in range(80)]
    chats = [shown(f"Say {i} without commas.", f"I say, {i}." if i % 2 else f"{i}") for i in range(80)]
    form.write_sft(folder, science, chats)


def write_base(folder) -> None:
    """An untrained micro model as a folder of the Hub has it."""
    rows = corpora.corpus(DOMAINS, sft_judge=1)
    tokenizer = micro_model.train_tokenizer(sft_corpus.corpus_texts(rows), 400, 512)
    micro_model.build_model(tokenizer, hidden_size=64, layers=2, heads=2, context=512, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def p() -> Parameters:
    """The parameters of the study, which has run; what of it is there already is not run again."""
    folder = locations.RUNS / f"{NAME}-files"
    if not (folder / "base").is_dir():
        write_world(folder / "mirror")
        write_base(folder / "base")
    values = yaml.safe_load((locations.ROOT / "params" / "smoke.yaml").read_text()) | CHANGES
    values |= {"study": NAME, "data_sources": [str(folder / "mirror")], "sft_base_model": str(folder / "base")}
    path = folder / f"{NAME}.yaml"
    path.write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--config", f"params={path}", *QUIET]
    subprocess.run(command, cwd=locations.ROOT, check=True)
    return Parameters.model_construct(**study.load(path).model_dump())


def test_every_notebook_ran_to_its_end(p):
    copies = list((locations.study_folder(NAME) / "notebooks" / f"seed-{p.seed}").glob("*.ipynb"))
    assert {path.name[:2] for path in copies} == {path.name[:2] for path in (locations.ROOT / "notebooks").glob("*.ipynb")}
    assert len(result_tables.read_table(p, "claims", ["claims"])) > 15  # the ledger is written
    for path in copies:
        assert not [o for cell in nbformat.read(path, 4).cells for o in cell.get("outputs", []) if o.output_type == "error"]


def test_long_prompts_are_in_the_report(p):
    table = data_report.source_table(p).query("corpus == 'RL'")
    long = table[table["reason"] == f"a training prompt of more than {p.rlvr_prompt_tokens} tokens"]
    assert long[["part", "domain", "rows"]].values.tolist() == [["dapo17k", "math", LONG]]
    counted = list(rl_blend.prepare_rows(p.data_sources).glob("math-train.*.npz"))
    assert len(counted) == 1  # the report and RL count by the same tokenizer
    assert table["rows"].sum() == 4 * COUNT + LONG + sum("_hf_placeholder" not in row for row, _ in form.RL)


def test_what_is_measured_on_the_held_out_problems(p):
    scores = result_tables.read_table(p, "scores", ["sft"])
    assert set(scores["benchmark"]) == {f"{domain}_blend" for domain in DOMAINS}
    means = scores[scores["model"] == "sft"].groupby("domain")["correct"].mean()
    assert means.between(0, 1, inclusive="neither").any()  # something to judge, and to measure a path on
    transfer = result_tables.read_table(p, "transfer", ["rq2"])
    assert "manipulated" not in set(transfer["origin"].dropna())  # nothing was built in
    judged = result_tables.read_table(p, "judging", ["judging"])
    assert judging.SHARED in set(judged["set"]) and not {judging.PLANTED, judging.SHIFTED} & set(judged["set"])
    paths = result_tables.read_table(p, "paths", ["measuring"])
    samples = judging.read_samples(p, ["sft", "experts", "mixed"], "selection")
    solved = samples[(samples["correct"] == 1) & ~samples["truncated"]].groupby("domain")["problem_id"].nunique()
    counted = paths.groupby("domain")["n"].first().to_dict()
    assert counted and counted == solved.clip(upper=p.rlvr_selection_problems).to_dict()
    assert result_tables.read_table(p, "barriers", ["measuring"])["barrier"].notna().all()
