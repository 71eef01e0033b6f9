"""IFEval's own instruction checkers, by if-verifiable in a bounded process (this file run as a script).

Some of their patterns go through all of a text again for every bracket in it, and language detection is seeded for a
whole process, so they run in one of their own. The registry's loop is not used: it skips unknown ids (which then
count as followed) and draws missing arguments at random.
"""

import inspect
import logging

from m2rl_lib.sandbox.bounded import Bounded, Failed, Overrun, serve

NEEDS_DOWNLOAD = {"length_constraints:number_sentences", "change_case:capital_word_frequency"}  # NLTK data
LANGUAGE = "language:response_language"

_log = logging.getLogger(__name__)
_checkers = Bounded(__file__)


def follows_all(ids: list, kwargs: list, prompt: str, response: str) -> float | None:
    """1.0 where `response` follows every instruction, else 0.0, also where it keeps the checkers busy for more than
    half a second.

    None where `ids` is empty, has an id that IFEval does not have or that needs a download, or arguments are missing
    or of the wrong type; and where the checkers themselves fail. From any thread.
    """
    try:
        return _checkers.ask([ids, kwargs, prompt, response])
    except Overrun:
        return 0.0
    except Failed as error:
        _log.warning("%s", error)
        return None


def _serve() -> None:
    import langdetect
    from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT

    langdetect.DetectorFactory.seed = 0

    def checker(instruction_id: object, given: dict | None, prompt: str):
        """The checker of one instruction, its arguments set. Raises where they are not what it takes."""
        if instruction_id in NEEDS_DOWNLOAD:
            raise KeyError(instruction_id)
        made = INSTRUCTION_DICT[instruction_id](instruction_id)
        arguments = {name: value for name, value in (given or {}).items() if value is not None}
        expected = set(inspect.signature(made.build_description).parameters)
        if expected - arguments.keys() == {"prompt_to_repeat"}:
            arguments["prompt_to_repeat"] = prompt
        if expected != arguments.keys():
            raise TypeError(f"{instruction_id} takes {expected}")
        made.build_description(**arguments)
        return made

    def follows(made, response: str) -> bool:
        if made.id == LANGUAGE and not any(sign.isalpha() for sign in response):
            return False  # IFEval counts what has no letters as any language
        try:
            return bool(made.check_following(response))
        except Exception:  # the text's fault: the arguments were good
            return False

    def answer(question: list) -> float | None:
        ids, kwargs, prompt, response = question
        try:
            checkers = [checker(*pair, prompt) for pair in zip(ids, kwargs, strict=True)]
        except Exception:  # the row's fault
            return None
        if not checkers:
            return None
        return float(bool(response) and all(follows(made, response) for made in checkers))

    answer([[LANGUAGE], [{"language": "en"}], "", "It rains."])
    serve(answer, processor_seconds=0.5)


if __name__ == "__main__":
    _serve()
