"""Every domain, by the same questions: splits, demonstrations, wrong steps; then each verifier's own rule."""

import json

import pytest

from m2rl_lib import domains
from m2rl_lib.data import problem_sets
from m2rl_lib.domains import agent, chat, coding, conventions, problems, science

BENCHMARKS = list(domains.DOMAIN_OF)
NAMES = list(domains.ALL)
WORLD = conventions.read_world({"shared": 2, "private": 2, "conflicting": 2}, tuple(domains.DOMAINS))
NONE = conventions.read_world({"shared": 0, "private": 0, "conflicting": 0}, tuple(domains.DOMAINS))
WORLDS = {"words": WORLD, "no words": NONE, "demonstrated": conventions.Demonstrated()}
# composition needs the private words of a world
DRAWN = [(benchmark, name) for benchmark in BENCHMARKS for name in WORLDS if benchmark != "composition" or name == "words"]


def module_of(benchmark):
    return domains.ALL[domains.DOMAIN_OF[benchmark]]


@pytest.mark.parametrize(("benchmark", "world"), DRAWN)
def test_splits_are_disjoint_whatever_the_seed(benchmark, world):
    prompts = {}
    for split in problems.SPLITS:
        drawn = [problems.draw(module_of(benchmark).make, benchmark, split, 30, seed, WORLDS[world]) for seed in (0, 1)]
        prompts[split] = {problems.prompt_of(row) for rows in drawn for row in rows}
    assert sum(map(len, prompts.values())) == len(set.union(*prompts.values()))


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_draw_is_seeded_and_distinct(benchmark):
    rows, again = (problems.draw(module_of(benchmark).make, benchmark, "test", 40, 0, WORLD) for _ in range(2))
    assert rows == again
    assert len({row["problem_id"] for row in rows}) == 40


def test_draw_says_when_problems_run_out():
    with pytest.raises(ValueError, match="facts: only .* distinct test problems, 5000 asked for"):
        problems.draw(domains.general.make, "facts", "test", 5000, 0, WORLD)


@pytest.mark.parametrize(("benchmark", "world"), DRAWN)
def test_right_demonstrations_are_rewarded_and_wrong_steps_are_not(benchmark, world, rng):
    module = module_of(benchmark)
    rows = problems.draw(module.make, benchmark, "train", 60, 3, WORLDS[world])
    # a row survives its journey through a data set as JSON
    rows = [json.loads(json.dumps(row)) for row in rows]
    for think in (True, False):
        assert module.verify([module.demonstrate(row, rng, think=think) for row in rows], rows) == [1.0] * 60
    wrong = [module.demonstrate(row, rng, frozenset([len(rows[0]["steps"]) - 1])) for row in rows]
    assert sum(module.verify(wrong, rows)) <= 3
    assert all(module.answer(text) is not None for text in wrong)


@pytest.mark.parametrize("name", NAMES)
def test_garbage_gets_zero_not_an_error(name):
    row = problem_sets.train_problems(name, 1, 0, WORLD)[0]
    garbage = ["", "<|im_end|>", "<think>", "</think>" * 50, "<think>x</think>", "\x00\ud7ff", "9" * 5000, "<tool_call>" * 100]
    assert domains.ALL[name].verify(garbage, [row] * len(garbage)) == [0.0] * len(garbage)


def test_arithmetic_chain_adds_up(rng):
    for _ in range(200):
        chain = problems.arithmetic_chain(rng, problems.operands(rng, 4, WORLD.words("math")))
        assert all((a + b if sign == "+" else a - b) == result for a, sign, b, result, _ in chain)
        assert all(chain[i][3] == chain[i + 1][0] for i in range(3))
        assert all(0 <= number <= problems.LARGEST for step in chain for number in (step[0], step[3]))


def test_wrong_steps_random_and_systematic(rng):
    steps = [f"{a}+{b}" for a in range(50) for b in range(50)]
    random_ones = [problems.noisy_steps(rng, steps, 0.2, "random") for _ in range(2)]
    assert random_ones[0] != random_ones[1]
    assert 0.15 < len(random_ones[0]) / len(steps) < 0.25
    systematic = [problems.noisy_steps(rng, steps, 0.2, "systematic") for _ in range(2)]
    assert systematic[0] == systematic[1]
    assert 0.15 < len(systematic[0]) / len(steps) < 0.25


def test_science_rows_that_cannot_be_graded():
    rows = [{"expected_answer": "Z", "options": [{"A": "1"}]}, {"expected_answer": "B", "options": [{"A": "1"}, {"B": None}]}]
    assert science.verify(["</think>Answer: Z", "</think>Answer: B"], rows) == [None, None]


TESTS = {"unit_tests": {"inputs": ["2\n", "5\n"], "outputs": ["4\n", "10\n"]}}
DOUBLE = {"domain": "coding", "verifier_metadata": TESTS | {"limits": coding.MICRO_LIMITS}}


def test_coding_gives_none_where_the_sandbox_failed_and_a_rows_own_limits(monkeypatch):
    asked, text = [], "</think>```python\nprint()\n```"
    monkeypatch.setattr(coding.sandbox, "run_programs", lambda programs, inputs, **limits: asked.append(limits) or [None])
    assert coding.verify([text, "no program", text], [DOUBLE, DOUBLE, {"verifier_metadata": TESTS}]) == [None, 0.0, None]
    assert asked == [coding.MICRO_LIMITS, {"timeout_seconds": 10.0, "memory_bytes": 4 * 2**30}]


def test_coding_row_without_tests_cannot_be_graded():
    tests = [None, {}, {"inputs": [], "outputs": []}, {"inputs": ["1"], "outputs": [1]}, {"inputs": ["1"], "outputs": []}]
    rows = [{"verifier_metadata": {"unit_tests": some}} for some in tests]
    assert coding.verify(["</think>```python\nprint()\n```"] * 5, rows) == [None] * 5


@pytest.fixture
def agent_row():
    return problems.draw(agent.make, "workplace", "train", 1, 0, WORLD)[0]


def as_turns(*bodies):
    return chat.tool_turn(["?"]).join(f"{body}{chat.END}" for body in bodies)


def test_agent_is_graded_by_the_state_it_leaves(agent_row):
    read, write = (f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in agent_row["ground_truth"])
    assert agent.verify([as_turns(read, write, "Done.")], [agent_row]) == [1.0]
    assert agent.verify([as_turns(write, "Done.")], [agent_row]) == [1.0]  # how it knew is not asked
    assert agent.verify([as_turns(read, "Done.")], [agent_row]) == [0.0]


@pytest.mark.parametrize(
    "call",
    [
        '{"name": "drop_tables", "arguments": {}}',
        '{"name": "set_customer", "arguments": {"name": 3, "value": NaN}}',
        '{"name": "set_customer", "arguments": {"name": "Ann", "value": true}}',
        '{"name": ["set_customer"], "arguments": []}',
        "[" * 100_000,
        "null",
    ],
)
def test_agent_bad_calls_answer_with_an_error(call, agent_row):
    workplace = agent.environment(agent_row)
    before = json.dumps(workplace.tables)
    assert workplace.call(call).startswith("error")
    assert json.dumps(workplace.tables) == before


@pytest.mark.parametrize("benchmark", agent.BENCHMARKS)
def test_agent_that_does_nothing_is_never_right(benchmark):
    for world in WORLDS.values():
        rows = problems.draw(agent.make, benchmark, "test", 400, 0, world)
        assert not any(agent.verify(["Done."] * len(rows), rows))
