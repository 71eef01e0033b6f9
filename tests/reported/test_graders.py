"""Cases from public reports and their relatives: a completion, and the reward that is right.

Sources: Math-Verify issues 14 and 76 and its own tests, lm-evaluation-harness 3644, slime 2150, marin 9163, OpenRLHF 1285;
NeMo Gym 128, 820, 1945, 2956, its `mcqa` and `code_gen` verifiers, NeMo Skills 1511 and 1526, inspect_ai 5055;
SandboxFusion 62, LiveCodeBench 118, llm 1695, llama_index 12369, buildozer 35, CommonMark 4.5.
"""

import pytest

from m2rl_lib.domains import coding, mathematics, science
from m2rl_lib.domains.problems import Unusable
from m2rl_lib.evaluation import live_code_bench

CLOSED = r"\(\frac{(3-\sqrt{3})(2-\sqrt{3})^{2016}+(3+\sqrt{3})(2+\sqrt{3})^{2016}}{6}\)"
ARRAY = r"f(x)=\left\{\begin{array}{l}1\\2\end{array}\right."


def grade(module, text: str, **row) -> float | None:
    return module.verify([f"<think>t</think>\n{text}<|im_end|>"], [row])[0]


@pytest.mark.parametrize(
    ("gold", "given", "reward"),
    [
        # no false pass by limited precision
        (r"\frac{1}{2004!}", r"\frac{1}{2006!}", 0),
        (r"\frac{2^{2005}+1}{3 \cdot 2^{2006}}", r"\frac{1}{3 \cdot 2^{2006}}", 0),
        (r"\frac{1}{6}", r"\frac{1}{6}+\frac{1}{3\cdot 2^{2006}}", 0),
        (r"\sqrt{2}", r"\sqrt{2}+\frac{1}{2^{2006}}", 0),
        ("e^{1000}", "e^{1000}+1", 0),
        (r"\frac{\sqrt{2}}{10^{10}}", r"\frac{\sqrt{3}}{10^{10}}", 0),
        ("0.0000001", "0.0000002", 0),
        ("[0,0.0000001]", "[0,0.0000002]", 0),
        ("(1,0.0000001)", "(1,0.0000002)", 0),
        ("x=0.0000001", "x=0.0000002", 0),
        ("10^{-8}", "0", 0),
        ("10^{20}+1", "10^{20}", 0),
        ("2^{100}", "1267650600228229401496703205377", 0),
        (r"\binom{100}{50}", "100891344545564193334812497257", 0),
        ("32", "32.0000001", 0),
        ("1234567", "1234567.2", 0),
        # equal closed forms
        (CLOSED, r"\dfrac{(1+\sqrt{3})^{4033}-(1-\sqrt{3})^{4033}}{2^{2017}\sqrt{3}}", 1),
        (r"\frac{(2+\sqrt3)^n+(2-\sqrt3)^n}{2}", r"\frac{1}{2}(2+\sqrt{3})^n+\frac{1}{2}(2-\sqrt{3})^n", 1),
        (r"\cos(\frac{\pi}{7})", r"\sin(\frac{5\pi}{14})", 1),
        ("0", r"\sqrt{6}-\sqrt{2}\sqrt{3}", 1),
        ("2^{100}", "1267650600228229401496703205376", 1),
        (r"\binom{100}{50}", "100891344545564193334812497256", 1),
        ("x", "|x|", 0),
        # decimals
        (r"\frac{1}{3}", "0.333333", 1),
        (r"\frac{1}{3}", "0.333", 0),
        (r"\pi", "3.141593", 1),
        (r"\pi", "3.14159", 0),
        ("3.1415926535", "3.141593", 1),
        ("12", "12.0", 1),
        ("9\\%", "9", 1),
        ("0.09", "9\\%", 1),
        # marks around and within
        ("73", "**73**", 1),
        (r"\sqrt{2}", r"\sqrt{2} \approx 1.414", 1),
        (r"\sqrt{2}", "1.414", 0),
        ("4", r"\approx 4", 0),
        (ARRAY, ARRAY, 1),
        ("90", "90°", 1),
        ("-3", "−3", 1),
        (r"\sqrt{2}", "√2", 1),
        ("[2,5]", "[2, 5]", 1),
        # plain forms
        ("x^2+2x+1", "(x+1)^2", 1),
        ("7", "007", 1),
        ("4", "4 or 5", 0),
        ("4", "", 0),
    ],
)
def test_math(gold, given, reward):
    assert grade(mathematics, rf"\boxed{{{given}}}", expected_answer=gold) == reward


@pytest.mark.parametrize(
    ("gold", "text", "reward"),
    [
        ("(2,2),(6,2)", r"$\boxed{(2, 2)}$ and $\boxed{(6, 2)}$", 1),
        ("1,2", r"\boxed{1}, \boxed{2}", 1),
        ("4", r"\boxed{4}, \boxed{4}", 1),
        ("4", r"\boxed{4} or \boxed{5}", 0),
        ("42", r"\fbox{42}", 1),
        ("41", r"First \boxed{41}, no, rather \boxed{42", 0),
    ],
)
def test_math_boxes(gold, text, reward):
    assert grade(mathematics, text, expected_answer=gold) == reward


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ("[2,5]", "[2,5]"),
        ('["12", "twelve"]', "12"),
        (r"F_n = \sum_{k=0}^{n-1} F_k F_{n-k-1}", None),
        (r"a_n = a_{n-1} + 2", None),
        ("a_n = 2^n", "a_n = 2^n"),
        (ARRAY, None),
        (r"\frac{", None),
    ],
)
def test_math_keys(answer, read):
    try:
        assert mathematics.read({"expected_answer": answer}, [{"role": "user", "content": "q"}])["expected_answer"] == read
    except Unusable as why:
        assert read is None and "cannot read" in str(why)


BOXED = r"\\boxed\{\s*([A-Za-z])\s*\}"
CHOICE = r"Final Choice:\s*([A-Za-z])\s*"
TAGS = "<final>(.*?)</final>"


@pytest.mark.parametrize(
    ("pattern", "text", "letter"),
    [
        (r"Option Selected:\s*([A-Za-z])\s*", "Option Selected: c", "C"),
        (BOXED, r"Answer: \boxed{c}", "C"),
        (BOXED, r"Answer: \boxed{{B}}", "B"),
        (TAGS, "<final> C </final>", "C"),
        (TAGS, "<final>(C)</final>", "C"),
        (TAGS, "<final>option c text</final>", "C"),
        (CHOICE, "Final Choice: E\n\nA is wrong", "E"),
        (CHOICE, r"so \boxed{D}", "D"),
        (CHOICE, "Final Choice: C or D", None),
        (CHOICE, "Final Choice: Carbon", None),
        (CHOICE, "Answer: D", None),
        (None, "**Answer**: C", "C"),
        (None, "**Answer:** C", "C"),
        (None, "ANSWER: C", "C"),
        (None, r"Answer: \(C\)", "C"),
        (None, "Answer: [D]", "D"),
        (None, "Answer:\nC", "C"),
        (None, "Answer: C (not D)", "C"),
        (None, "Answer: C\n- D is wrong", "C"),
        (None, "Answer: I", "I"),
        (None, "Answer: D\nAnswer: I think so", "D"),
        (None, r"\boxed{\textbf{(C)}}", "C"),
        (None, r"\boxed{\mathrm{C}}", "C"),
        (None, r"\boxed{C: Whole genome}", "C"),
        (None, r"$\fbox{C}$", "C"),
        (None, "**Answer: C**\n\nwhere \\boxed{E = mc^2} was used.", "C"),
        (None, "Answer: D\nThe box \\boxed{H_2O}", "D"),
        (None, "Answer: C or D", None),
        (None, "Answer: A or B", None),
        (None, "Answer: C/D", None),
        (None, r"$\boxed{C}$ and $\boxed{D}$", None),
        (None, r"\boxed{C\text{ or }D}", None),
        (None, r"\boxed{E = mc^2}", None),
        (None, "Answer: Carbon", None),
        (None, r"\boxed{x}", None),
    ],
)
def test_science(pattern, text, letter):
    options = [{option: f"option {option} text"} for option in "ABCDEFGHIJ"]
    asked = {"options": options, "template_metadata": {"output_regex": pattern} if pattern else {}}
    found = {gold: grade(science, text, expected_answer=gold, **asked) for gold in "ABCDEFGHIJ"}
    assert found == {gold: float(gold == letter) for gold in "ABCDEFGHIJ"}


F = "```"


@pytest.mark.parametrize(
    ("text", "program"),
    [
        (f"{F}python\nA\n{F}\nExample:\n{F}\n4\n{F}", "A\n"),
        (f"{F}\nA\n{F}\n{F}\nB\n{F}", "B\n"),
        (f"{F}python\nA\n{F}\n{F}python\nB\n", "A\n"),
        (f"1. S:\n\n   {F}python\n   n\n     p\n   {F}\n", "n\n  p\n"),
        (f"1. {F}py\n   if 1:\n       A\n   {F}", "if 1:\n    A\n"),
        (f"\t{F}python\n\tA\n\t{F}", "A\n"),
        (f'{F}python title="solution.py"\nA\n{F}', "A\n"),
        (f"{F}python3.10\nA\n{F}", "A\n"),
        (f"{F}{{.python}}\nA\n{F}", "A\n"),
        ("~~~python\nA\n~~~", "A\n"),
        (f"`{F}python\nA\n{F}\nB\n{F}`", f"A\n{F}\nB\n"),
        (f"{F}python\nprint('{F}')\n{F}", f"print('{F}')\n"),
        (f"{F}python\nprint(1){F}", "print(1)"),
        (f"{F}python-repl\nA\n{F}", None),
        (f"{F}cpp\nA\n{F}", None),
        (f"{F}py  \r\nA\n{F} b {F}python\nB\n{F}", "B\n"),
        (f"{F}python\nA\n{F}text after\n{F}python3\nB\n{F}", "B\n"),
        (f"{F} then {F}python\nA\n{F}", "A\n"),  # a stray fence does not turn code into prose
        (f"{F}python\nA", None),
        (f"{F}python A{F}", None),
        ("", None),
    ],
)
def test_coding_program(text, program):
    assert coding.answer(f"</think>{text}") == program


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("3.0", "3\n", True),
        ("4\n5", "4\n 5\n", True),
        ("1 2", "1.0  2", True),
        ("1e3", "1000", True),
        ("3.0000001", "3", False),
        ("YES 3.0", "YES 3", False),
        ("a b", "a  b", False),
        ("0011", "11", False),
        ("1_0", "10", False),
        ("4\n\n5", "4\n5", False),
        ("1e999999999999999999999", "2", False),
    ],
)
def test_coding_output(printed, expected, same):
    assert coding.same_output(printed.encode(), expected) is same


def test_coding_output_may_be_as_long_as_the_expected_one():
    program = f"{F}python\nprint('\\n'.join(map(str, range(int(input())))))\n{F}"
    text = "\n".join(map(str, range(20_000)))
    rows = [{"unit_tests": {"inputs": ["20000"], "outputs": [output]}} for output in (text, text[:-1])]
    assert [grade(coding, program, verifier_metadata=row) for row in rows] == [1, 0]


@pytest.mark.parametrize(
    "head", ["", "from __future__ import annotations\n", "'''x'''\nfrom __future__ import (division,\n  annotations)\n"]
)
def test_live_code_bench_program_may_begin_with_future(head):
    tests = {"inputs": ["2"], "outputs": ["4"], "fn_name": None}
    assert live_code_bench.grade_program(f"{head}print(2 * int(input()))", tests) == 1
