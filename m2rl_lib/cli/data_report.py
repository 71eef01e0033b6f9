"""Where a study's rows come from and what was dropped: notebook 01, and `python -m m2rl_lib.cli.data_report FILE`."""

import sys

import pandas as pd

from m2rl_lib.config import study
from m2rl_lib.config.study import Parameters
from m2rl_lib.data import problem_sets, prompt_limit, rl_blend, sft_blend
from m2rl_lib.storage import hub
from m2rl_lib.training import base_models

COLUMNS = ["corpus", "part", "domain", "reason", "rows", "share"]


def source_table(p: Parameters) -> pd.DataFrame:
    """corpus ('RL', 'SFT'), part (label or published part), domain, reason ('kept', or why rows were dropped), rows, share. Data
    are made ready where they are not; a corpus that `data_sources` has nothing for is left out."""
    if problem_sets.is_micro(p.data_sources):
        rows = [("RL, SFT", "micro", name, "kept: drawn as needed", pd.NA, 1.0) for name in p.domains]
        return pd.DataFrame(rows, columns=COLUMNS).astype({"rows": "Int64"})
    frames = []
    if hub.find_dataset(p.data_sources, rl_blend.BLEND):
        folder = rl_blend.prepare_rows(p.data_sources)
        drops = leave_out_long(pd.read_csv(folder / "drops.csv", keep_default_na=False), long_prompts(p))
        frames.append(drops.rename(columns={"label": "part"}).assign(corpus="RL"))
    if any(hub.find_dataset(p.data_sources, name) for name in sft_blend.OWNER + sft_blend.parts()["source_dataset"]):
        drops = pd.read_csv(sft_blend.prepare_examples(p.data_sources) / "drops.csv", keep_default_na=False)
        frames.append(drops.assign(corpus="SFT", domain=""))
    if not frames:
        raise hub.SourceError(f"data_sources has neither {rl_blend.BLEND} nor an SFT data set of the paper")
    return pd.concat(frames, ignore_index=True)[COLUMNS].astype({"rows": "Int64"})


def long_prompts(p: Parameters) -> pd.DataFrame:
    """label, reason, rows: training rows that RL leaves out for the length of their prompts; none for the micro model."""
    found = []
    if p.sft_base_model != problem_sets.MICRO:
        limit = prompt_limit.PromptLimit(base_models.load_tokenizer(p.sft_base_model), p.rlvr_prompt_tokens)
        folder = rl_blend.prepare_rows(p.data_sources)
        for name in p.domains:
            tokens, labels = prompt_limit.count_prompts(folder, name, limit)
            long = labels[tokens > limit.tokens] if name != prompt_limit.FREE else labels[:0]
            counts = pd.Series(long).str.removeprefix(rl_blend.PREFIX).value_counts()
            reason = f"a training prompt of more than {limit.tokens} tokens"
            found += [(label, reason, count) for label, count in counts.items()]
    return pd.DataFrame(found, columns=["label", "reason", "rows"])


def leave_out_long(drops: pd.DataFrame, long: pd.DataFrame) -> pd.DataFrame:
    """The drop table of the blend, of whose kept rows those of `long` are taken out under their own reason."""
    kept = drops[drops["reason"] == "kept"].set_index("label")
    out = long.assign(domain=long["label"].map(kept["domain"]))
    out["share"] = out["rows"] * (kept["share"] / kept["rows"]).reindex(out["label"]).to_numpy()
    fewer = drops["label"].map(long.set_index("label")["rows"]).where(drops["reason"] == "kept").fillna(0).astype(int)
    rest = drops.assign(rows=drops["rows"] - fewer, share=drops["share"] * (1 - fewer / drops["rows"]))
    return pd.concat([rest, out]).sort_values(["domain", "label"], kind="stable", ignore_index=True) if len(out) else drops


def main(arguments: list[str]) -> str:
    """The table of a parameter file, as text."""
    if len(arguments) != 1:
        raise study.ParameterError("usage: python -m m2rl_lib.cli.data_report params/<study>.yaml")
    return source_table(study.load(arguments[0])).to_string(index=False)


if __name__ == "__main__":
    try:
        print(main(sys.argv[1:]))
    except ValueError as error:
        sys.exit(str(error))
