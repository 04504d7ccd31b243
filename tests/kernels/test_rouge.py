"""ROUGE-L equals the reference, in every script, and never calls identical texts unlike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer, _score_lcs

from polylm.kernels.rouge import RougePool, rouge_l, rouge_tokens

TOKENS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30)

LATIN = [
    "Rewrite this note so that it is polite enough to send to a landlord.",
    "Rewrite the note: make it polite, so that I can send it to my landlord!",
    "Why does bread go stale faster in the fridge than on the counter?",
    "Suggest 5 questions for the 1st meeting of a book club.",
    "suggest five QUESTIONS for a meeting of the club",
    "send it",
]


@given(TOKENS, TOKENS)
def test_equals_rouge_score_on_any_tokens(left, right):
    assert rouge_l(left, right) == pytest.approx(_score_lcs(left, right).fmeasure, abs=1e-12)


@pytest.mark.parametrize("left", LATIN)
@pytest.mark.parametrize("right", LATIN)
def test_equals_rouge_score_on_plain_latin_text(left, right):
    expected = RougeScorer(["rougeL"]).score(left, right)["rougeL"].fmeasure
    assert rouge_l(rouge_tokens(left, "en"), rouge_tokens(right, "en")) == pytest.approx(expected, abs=1e-12)


@given(TOKENS, st.lists(TOKENS, min_size=1, max_size=8))
def test_nearest_of_a_pool_is_the_first_maximum_over_all_pairs(query, texts):
    scores = [rouge_l(query, text) for text in texts]
    match = RougePool(texts).nearest(query)
    assert (match.place, match.similarity) == (scores.index(max(scores)), max(scores))


@given(TOKENS, st.lists(TOKENS, min_size=1, max_size=8), st.integers(0, 10))
def test_a_limit_hides_exactly_what_is_below_it(query, texts, tenths):
    best = max(rouge_l(query, text) for text in texts)
    match = RougePool(texts).nearest(query, at_least=tenths / 10)
    assert (match is not None) == (best >= tenths / 10)


def test_a_limit_is_met_exactly():
    pool = RougePool([list("abcdefgxyz")])
    assert pool.nearest(list("abcdefgklm"), at_least=0.7).similarity == 0.7
    assert pool.nearest(list("abcdefuklm"), at_least=0.7) is None


@pytest.mark.parametrize(
    ("language", "text", "tokens"),
    [
        ("de", "Übersetze „größer“, bitte!", ["übersetze", "grösser", "bitte"]),
        ("fr", "L'été, c'est fini.", ["l'été", "c'est", "fini"]),
        ("ar", "لماذا نشعر بالبرد؟", ["لماذا", "نشعر", "بالبرد"]),
        ("zh", "把这段话,缩短。", list("把这段话缩短")),
        ("ja", "ｶﾞラスは120円", list("ガラスは120円")),
        ("ko", "한국어 문장", list("한국어문장")),
        ("th", "ที่นี่", ["ที่", "นี่"]),
        ("hi", "हिन्दी में", ["हिन्दी", "में"]),
    ],
)
def test_tokens_are_words_or_characters_as_the_script_has_them(language, text, tokens):

    assert rouge_tokens(text, language) == tokens


def test_composed_and_decomposed_letters_are_one():
    assert rouge_tokens("cafe\u0301", "fr") == rouge_tokens("caf\u00e9", "fr")
    assert rouge_tokens("\u1112\u1161\u11ab", "ko") == ["한"]


@pytest.mark.parametrize(
    ("language", "text"),
    [("ja", "日本の首都はどこですか。"), ("ar", "ما هي عاصمة اليابان؟"), ("th", "เมืองหลวงของญี่ปุ่นคืออะไร")],
)
def test_identical_text_is_identical_in_any_script(language, text):
    tokens = rouge_tokens(text, language)
    assert rouge_l(tokens, tokens) == 1.0


def test_text_without_tokens_is_an_error_not_a_zero():
    assert rouge_tokens("?!…", "en") == []
    with pytest.raises(ValueError, match="without tokens is undefined; expected at least one letter or digit"):
        rouge_l([], ["a"])
    with pytest.raises(ValueError, match="without tokens"):
        RougePool([["a"], []])
    with pytest.raises(ValueError, match="without tokens"):
        RougePool([["a"]]).nearest([])


def test_an_empty_pool_has_nothing_near():
    assert RougePool().nearest(["a"]) is None


def test_more_distinct_tokens_than_one_plane_of_unicode_stay_distinct():
    many = [str(number) for number in range(70_000)]
    assert rouge_l(many, many) == 1.0
    assert rouge_l(many[:60_000], many[60_000:]) == 0.0
