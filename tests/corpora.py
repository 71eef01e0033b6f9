"""SFT's corpus at a test's size."""

from m2rl_lib.config import study
from m2rl_lib.config.locations import ROOT
from m2rl_lib.data import sft_corpus

SIZES = {
    "sft_demonstrations": 20,
    "sft_general": 10,
    "sft_judge": 8,
    "sft_shifted_share": 0.2,
    "data_wrong_share": 0.2,
    "data_thinking": {},
}


def corpus(domains: list[str], **changes) -> list[dict]:
    """The smoke study's corpus of `domains`, of `SIZES` and with `changes` of its parameters."""
    smoke = study.load(ROOT / "params" / "smoke.yaml")
    return sft_corpus.sft_corpus(smoke.model_copy(update={"domains": domains, "seed": 0} | SIZES | changes))
