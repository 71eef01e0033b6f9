"""All benchmarks, one after the other, and the page that holds their tables: `make bench`.

    python dev/run.py [--params params/study.yaml] [--peer mergelm=PATH] [--out dev/RESULTS.md]

Each script also runs on its own. The JSON of all is written beside the page. Run it on an idle machine; the load before each is written down.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import peers
import study_times
from common import stamp, table

HERE = Path(__file__).parent
NOTES = HERE / "NOTES.md"  # what was tried and did not help: written by hand


def run(took: dict[str, float], script: str, *arguments: str) -> object:
    """The JSON that a benchmark prints, its seconds put into `took`. Exits with its last line where it fails."""
    print(f"{script} …", flush=True)
    started = time.perf_counter()
    done = subprocess.run([sys.executable, HERE / script, *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{script} failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
    took[script] = time.perf_counter() - started
    print(f"{script}: {took[script]:.0f} s", flush=True)
    return json.loads(done.stdout[done.stdout.index("[\n" if done.stdout.lstrip().startswith("[") else "{") :])


def page(results: dict) -> str:
    """The page: a section a benchmark."""
    at, times = results["stamp"], results["study"]
    seeded = " (in brackets the seed)" if "[" in "".join(times["chain"]) else ""
    versions = ", ".join(f"{name} {version}" for name, version in at["versions"].items())
    lines = [
        "# Speed, measured",
        "",
        f"Written by `make bench` on {at['date'][:10]}: {at['machine']}; load average {at['load_average']} before it; commit {at['commit']};",
        f"Python {at['python']}, {versions}. It took {sum(results['took'].values()) / 60:.0f} minutes: "
        + ", ".join(f"{script.removesuffix('.py')} {seconds:.0f} s" for script, seconds in results["took"].items())
        + ".",
        "",
        "## An RLVR step beside a bare TRL GRPOTrainer",
        "",
        "Medians; both in one process, one thread, in turns; the same model, prompts, rewards and settings.",
        "",
        *table(results["rlvr_step"]),
        "## Sampling for evaluation beside `model.generate`",
        "",
        *table(results["generating"]),
        "## Verdicts",
        "",
        *table(results["verifying"]),
        "The sandbox's own scoreboard is [HOSTILE.md](HOSTILE.md).",
        "",
        "## Merging beside mergekit's command line",
        "",
        "Random bfloat16 models; the page of its own is [MERGING.md](MERGING.md).",
        "",
        *table(results["merging"]["tables"]["growth"]),
        *table(results["merging"]["tables"]["methods"]),
        *table(results["merging"]["tables"]["whole"]),
        *peers.page(results["merging"]),
        "## Weight analysis beside a script that loads whole state dicts",
        "",
        "Six random bfloat16 checkpoints; the page of its own is [WEIGHTS.md](WEIGHTS.md).",
        "",
        *table(results["weights"]["table"]),
        "## The study",
        "",
        study_times.say(times),
        "",
        *table(times["parts"]),
        f"The chain that decided the end{seeded}: {' → '.join(times['chain'])}.",
        f"`make study` where nothing changed: {times['nothing changed, seconds']:.1f} s.",
        "",
        "Stages, medians over their seeds, the largest peak:",
        "",
        *table(times["stages"]),
        "Imports of each notebook, in a fresh interpreter (the median of its runs):",
        "",
        *table(times["start-up"]),
    ]
    return "\n".join(lines) + (f"\n{NOTES.read_text()}" if NOTES.is_file() else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", default="params/study.yaml", help="the study whose times are read")
    parser.add_argument("--peer", help="a peer's checkout, timed beside ours where it merges: mergelm=PATH")
    parser.add_argument("--out", type=Path, default=HERE / "RESULTS.md")
    arguments = parser.parse_args()
    if arguments.peer:
        peers.read_peer(arguments.peer)  # refused before any work
    took: dict[str, float] = {}
    results = {"stamp": stamp(), "took": took, "study": run(took, "study_times.py", arguments.params)}
    for name in ("rlvr_step", "generating", "verifying"):
        results[name] = run(took, f"{name}.py")
    for name in ("weights", "merging"):
        more = ["--peer", arguments.peer] if name == "merging" and arguments.peer else []
        results[name] = run(took, f"{name}.py", "--out", str(HERE / f"{name.upper()}.md"), *more)
    arguments.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    arguments.out.write_text(page(results))
    print(f"written: {arguments.out} and {arguments.out.with_suffix('.json')}")


if __name__ == "__main__":
    main()
