"""Where a study's rows come from and what became of them: what notebook 01 shows, and `python -m m2rl_lib.datasets.report
params/paper.yaml` makes and prints before anything is trained."""

import sys

import pandas as pd

from m2rl_lib import hub, study
from m2rl_lib.datasets import blend, is_micro, sft_blend

COLUMNS = ["corpus", "part", "domain", "reason", "rows", "share"]


def source_table(names: list[str], sources: list[str]) -> pd.DataFrame:
    """corpus ('RL', 'SFT'), part (label or published part), domain, reason ('kept', or why rows were dropped), rows, share.

    In the micro world one line a domain, without a number: its problems are drawn as they are needed. Otherwise the data are
    made ready where they are not; a corpus that `sources` has nothing for is left out.
    """
    if is_micro(sources):
        rows = [("RL, SFT", "micro", name, "kept: drawn as needed", pd.NA, 1.0) for name in names]
        return pd.DataFrame(rows, columns=COLUMNS).astype({"rows": "Int64"})
    frames = []
    if hub.find_dataset(sources, blend.BLEND):
        drops = pd.read_csv(blend.prepare_rows(sources) / "drops.csv", keep_default_na=False)
        frames.append(drops.rename(columns={"label": "part"}).assign(corpus="RL"))
    if any(hub.find_dataset(sources, name) for name in sft_blend.parts()["source_dataset"]):
        drops = pd.read_csv(sft_blend.prepare_examples(sources) / "drops.csv", keep_default_na=False)
        frames.append(drops.assign(corpus="SFT", domain=""))
    if not frames:
        raise hub.SourceError(f"data_sources has neither {blend.BLEND} nor an SFT data set of the paper")
    return pd.concat(frames, ignore_index=True)[COLUMNS].astype({"rows": "Int64"})


def main(arguments: list[str]) -> str:
    """The table of a parameter file, as text."""
    if len(arguments) != 1:
        raise study.ParameterError("usage: python -m m2rl_lib.datasets.report params/<study>.yaml")
    p = study.load(arguments[0])
    return source_table(p.domains, p.data_sources).to_string(index=False)


if __name__ == "__main__":
    try:
        print(main(sys.argv[1:]))
    except ValueError as error:
        sys.exit(str(error))
