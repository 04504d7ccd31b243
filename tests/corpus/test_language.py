"""Labels, floors as FineWeb2 fits them, and the two gates over them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import MODEL

from polylm.tasks.corpus.language import (
    FloorParams,
    LanguageParams,
    WantedParams,
    fit_language_floors,
    identify_language,
    keep_sure,
    load_model,
    places_by_language,
    two_likeliest,
    want_languages,
)
from polylm.tasks.stage import NoParams

SENTENCES = {
    "en": "The harbour was quiet that morning; two boats came in late.",
    "de": "Der Hafen war an jenem Morgen still; zwei Boote kamen spät.",
    "ru": "В то утро в гавани было тихо; две лодки пришли поздно.",
    "ja": "その朝、港は静かだった。二隻の舟は遅れて着いた。",
    "th": "เช้าวันนั้นท่าเรือเงียบสงบ เรือสองลำมาช้า",
    "he": "הנמל היה שקט באותו בוקר; שתי סירות הגיעו באיחור.",
}
needs_model = pytest.mark.skipif(not MODEL.exists(), reason="lid.176.ftz is not there: `make install` fetches it")


def labelled(pairs, size=3):
    """Parts of (language, confidence)."""
    return [
        {
            "language": pa.array([label for label, _ in pairs[i : i + size]], pa.string()).dictionary_encode(),
            "confidence": pa.array([score for _, score in pairs[i : i + size]], pa.float32()),
        }
        for i in range(0, len(pairs), size)
    ]


@needs_model
def test_a_text_is_labelled_with_its_language():
    found = identify_language({"text": pa.array([*SENTENCES.values(), None])}, LanguageParams(), MODEL)
    assert found["language"].to_pylist() == [*SENTENCES, None]
    scores, seconds = found["confidence"].to_pylist(), found["runner_up_confidence"].to_pylist()
    assert all(1 >= score >= second for score, second in zip(scores[:-1], seconds[:-1], strict=True))
    assert (scores[-1], seconds[-1]) == (None, None)
    assert all(
        label not in (None, runner) for label, runner in zip(SENTENCES, found["runner_up"].to_pylist(), strict=False)
    )


@needs_model
def test_lines_and_fasttexts_own_token_do_not_end_a_text():
    texts = ["ok\n" + SENTENCES["de"], "</s> " + SENTENCES["de"]]
    found = identify_language({"text": pa.array(texts)}, LanguageParams(), MODEL)
    assert found["language"].to_pylist() == ["de", "de"]


@needs_model
def test_only_the_first_characters_count():
    text = SENTENCES["ru"] + " " + SENTENCES["en"] * 50
    found = identify_language({"text": pa.array([text])}, LanguageParams(chars=len(SENTENCES["ru"])), MODEL)
    assert found["language"].to_pylist() == ["ru"]


@needs_model
def test_no_rows_are_no_labels():
    found = identify_language({"text": pa.array([], pa.string())}, LanguageParams(), MODEL)
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(identify_language.writes.names, 0)
    assert load_model(str(MODEL)) is load_model(str(MODEL))


def test_a_text_for_which_the_model_has_no_answer_is_undetermined():
    assert two_likeliest(lambda *_: [], "?", 10) == ("und", 0.0, None, None)
    assert two_likeliest(lambda *_: [(1.00001, "__label__en")], "x", 10) == ("en", 1.0, None, None)


scores = st.integers(0, 10_000).map(lambda step: step / 10_000)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["de", "th"]), scores), min_size=1, max_size=30), st.integers(1, 9))
def test_a_floor_is_the_clipped_median_less_a_deviation(pairs, size):
    fitted = fit_language_floors(labelled(pairs, size), FloorParams()).to_pylist()
    assert [row["language"] for row in fitted] == sorted({label for label, _ in pairs})
    for row in fitted:
        own = np.array([score for label, score in pairs if label == row["language"]])
        assert row["documents"] == len(own)
        assert row["median"] == pytest.approx(np.median(own), abs=1e-4)
        assert row["floor"] == pytest.approx(np.clip(np.median(own) - np.std(own), 0.3, 0.9), abs=1e-4)


def test_documents_without_text_count_in_no_floor():
    rows = labelled([("de", 0.8), (None, None), ("de", 0.8)])
    assert fit_language_floors(rows, FloorParams()).to_pylist() == [
        {"language": "de", "documents": 2, "median": 0.8, "floor": 0.8}
    ]
    assert fit_language_floors([], FloorParams()).num_rows == 0


def test_the_gates_give_their_reasons():
    rows = labelled([("de", 0.8), ("th", 0.4), ("eo", 0.9), (None, None)], size=4)[0]
    wanted = want_languages(rows, WantedParams(languages=("de", "th")))["unwanted_language"]
    assert wanted.broken.tolist() == [False, False, True, False]
    assert wanted.judged.tolist() == [True, True, True, False]
    floors = pa.table({"language": ["de", "eo", "th"], "floor": [0.8, 0.3, 0.5]})
    seen = {"language": rows["language"], "confidence": np.array([0.8, 0.4, 0.9, np.nan])}
    sure = keep_sure(seen, NoParams(), floors)["unsure_language"]
    assert sure.broken.tolist() == [False, True, False, False]
    assert sure.margin[1] == pytest.approx(-0.1)
    assert sure.judged.tolist() == [True, True, True, False]


def test_rows_are_grouped_by_language_in_order():
    labels = pa.array(["th", None, "de", "th"]).dictionary_encode()
    assert {name: places.tolist() for name, places in places_by_language(labels).items()} == {"th": [0, 3], "de": [2]}
    assert places_by_language(labels.slice(1, 1)) == {}
