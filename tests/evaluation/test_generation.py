import pytest

from polylm.deployments.settings import cache_folder
from polylm.tasks.evaluation.generation import (
    beginnings,
    continue_texts,
    judge,
    judge_human,
    load_identifier,
    repetition,
)
from polylm.tasks.evaluation.languages import LANGUAGES, held_out_texts


def test_repetition_counts_grams_seen_before():
    assert repetition("one two three four five six", True) == 0
    assert repetition("a b c d a b c d", True) == pytest.approx(1 - 4 / 5)
    assert repetition("人人人人人人", False) == pytest.approx(1 - 1 / 3)
    assert repetition("too short", True) == 0


def test_beginning_and_rest_make_the_paragraph():
    for code in ("en", "th", "zh"):
        for text, (start, rest) in zip(held_out_texts(code), beginnings(code, 1_000), strict=True):
            assert start + rest == text
            assert 0 < len(start) <= 80


def test_spaced_scripts_are_cut_between_words():
    assert all(rest.startswith(" ") for start, rest in beginnings("de", 1_000) if " " in start.strip())


def test_empty_text_is_in_no_language_and_repeats_nothing():
    rows = judge("m", lambda text: "de", {"de": ["Guten Tag", "  "], "fr": ["Guten Tag", "Bonjour"]})
    kept = {row["language"]: row["value"] for row in rows if row["metric"] == "language_kept"}
    assert kept == {"de": 0.5, "fr": 0, "mean": 0.25}
    repeated = {row["language"]: row["n"] for row in rows if row["metric"] == "repeated_4grams"}
    assert repeated == {"de": 1, "fr": 2, "mean": 3}


def test_a_mean_of_shares_has_its_sample_error():
    row = judge("m", lambda text: text, {"de": ["de", "de", "de", "en"]})[0]
    assert row["value"] == 0.75
    assert row["stderr"] == pytest.approx((0.75 * 0.25 / 3) ** 0.5)
    assert row["chance"] == pytest.approx(1 / 18, abs=1e-4)


def test_a_model_is_judged_on_what_it_adds_to_the_prompt(lm):
    seen = []
    rows = continue_texts(
        lm, "base", lambda text: seen.append(text) or "en", languages=("en", "ja"), limit=2, max_new_tokens=6
    )
    assert [row["language"] for row in rows][:3] == ["en", "ja", "mean"]
    assert not any(text.startswith(start) for text in seen for start, _ in beginnings("en", 2))


@pytest.mark.skipif(not (cache_folder() / "lid.176.ftz").is_file(), reason="lid.176.ftz is not fetched yet: `make run`")
def test_people_keep_their_language_and_hardly_repeat_themselves():
    rows = judge_human(load_identifier(cache_folder() / "lid.176.ftz"), tuple(LANGUAGES), 20)
    means = {row["metric"]: row["value"] for row in rows if row["language"] == "mean"}
    assert means["language_kept"] > 0.95
    assert means["repeated_4grams"] < 0.05
