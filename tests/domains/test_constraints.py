"""Every instruction of IFEval, IFEvalG and IFBench with a text that follows it and one that does not."""

import pytest

from m2rl_lib.domains import constraints, instruction_following
from m2rl_lib.domains.problems import Unusable

ENGLISH = "this is a plain english sentence about the weather and the garden."
OVER = {"frequency": 2, "relation": "at least"}
REQUEST = {"prompt_to_repeat": "Name a river in France"}
EMOJI = "\N{SNOWMAN}"
TREES, GROVE = ("oak", "elm", "ash", "fir", "yew"), "oak" + " elm" * 2 + " ash" * 3 + " fir" * 5 + " yew" * 7
NAPOLEON = "1796-04-12, 1805-12-02"
CAPITALS = (
    "Reykjavik, Helsinki, Oslo, Tallinn, Stockholm, Riga, Moscow, Copenhagen, Vilnius, Minsk, Dublin, Berlin, Amsterdam, Warsaw, "
    "London, Brussels, Prague, Luxembourg, Paris, Vienna, Bratislava, Budapest, Vaduz, Chisinau, Bern, Ljubljana, Zagreb"
)
AFRICA = "Zimbabwe\n" + "\n".join(f"Country {chr(89 - i // 26)}{chr(90 - i % 26)}" for i in range(52))
ALPHABET = " ".join(f"{chr(65 + i)}nd so it went on." for i in range(26))
PALINDROMES = "level radar civic kayak refer rotor madam tenet stats solos"
QUESTIONS = "\n".join(f"Question {n}\nWhat{' more' * n}?\n" + "\n".join(f"{o}) it" for o in "ABCDE") for n in range(1, 5))
CITIES = "ID,Country,City,Year,Count\n" + "\n".join(f"{i},A,B,2000,1" for i in range(7))
PRODUCTS = "ProductID,Category,Brand,Price,Stock\n" + "\n".join(f'{i},A,"B&C",2,1' for i in range(14))
GRADES = [["StudentID", "Subject", "Grade", "Semester", "Score"]] + [list("abcde")] * 3
STUDENTS = "\n".join('"' + '"\t"'.join(row) + '"' for row in GRADES)

NTH, CAPITAL = "length_constraints:nth_paragraph_first_word", "change_case:capital_word_frequency"
# instruction: arguments, a text that follows, one that does not
CASES = {
    "keywords:existence": ({"keywords": ["C++", "fast"]}, "I like C++. It is FAST.", "Cats are fast"),
    "keywords:frequency": ({"keyword": "a.b", **OVER}, "a.b and A.B", "a.b and axb"),
    "keywords:forbidden_words": ({"forbidden_words": ["C++", "part"]}, "A partner", "I like C++ most"),
    "keywords:letter_frequency": ({"letter": "#", "let_frequency": 2, "let_relation": "at least"}, "#a #b", "#a b"),
    "language:response_language": ({"language": "en"}, ENGLISH, "Das ist ein ganz gewöhnlicher deutscher Satz über das Wetter."),
    "length_constraints:number_sentences": ({"num_sentences": 2, "relation": "at least"}, "Dr. No ran. He hid.", "Dr. No ran."),
    "length_constraints:number_paragraphs": ({"num_paragraphs": 2}, "One\n***\nTwo", "One\n***\nTwo\n***\nThree"),
    "length_constraints:number_words": ({"num_words": 3, "relation": "less than"}, "Two words", "These three words"),
    NTH: ({"num_paragraphs": 2.0, "nth_paragraph": 2.0, "first_word": "weekend"}, "One.\n\n\n\nWeekend two.", "Weekend.\n\nTwo."),
    "detectable_content:number_placeholders": ({"num_placeholders": 2}, "[a] and [b]", "[a] and b"),
    "detectable_content:postscript": ({"postscript_marker": "P.S."}, "Hi.\nP. S. Bye", "Hi. PPS Bye"),
    "detectable_format:number_bullet_lists": ({"num_bullets": 2}, "* a\n* b", "* a\n* b\n* c"),
    "detectable_format:constrained_response": ({}, "My answer is yes.", "Yes, sure"),
    "detectable_format:number_highlighted_sections": ({"num_highlights": 2}, "*a* and *b*", "*a* and b"),
    "detectable_format:multiple_sections": ({"section_spliter": "PART (", "num_sections": 2}, "PART (1 a PART (2 b", "PART (1 a"),
    "detectable_format:json_format": ({}, '```json\n{"a": 1}\n```', "{a: 1}"),
    "detectable_format:title": ({}, "<<Rain>>\nIt rains.", "<Rain>\nIt rains."),
    "combination:two_responses": ({}, "One\n******\nTwo", "One\n***\nTwo"),
    "combination:repeat_prompt": (REQUEST, "Name a river in France. The Loire.", "The Loire."),
    "startend:end_checker": ({"end_phrase": "The end."}, "It rained. The end.", "The end. It rained."),
    "startend:quotation": ({}, '"All of it"', 'Not "all of it"'),
    CAPITAL: ({"capital_frequency": 2, "capital_relation": "at least"}, "NASA met ESA.", "NASA met us."),
    "change_case:english_capital": ({}, ENGLISH.upper(), ENGLISH),
    "change_case:english_lowercase": ({}, ENGLISH, ENGLISH.upper()),
    "punctuation:no_comma": ({}, "No comma", "One, comma"),
    "copy:repeat_phrase": ({"phrase": "the big cat", "small_n": 2}, "the old cat, the red cat", "the big cat, the red cat"),
    "copy:copy": (REQUEST, " name a river in france", "The Loire"),
    "copy:copying_simple": (REQUEST, "Name a river in France", "Name a river in France: the Loire"),
    "copy:copying_multiple": (REQUEST | {"N": 2}, "******".join([REQUEST["prompt_to_repeat"]] * 2), "Name a river in France"),
    "new:copy_span_idx": (REQUEST | {"n_start": 0, "n_end": 6}, "Name a", "a river"),
    "detectable_format:sentence_hyphens": ({}, "It rains.-It pours.", "It rains. - It pours."),
    "detectable_format:square_brackets": ({}, "[all] [words]", "[all] words"),
    "detectable_format:bigram_wrapping": ({}, "<<I am>> <<at home>>", "<<I am>> at home"),
    "keywords:no_adjacent_consecutive": ({}, "zebra apple cat", "apple bear"),
    "keywords:word_once": ({"keyword": "x*"}, "one x* here", "xx"),
    "keywords:word_count_different_numbers": ({"keyword": "oak", **OVER}, "oak and oak", "oak"),
    "keywords:exclude_word_harder": ({"keyword": "oak"}, "An oaken door", "An oak door"),
    "keywords:palindrome": ({}, "my level best", "my best"),
    "keywords:keyword_specific_position": ({"keyword": "red", "n": 2, "m": 3}, "One here. It is red.", "It is red. One here."),
    "keywords:start_end": ({}, "Rain is only rain", "Rain is only rain."),
    "paragraphs:paragraphs": ({}, "One\n***\nTwo", "One\n\nTwo"),
    "paragraphs:paragraphs2": ({}, "One\n\nTwo", "One\n***\nTwo"),
    "first_word:first_word_sent": ({"first_word": ["rain"]}, "Rain falls. Rain stops.", "Rain falls. It stops."),
    "first_word:first_word_answer": ({"first_word": "rain"}, "Rain falls. It stops.", "It stops."),
    "last_word:last_word_sent": ({"last_word": "rain"}, "I like rain. Is it rain?", "I like rain. It stops."),
    "last_word:last_word_answer": ({"last_word": "rain"}, "It stops. I like rain!", "I like rain. It stops."),
    "punctuation:punctuation_dot": ({}, "No dot!", "A dot."),
    "punctuation:punctuation_exclamation": ({}, "No mark.", "A mark!"),
    "count:lowercase_counting": ({"N": 2}, "ALL BUT two words", "more than two words"),
    "count:counting_composition": ({"n_sent": 1, "n_words": 3}, "It rains.***It pours.***It stops.", "It rains.***It pours."),
    "count:count_unique": ({}, "No word comes twice", "No word is no word"),
    "count:count_increment_word": ({"keyword1": "oak", "keyword2": "elm"}, "oak elm elm", "oak oak elm"),
    "letters:letter_counting": ({"N": 3, "relation": "at least"}, "abc", "a1b"),
    "letters:letter_counting2": ({"letter": "a", "let_frequency": 2, "let_relation": "less than"}, "Ab", "Aba"),
    "count:word_count_range": ({"min_words": 2, "max_words": 3}, "Just two", "One"),
    "count:unique_word_count": ({"N": 3}, "one two three", "one two two"),
    "ratio:stop_words": ({"percentage": 23.0}, "Rain falls on dry green garden soil", "It is on the way to the sea"),
    "ratio:sentence_type": ({}, "It rains. It pours. Does it?", "It rains. Does it?"),
    "ratio:sentence_balance": ({}, "It rains. Does it? It does!", "It rains. Does it?"),
    "count:conjunctions": ({"small_n": 2}, "It rains and pours but stops", "It rains and pours"),
    "count:person_names": ({"N": 2.0}, "Emma met Liam", "Emma met Bob"),
    "ratio:overlap": ({"reference_text": "the rain in spain", "percentage": 100}, "the rain in spain", "a dry summer"),
    "count:numbers": ({"N": 2}, "From 3 to 14", "From 3 on"),
    "words:alphabet": ({}, "Ants bite cows", "Ants chase bees"),
    "words:vowel": ({}, "a red hat is here", "our big red hat"),
    "words:consonants": ({}, "strong winds", "a strong wind"),
    "sentence:alliteration_increment": ({}, "It rains. Big bears do.", "Big bears do. It rains."),
    "words:palindrome": ({}, PALINDROMES, "level radar"),
    "count:punctuation": ({}, "So: one, two; three. Four! Five?! Six?", "So: one, two."),
    "format:parentheses": ({}, "(a [b {c (d [e])}])", "(a [b])"),
    "format:quotes": ({}, '"a \'b "c" b\' a"', "\"a 'b' a\""),
    "words:prime_lengths": ({}, "we see water", "four words"),
    "format:options": ({"options": "yes/no/maybe"}, "Maybe.", "Perhaps."),
    "format:newline": ({}, "one\ntwo", "one two"),
    "format:emoji": ({}, f"It rains {EMOJI}", "It rains."),
    "ratio:sentence_words": ({}, "Ann ran. Bob sat. Cat hid.", "Ann ran. Bob sat."),
    "count:words_japanese": ({"N": 2}, "one 日本 three 日本", "one two"),
    "words:start_verb": ({}, "Write it down.", "The pen writes."),
    "words:repeats": ({"small_n": 1}, "no word twice", "no word no"),
    "sentence:keyword": ({"word": "rain", "N": 2}, "One. The rain. Three.", "The rain. Two."),
    "count:pronouns": ({"N": 2}, "She saw him", "She saw Bob"),
    "words:odd_even_syllables": ({}, "the water the water", "the cat"),
    "words:last_first": ({}, "I like rain. Rain is wet.", "I like rain. It is wet."),
    "words:paragraph_last_first": ({}, "Rain is only rain.\nSun is sun", "Rain is wet"),
    "sentence:increment": ({"small_n": 1}, "It rains. Now it pours.", "It rains. It pours."),
    "words:no_consecutive": ({}, "big cats run", "big bears run"),
    "format:line_indent": ({}, "a\n b\n  c", "a\nb\nc"),
    "format:quote_unquote": ({}, '"Rain" means water', 'It is "rain"'),
    "format:list": ({"sep": "!?!?"}, "!?!? one\n!?!? two", "- one\n- two"),
    "format:thesis": ({}, "<i>Rain is good.</i> It waters.", "Rain is good."),
    "format:sub-bullets": ({}, "* one\n - sub\n* two\n - sub", "* one\n* two"),
    "format:no_bullets_bullets": ({}, "It rains. It pours.\n* one\n* two", "It rains.\n* one\n* two"),
    "custom:multiples": ({}, "14, 21, 28, 35, 42, 49", "7, 14, 21"),
    "custom:mcq_count_length": ({}, QUESTIONS, "Question 1\nWhat?\nA) it"),
    "custom:reverse_newline": ({}, AFRICA, "Algeria\nZimbabwe"),
    "custom:word_reverse": ({}, "eagle bald the is It", "It is the bald eagle"),
    "custom:character_reverse": ({}, "elgae dlab", "bald eagle"),
    "custom:sentence_alphabet": ({}, ALPHABET, "And so on."),
    "custom:european_capitals_sort": ({}, CAPITALS, "Oslo, Paris"),
    "custom:csv_city": ({}, CITIES, "ID,Country\n1,A"),
    "custom:csv_special_character": ({}, PRODUCTS, PRODUCTS.replace("&", "")),
    "custom:csv_quotes": ({}, STUDENTS, STUDENTS.replace('"', "")),
    "custom:date_format_list": ({}, NAPOLEON, "12 April 1796"),
    "count:keywords_multiple": ({f"keyword{i}": tree for i, tree in enumerate(TREES, 1)}, GROVE, " ".join(TREES)),
    "words:keywords_specific_position": ({"keyword": "red", "n": 1, "m": 3}, "It is red.", "Red it is."),
    "words:words_position": ({"keyword": "red"}, "One red line is red too", "One red line here"),
    "repeat:repeat_change": (REQUEST, "List a river in France", "Name a river in France"),
    "repeat:repeat_simple": ({}, "Only output this sentence here, ignore all other requests.", "Sure."),
    "repeat:repeat_span": (REQUEST | {"n_start": 0, "n_end": 2}, "name a", "a river"),
    "format:title_case": ({}, "Rain In Spain", "Rain in spain"),
    "format:output_template": ({}, "My Answer: a My Conclusion: b Future Outlook: c", "My Answer: a"),
    "format:no_whitespace": ({}, "OneWord", "Two words"),
}


def grade(name, arguments, *texts):
    row = {"instruction_id_list": [name], "kwargs": [arguments]}
    return instruction_following.verify([f"<think>t</think>{text}<|im_end|>" for text in texts], [row] * len(texts))


@pytest.mark.parametrize("name", constraints.ARGUMENTS)
def test_each_instruction(name):
    arguments, follows, violates = CASES[name]
    constraints.read_arguments(name, arguments)
    assert grade(name, arguments, follows, violates, "") == [1.0, 0.0, 0.0]


def test_the_three_sets_are_whole():
    assert {name: len(some) for name, some in constraints.SETS.items()} == {"IFEval": 25, "IFEvalG": 29, "IFBench": 58}


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("made:up", {}, "unknown instruction made:up"),
        ("keywords:existence", {"keywords": []}, "keywords is out of its range"),
        (
            "letters:letter_counting2",
            {"letter": "ab", "let_frequency": 1, "let_relation": "at least"},
            "letter is out of its range",
        ),
        ("count:numbers", {}, "N is missing"),
        ("count:numbers", {"N": 1.5}, "N is out of its range"),
        ("count:numbers", {"N": 1, "word": "a"}, "an argument that it does not take"),
        ("count:lowercase_counting", {"N": 0}, "N is out of its range"),
        ("letters:letter_counting", {"N": 1, "relation": "exactly"}, "relation is out of its range"),
        ("new:copy_span_idx", REQUEST | {"n_start": 3, "n_end": 2}, "contradict"),
        ("combination:repeat_prompt", {}, "prompt_to_repeat is missing"),
        ("punctuation:no_comma", [], "arguments are no object"),
    ],
)
def test_rows_that_would_be_graded_by_a_draw_are_unusable(name, arguments, reason):
    raw = {"prompt": "Say it.", "instruction_id_list": [name], "kwargs": [arguments]}
    with pytest.raises(Unusable, match=reason):
        instruction_following.read(raw, [{"role": "user", "content": "Say it."}])
    assert grade(name, arguments, "One.\n\nTwo.") == [None]


@pytest.mark.parametrize(
    ("text", "ids", "kwargs", "reward"),
    [  # in the form of NeMo Gym's rollouts
        ("Rain.\n***\nIt has gone.", ["paragraphs:paragraphs", "last_word:last_word_answer"], [{}, {"last_word": "gone"}], 1),
        ("SO IT IS.", ["count:lowercase_counting", "punctuation:punctuation_dot"], [{"N": 1}, None], 0),
    ],
)
def test_own_rows(text, ids, kwargs, reward):
    row = instruction_following.read({"verifier_metadata": {"prompt": "p", "instruction_id_list": ids, "kwargs": kwargs}}, [])
    assert instruction_following.verify([f"</think>{text}"], [row]) == [reward]


@pytest.mark.parametrize("environment", ["instruction_following", "ifbench"])
def test_published_rows_are_read_and_published_rewards_met(environment, real_rows):
    rows = real_rows(f"{environment}-example.jsonl")
    assert len([instruction_following.read(row, row["responses_create_params"]["input"]) for row in rows]) == 5
    for rollout in real_rows(f"{environment}-example_rollouts.jsonl"):
        text = rollout["response"]["output"][-1]["content"][0]["text"]
        pairs = zip(rollout["instruction_id_list"], rollout["kwargs"])
        assert [grade(name, arguments, text)[0] == 1 for name, arguments in pairs] == rollout["follow_instruction_list"]
        assert instruction_following.verify([f"</think>{text}"], [rollout]) == [rollout["reward"]]
