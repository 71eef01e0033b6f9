"""Instruction checkers in a bounded process (this file run as a script): if-verifiable's, and ours (`constraint_checks`)."""

import logging
import re

from m2rl_lib.domains import constraints
from m2rl_lib.domains.problems import Unusable
from m2rl_lib.sandbox.bounded import Bounded, Failed, Overrun, serve

LANGUAGES = {"language:response_language", "change_case:english_capital", "change_case:english_lowercase"}

_log = logging.getLogger(__name__)
_checkers = Bounded(__file__)


def follows_all(ids: list, kwargs: list, response: str) -> float | None:
    """1.0 where `response` follows every instruction, else 0.0 (also after half a second); None where that cannot be checked."""
    try:
        return _checkers.ask([ids, kwargs, response])
    except Overrun:
        return 0.0
    except Failed as error:
        _log.warning("%s", error)
        return None


def _library() -> dict:
    """if-verifiable's checker classes by instruction, without its downloads."""
    import nltk

    from m2rl_lib.domains import constraint_checks

    nltk.download = lambda *names, **more: False
    nltk.word_tokenize = constraint_checks.tokens
    from if_verifiable.ifbench import instructions_registry as ifbench
    from if_verifiable.ifbench import instructions_util as ifbench_util
    from if_verifiable.ifeval import instructions_registry as ifeval
    from if_verifiable.ifeval import instructions_util as ifeval_util

    ifbench_util.count_stopwords = lambda text: sum(w.lower() in constraint_checks.STOP_WORDS for w in re.findall(r"\w+", text))
    ifeval_util.count_sentences = lambda text: len(constraint_checks.punkt_sentences(text))
    return {**ifeval.INSTRUCTION_DICT, **ifbench.INSTRUCTION_DICT}


def _serve() -> None:
    import langdetect

    from m2rl_lib.domains.constraint_checks import OWN

    library = _library()
    langdetect.DetectorFactory.seed = 0

    def check(name: str, arguments: dict):
        """A function of the text. Raises where the library refuses the arguments."""
        if name in OWN:
            return lambda text: OWN[name](text, **arguments)
        made = library[name](name)
        made.build_description(**arguments)
        return made.check_following

    def follows(name: str, checker, text: str) -> bool:
        if name in LANGUAGES and not any(sign.isalpha() for sign in text):
            return False  # the library counts what has no letters as any language
        try:
            return bool(checker(text))
        except Exception:  # the text's fault: the arguments were good
            return False

    def answer(question: list) -> float | None:
        ids, kwargs, text = question
        try:
            checkers = [check(name, constraints.read_arguments(name, given)) for name, given in zip(ids, kwargs, strict=True)]
        except (Unusable, KeyError, TypeError, ValueError):  # the row's fault
            return None
        return float(bool(text.strip()) and all(map(follows, ids, checkers, [text] * len(ids)))) if checkers else None

    answer([["language:response_language", "words:start_verb"], [{"language": "en"}, {}], "It rains."])
    serve(answer, processor_seconds=0.5)


if __name__ == "__main__":
    _serve()
