"""Our own checks of instructions (departures: docs/grading_instructions_and_workplace.md), where if-verifiable's would not do."""

import re
from collections.abc import Callable
from functools import cache

import nupunkt
from if_verifiable.ifeval.instructions_util import split_into_sentences
from nltk.tokenize import NLTKWordTokenizer

STARS = r"\s?\*\*\*\s?"
_TOKENS = NLTKWordTokenizer()
STOP_WORDS = frozenset(  # NLTK's English list, as far as `\w+` can match it
    """
    i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it its
    itself they them their theirs themselves what which who whom this that these those am is are was were be been being have
    has had having do does did doing a an the and but if or because as until while of at by for with about against between
    into through during before after above below to from up down in out on off over under again further then once here there
    when where why how all any both each few more most other some such no nor not only own same so than too very s t can
    will just don should now d ll m o re ve y ain aren couldn didn doesn hadn hasn haven isn ma mightn mustn needn shan
    shouldn wasn weren won wouldn
    """.split()  # noqa: SIM905
)


def punkt_sentences(text: str) -> list[str]:
    """Sentences by Punkt, with the parameters that nupunkt ships (published: NLTK's, a download)."""
    return nupunkt.sent_tokenize(text) if text.strip() else []


def tokens(text: str) -> list[str]:
    """Words and punctuation as `nltk.word_tokenize` cuts them, sentence by sentence."""
    return [token for sentence in punkt_sentences(text) for token in _TOKENS.tokenize(sentence)]


def count_literal(word: str, text: str) -> int:
    """How often `word` stands in `text`, in any case, also inside words, as published."""
    return len(re.findall(re.escape(word.strip()), text, re.IGNORECASE))


def holds(count: int, relation: str, bound: int) -> bool:
    """`count` is `less than` or `at least` `bound`."""
    return count < bound if relation == "less than" else count >= bound


def _frequency(text: str, keyword: str, frequency: int, relation: str) -> bool:
    return holds(count_literal(keyword, text), relation, frequency)


def _parts(text: str, divider: str) -> list[str] | None:
    """The parts between dividers, an empty first or last one left out; None where one in the middle is empty."""
    parts = re.split(divider, text)
    if any(not part.strip() for part in parts[1:-1]):
        return None
    return [part for part in parts if part.strip()]


def _plain_last(sentence: str) -> str:
    return re.sub(r"[^\w\s]", "", sentence.split()[-1]).lower()


def _word(text: str) -> str:
    return text.strip().lower()


def _nth_paragraph(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    paragraphs = [part.strip() for part in text.split("\n\n") if part.strip()]
    if len(paragraphs) != num_paragraphs:
        return False
    first = paragraphs[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    return re.split(r"[.,?!'\"]", first)[0].lower() == _word(first_word)


def _postscript(text: str, postscript_marker: str) -> bool:
    spaced = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}
    return bool(re.search(spaced.get(postscript_marker.strip(), re.escape(_word(postscript_marker))), text.lower()))


def _letters(text: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    return holds(text.lower().count(letter.lower()), let_relation, let_frequency)


def _repeat_phrase(text: str, phrase: str, small_n: int) -> bool:
    """As many times, each time with one word changed between the phrase's first and last."""
    wanted = phrase.split()
    first, last = re.escape(wanted[0]), re.escape(wanted[-1])
    found = [part.split() for part in re.findall(rf"{first} .*? {last}", text)]
    if len(found) != small_n or any(len(part) != len(wanted) for part in found):
        return False
    return all(sum(a != b for a, b in zip(part, wanted)) == 1 for part in found)


def _copied(text: str, prompt_to_repeat: str) -> bool:
    return _word(text) == _word(prompt_to_repeat)


def _hyphens(text: str) -> bool:
    """Sentences with a hyphen and no blank between them."""
    return all(part == gold for part, gold in zip(text.split("-"), split_into_sentences(text.replace("-", " "))))


def _no_neighbours(text: str) -> bool:
    firsts = [word[0].lower() for word in text.split()]
    return all(len(a) == len(b) == 1 and ord(b) - ord(a) != 1 for a, b in zip(firsts, firsts[1:]))


def _position(text: str, keyword: str, n: int, m: int) -> bool:
    sentences = split_into_sentences(text)
    words = tokens(sentences[n - 1]) if len(sentences) >= n else []
    return len(words) >= m and words[m - 1] == keyword.strip()


def _start_end(text: str) -> bool:
    words = tokens(text)
    return len(words) > 1 and words[0].lower() == words[-1].lower()


def _composition(text: str, n_sent: int, n_words: int) -> bool:
    paragraphs = [split_into_sentences(part) for part in _parts(text, STARS) or ()]
    if len(paragraphs) != 3 or any(len(sentences) != n_sent for sentences in paragraphs):
        return False
    return all(len(tokens(sentence)) == n_words for sentences in paragraphs for sentence in sentences)


@cache
def is_verb(word: str) -> bool:
    """Whether English has `word` as a form of a verb, by lemminflect's dictionary."""
    from lemminflect import getAllLemmas  # a quarter of a second, and for one instruction only

    return word.isalpha() and bool(getAllLemmas(word.lower(), upos="VERB"))


OWN: dict[str, Callable[..., bool]] = {
    "keywords:existence": lambda text, keywords: all(count_literal(word, text) for word in keywords),
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": lambda text, forbidden_words: (
        not any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in forbidden_words)
    ),
    "keywords:letter_frequency": _letters,
    "length_constraints:nth_paragraph_first_word": _nth_paragraph,
    "detectable_content:postscript": _postscript,
    "detectable_format:multiple_sections": lambda text, section_spliter, num_sections: (
        len(re.findall(re.escape(section_spliter.strip()) + r"\s?\d+", text)) >= num_sections
    ),
    "copy:repeat_phrase": _repeat_phrase,
    "copy:copy": _copied,
    "copy:copying_simple": _copied,
    "copy:copying_multiple": lambda text, prompt_to_repeat, N: (
        [_copied(part, prompt_to_repeat) for part in text.split("******")] == [True] * N
    ),
    "new:copy_span_idx": lambda text, prompt_to_repeat, n_start, n_end: _copied(text, prompt_to_repeat[n_start:n_end]),
    "repeat:repeat_span": lambda text, prompt_to_repeat, n_start, n_end: (
        text.lower().split() == prompt_to_repeat.lower().split()[n_start:n_end]
    ),
    "detectable_format:sentence_hyphens": _hyphens,
    "detectable_format:square_brackets": lambda text: all(w.startswith("[") and w.endswith("]") for w in text.split()),
    "detectable_format:bigram_wrapping": lambda text: all(
        a.startswith("<<") and b.endswith(">>") for a, b in zip(text.split()[::2], text.split()[1::2])
    ),
    "keywords:no_adjacent_consecutive": _no_neighbours,
    "keywords:word_once": lambda text, keyword: count_literal(keyword, text) == 1,
    "keywords:word_count_different_numbers": _frequency,
    "keywords:exclude_word_harder": lambda text, keyword, instruction="": f" {keyword.strip()} " not in text,
    "keywords:palindrome": lambda text: any(word == word[::-1] for word in text.split()),
    "keywords:keyword_specific_position": _position,
    "words:keywords_specific_position": _position,
    "keywords:start_end": _start_end,
    "paragraphs:paragraphs": lambda text: len(_parts(text, STARS) or ()) == 2,
    "paragraphs:paragraphs2": lambda text: len(_parts(text, "\n\n") or ()) == 2,
    "first_word:first_word_sent": lambda text, first_word: all(
        sentence.lower().split()[:1] == [_word(first_word)] for sentence in split_into_sentences(text)
    ),
    "first_word:first_word_answer": lambda text, first_word: text.lower().split()[:1] == [_word(first_word)],
    "last_word:last_word_sent": lambda text, last_word: all(
        sentence.strip() and _plain_last(sentence) == _word(last_word) for sentence in split_into_sentences(text)
    ),
    "last_word:last_word_answer": lambda text, last_word: _plain_last(text) == _word(last_word),
    "punctuation:punctuation_dot": lambda text: "." not in text,
    "punctuation:punctuation_exclamation": lambda text: "!" not in text,
    "count:lowercase_counting": lambda text, N: len(re.findall(r"\b[a-z]+\b", text)) <= N,
    "count:counting_composition": _composition,
    "count:count_unique": lambda text: len(tokens(text)) == len(set(tokens(text))),
    "count:count_increment_word": lambda text, keyword1, keyword2: (
        (count_literal(keyword1, text), count_literal(keyword2, text)) == (1, 2)
    ),
    "letters:letter_counting": lambda text, N, relation: holds(len(re.findall("[a-zA-Z]", text)), relation, N),
    "letters:letter_counting2": _letters,
    "words:start_verb": lambda text: is_verb((tokens(text) or [""])[0]),
}
