"""The instructions that a row may name, with the arguments each one takes: IFEval, IFEvalG and IFBench."""

from m2rl_lib.domains.problems import Unusable

# instruction: its arguments, each as name:kind (see `_KINDS`); `?` after the kind for one that may be missing
_WITH_ARGUMENTS = {
    "IFEval": """
keywords:existence keywords:texts
keywords:frequency keyword:text frequency:number relation:relation
keywords:forbidden_words forbidden_words:texts
keywords:letter_frequency letter:sign let_frequency:number let_relation:relation
language:response_language language:text
length_constraints:number_sentences num_sentences:number relation:relation
length_constraints:number_paragraphs num_paragraphs:number
length_constraints:number_words num_words:number relation:relation
length_constraints:nth_paragraph_first_word num_paragraphs:count nth_paragraph:count first_word:text
detectable_content:number_placeholders num_placeholders:number
detectable_content:postscript postscript_marker:text
detectable_format:number_bullet_lists num_bullets:number
detectable_format:number_highlighted_sections num_highlights:number
detectable_format:multiple_sections section_spliter:text num_sections:number
combination:repeat_prompt prompt_to_repeat:text
startend:end_checker end_phrase:text
change_case:capital_word_frequency capital_frequency:number capital_relation:relation
""",
    "IFEvalG": """
copy:repeat_phrase phrase:text small_n:count
copy:copy prompt_to_repeat:text
copy:copying_simple prompt_to_repeat:text
copy:copying_multiple prompt_to_repeat:text N:count
new:copy_span_idx prompt_to_repeat:text n_start:number n_end:count
keywords:word_once keyword:text
keywords:word_count_different_numbers keyword:text frequency:number relation:relation
keywords:exclude_word_harder keyword:text instruction:text?
keywords:keyword_specific_position keyword:word n:count m:count
first_word:first_word_sent first_word:word
first_word:first_word_answer first_word:text
last_word:last_word_sent last_word:word
last_word:last_word_answer last_word:text
count:lowercase_counting N:count
count:counting_composition n_sent:count n_words:count
count:count_increment_word keyword1:text keyword2:text
letters:letter_counting N:count relation:relation
letters:letter_counting2 letter:sign let_frequency:number let_relation:relation
""",
    "IFBench": """
count:word_count_range min_words:number max_words:number
count:unique_word_count N:number
ratio:stop_words percentage:percent
count:conjunctions small_n:number
count:person_names N:number
ratio:overlap reference_text:text percentage:percent
count:numbers N:number
format:options options:text
count:words_japanese N:count
words:repeats small_n:number
sentence:keyword word:text N:count
count:pronouns N:number
sentence:increment small_n:number
format:list sep:text
count:keywords_multiple keyword1:text keyword2:text keyword3:text keyword4:text keyword5:text
words:keywords_specific_position keyword:text n:count m:count
words:words_position keyword:text
repeat:repeat_change prompt_to_repeat:text
repeat:repeat_span prompt_to_repeat:text n_start:number n_end:count
""",
}
_WITHOUT = {
    "IFEval": """
    detectable_format:constrained_response detectable_format:json_format detectable_format:title
    combination:two_responses startend:quotation change_case:english_capital change_case:english_lowercase
    punctuation:no_comma""",
    "IFEvalG": """
    detectable_format:sentence_hyphens detectable_format:square_brackets detectable_format:bigram_wrapping
    keywords:no_adjacent_consecutive keywords:palindrome keywords:start_end paragraphs:paragraphs
    paragraphs:paragraphs2 punctuation:punctuation_dot punctuation:punctuation_exclamation count:count_unique""",
    "IFBench": """
    ratio:sentence_type ratio:sentence_balance words:alphabet words:vowel words:consonants
    sentence:alliteration_increment words:palindrome count:punctuation format:parentheses format:quotes
    words:prime_lengths format:newline format:emoji ratio:sentence_words words:start_verb words:odd_even_syllables
    words:last_first words:paragraph_last_first words:no_consecutive format:line_indent format:quote_unquote
    format:thesis format:sub-bullets format:no_bullets_bullets custom:multiples custom:mcq_count_length
    custom:reverse_newline custom:word_reverse custom:character_reverse custom:sentence_alphabet
    custom:european_capitals_sort custom:csv_city custom:csv_special_character custom:csv_quotes
    custom:date_format_list repeat:repeat_simple format:title_case format:output_template format:no_whitespace""",
}
SETS = {
    name: dict.fromkeys(_WITHOUT[name].split(), {})
    | {line.split()[0]: dict(part.rsplit(":", 1) for part in line.split()[1:]) for line in text.strip().splitlines()}
    for name, text in _WITH_ARGUMENTS.items()
}
ARGUMENTS = {name: arguments for instructions in SETS.values() for name, arguments in instructions.items()}


def _whole(value: object, least: int) -> int | None:
    if isinstance(value, float) and value.is_integer():  # as of a Parquet column with nulls
        value = int(value)
    return value if type(value) is int and value >= least else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


_KINDS = {
    "number": lambda value: _whole(value, 0),
    "count": lambda value: _whole(value, 1),
    "percent": lambda value: (
        value if not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value <= 100 else None
    ),
    "text": _text,
    "texts": lambda value: value if isinstance(value, list) and value and all(map(_text, value)) else None,
    "word": lambda value: _text(value[0] if isinstance(value, list) and value else value),
    "sign": lambda value: value if isinstance(value, str) and len(value) == 1 and not value.isspace() else None,
    "relation": lambda value: value if value in ("less than", "at least") else None,
}


def read_arguments(name: object, given: dict | None) -> dict:
    """The arguments of one instruction, in their types. Unusable, naming the instruction, where it has not these."""
    if not isinstance(name, str) or name not in ARGUMENTS:
        raise Unusable(f"unknown instruction {str(name)[:80]}")
    if given is not None and not isinstance(given, dict):
        raise Unusable(f"instruction {name}: arguments are no object")
    given = {key: value for key, value in (given or {}).items() if value is not None}
    kinds = ARGUMENTS[name]
    if not name.startswith("custom:") and given.keys() - kinds.keys():
        raise Unusable(f"instruction {name}: an argument that it does not take")
    read = {}
    for key, kind in kinds.items():
        if key not in given and kind.endswith("?"):
            continue
        value = _KINDS[kind.removesuffix("?")](given.get(key))
        if value is None:
            raise Unusable(f"instruction {name}: {key} is {'out of its range' if key in given else 'missing'}")
        read[key] = value
    for low, high in (("nth_paragraph", "num_paragraphs"), ("min_words", "max_words"), ("n_start", "n_end")):
        if low in read and high in read and read[low] > read[high]:  # so that no text can follow
            raise Unusable(f"instruction {name}: arguments contradict each other")
    return read
