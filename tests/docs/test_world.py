"""docs/world.md: its words, examples and predictions are those of the default study's world, made anew."""

import pytest

from m2rl_lib.analysis.rq2_transfer import planted
from m2rl_lib.config import study
from m2rl_lib.config.locations import ROOT
from m2rl_lib.data import problem_sets
from m2rl_lib.domains import conventions, problems

PAGE = (ROOT / "docs" / "world.md").read_text()
P = study.load(ROOT / "params" / "study.yaml")
WORLD = problem_sets.world_of(P)


def result(row: dict) -> str:
    """What a demonstration of a row works out."""
    if "plans" not in row:
        return str(row["chain"][-1][3])
    return ", ".join(plan for plan, said in zip(row["plans"], row["said"]) if said)


def examples():
    for name in [*P.domains, "composition"]:
        (row,) = problem_sets.benchmark_problems(problem_sets.benchmarks(name)[0], "test", 1, WORLD)
        read = [{word: readings[at] for word, readings in conventions.READINGS.items()} for at in (0, 1)]
        pair = f" ({', '.join(row['pair'])})" if "pair" in row else ""
        yield [name + pair, problems.prompt_of(row), *(result(conventions.reread(row, words)) for words in read), result(row)]


def expected():
    table = planted.expected_changes(P).pivot(index="trained", columns="tested", values="expected")
    for name in P.domains:
        yield [name, *(f"{value:+.0f}".replace("-0", "0").replace("+0", "0") for value in table.loc[name, P.domains])]


@pytest.mark.parametrize(
    "rows", [[row.values() for row in WORLD.table()], examples(), expected()], ids=["words", "examples", "changes"]
)
def test_tables_are_what_the_generators_make(rows):
    made = "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)
    assert f"|\n{made}\n\n" in PAGE, f"the page should have\n{made}"


def test_one_experts_best_on_composition_is_what_demonstrations_make_it():
    usual, other = conventions.USUAL, 1 - conventions.USUAL
    assert all(sum(map(WORLD.readings(name).get, WORLD.private_words(name))) == 1 for name in P.domains)  # one of each reading
    assert f"the *usual* one in {100 * usual:.0f} of 100" in PAGE
    assert f"{usual} × {other:.2f} = {100 * usual * other:.0f}%" in PAGE
