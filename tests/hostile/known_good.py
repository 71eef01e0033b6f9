"""Honest programs in the styles that people and models write, with inputs and answers known independently of them."""

import math
import random

HEAD = "import sys\n"
# (program, what it must print for the list of numbers it is given)
STYLES = [
    ("n = int(input())\nprint(sum(map(int, input().split())))", sum),
    (HEAD + "data = sys.stdin.read().split()\nprint(max(map(int, data[1:])))", max),
    (HEAD + "input = sys.stdin.readline\nn = int(input())\na = list(map(int, input().split()))\nprint(min(a))", min),
    ("n, *a = map(int, open(0).read().split())\nprint(sorted(a)[0])", min),
    (
        HEAD
        + "def main():\n    input()\n    print(len({*input().split()}))\n    sys.exit(0)\nif __name__ == '__main__':\n    main()",
        lambda a: len(set(a)),
    ),
    ("input()\na = [int(x) for x in input().split()]\nprint(sum(a))\nexit()", sum),
    (
        HEAD
        + "import threading\nsys.setrecursionlimit(10 ** 6)\nthreading.stack_size(1 << 25)\ndef main():\n    input()\n    a = list(map(int, input().split()))\n"
        "    def add(i): return 0 if i == len(a) else a[i] + add(i + 1)\n    print(add(0))\nt = threading.Thread(target=main)\nt.start()\nt.join()",
        sum,
    ),
    (
        "from collections import Counter, deque\ninput()\nprint(max(Counter(input().split()).values()))",
        lambda a: max(map(a.count, a)),
    ),
    ("import heapq\ninput()\nh = list(map(int, input().split()))\nheapq.heapify(h)\nprint(heapq.heappop(h))", min),
    (
        "class Solution:\n    def __init__(self): self.total = 0\n    def add(self, xs):\n        for x in xs: self.total += x\n        return self.total\n"
        "input()\nprint(Solution().add(map(int, input().split())))",
        sum,
    ),
    (
        "from functools import lru_cache\ninput()\na = tuple(map(int, input().split()))\n@lru_cache(None)\ndef f(i): return 0 if i < 0 else f(i - 1) + a[i]\nprint(f(len(a) - 1))",
        sum,
    ),
    (
        "from typing import List\nimport math\ndef f(a: List[int]) -> int:\n    return math.prod(a) % 1000007\ninput()\nprint(f([int(x) for x in input().split()]))",
        lambda a: math.prod(a) % 1000007,
    ),
    ("a = []\nwhile True:\n    try: a += input().split()\n    except EOFError: break\nprint(a[-1])", lambda a: a[-1]),
    (
        "class Node:\n    def __init__(self, v): self.v, self.next = v, None\ninput()\nhead = None\nfor x in input().split():\n    node = Node(int(x)); node.next = head; head = node\n"
        "total = 0\nwhile head: total += head.v; head = head.next\nprint(total)",
        sum,
    ),
    (
        "from decimal import Decimal as D, getcontext\ngetcontext().prec = 50\ninput()\nprint(int(sum(map(D, input().split()))))",
        sum,
    ),
    ("import re\nprint(len(re.findall(r'\\d+', open(0).read())) - 1)", len),
    (
        "from dataclasses import dataclass\n@dataclass\nclass P: x: int\ninput()\nprint(sum(P(int(t)).x for t in input().split()))",
        sum,
    ),
    (
        "import asyncio\nasync def main():\n    input()\n    a = list(map(int, input().split()))\n    await asyncio.sleep(0)\n    print(sum(a))\nasyncio.run(main())",
        sum,
    ),
    (
        "import tempfile\nwith tempfile.TemporaryFile('w+') as f:\n    input(); f.write(input()); f.seek(0)\n    print(sum(map(int, f.read().split())))",
        sum,
    ),
    (
        "import atexit, random\nrandom.seed(1)\ninput()\na = list(map(int, input().split()))\nrandom.shuffle(a)\natexit.register(lambda: print(sum(a)))",
        sum,
    ),
    ("import os\ninput()\na = list(map(int, input().split()))\nos.write(1, f'{max(a)}\\n'.encode())\nos._exit(0)", max),
    ("input()\na = list(map(int, input().split()))\nfor i in range(20000): a[0] += i % 2\nprint(a[0] - 10000)", lambda a: a[0]),
]


def make_programs(count: int, tests: int, seed: int) -> list[tuple[str, list[str], list[bytes]]]:
    """`count` distinct (program, inputs, answers), `tests` inputs each, in turn over the styles."""
    draw, made = random.Random(seed), []
    for at in range(count):
        program, answer = STYLES[at % len(STYLES)]
        lists = [[draw.randint(1, 999) for _ in range(draw.randint(1, 60))] for _ in range(tests)]
        inputs = [f"{len(numbers)}\n{' '.join(map(str, numbers))}\n" for numbers in lists]
        made.append((f"{program}\n# {at}\n", inputs, [str(answer(numbers)).encode() for numbers in lists]))
    return made
