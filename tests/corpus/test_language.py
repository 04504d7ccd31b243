"""Labels, floors as FineWeb2 fits them, and the two gates over them."""

import hashlib
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import MODEL, ODD_TEXTS, write_jsonl

from polylm.deployments.settings import Settings
from polylm.tasks.corpus.close_languages import Evidence, log_odds
from polylm.tasks.corpus.labels import parse_label
from polylm.tasks.corpus.language import (
    LANGUAGES,
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
from polylm.tasks.documents.clean import CleanParams, clean
from polylm.tasks.documents.ingest import IngestParams, ingest
from polylm.tasks.documents.sources import Source, Sources
from polylm.tasks.evaluation.languages import held_out_texts
from polylm.tasks.run import File, adopt, run
from polylm.tasks.session import session
from polylm.tasks.stage import NoParams
from polylm.tasks.store import read_columns

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


def found_in(texts, model=MODEL, **params):
    """One dict a text of what it was found to be in."""
    columns = identify_language({"text": pa.array(texts, pa.string())}, LanguageParams(**params), model)
    return [
        dict(zip(columns, row, strict=True)) for row in zip(*(c.to_pylist() for c in columns.values()), strict=True)
    ]


def labels_of(texts, **params):
    return [one["language"] for one in found_in(texts, **params)]


@needs_model
def test_scripts_are_those_of_most_letters():
    found = found_in([*SENTENCES.values(), "日本の model", "12 + 30"])
    assert [one["script"] for one in found] == ["Latn", "Latn", "Cyrl", "Jpan", "Thai", "Hebr", "Latn", None]
    assert found[-2]["script_share"] == pytest.approx(5 / 8, abs=1e-3)
    assert (found[-1]["language"], found[-1]["confidence"]) == ("und", 0)


@needs_model
def test_a_label_that_is_not_written_in_the_texts_letters_is_passed_over():
    yi, cherokee = "ꀋꂷꊿꌺꁱꂷꅉꀕꐥꌐꅍꄉꄂꏽꐯꒈꃅꐥꌐ", "ᏂᎦᏓ ᎠᏂᏴᏫ ᏂᎨᎫᏓᎸᎾ ᎠᎴ ᎤᏂᏠᏱ ᎤᎾᏕᎿ ᏚᏳᎧᏛ ᎨᏒᎢ"
    assert labels_of([yi, cherokee]) == ["und", "und"]


@needs_model
def test_the_whole_text_is_read_when_its_beginning_is_unsure():
    text = "x7 " * 6 + SENTENCES["de"] * 5
    head = found_in([text], chars=12, sure=0)[0]
    whole = found_in([text], chars=12)[0]
    assert (whole["language"], head["confidence"] < 0.5 < whole["confidence"]) == ("de", True)


@needs_model
def test_short_chinese_is_not_japanese_and_japanese_stays():
    assert labels_of(["小舟黄昏归港,渔人有鱼二尾。", "港口今天很安静,有两条船回来晚了。"]) == ["zh", "zh"]
    assert labels_of([SENTENCES["ja"], "港は静かだった。"]) == ["ja", "ja"]


@needs_model
def test_cantonese_is_told_by_its_own_characters():
    assert labels_of(["佢哋唔知道我哋喺邊度,嗰啲船仲未返嚟,你哋係咪睇到嘢呀。"]) == ["yue"]


@needs_model
def test_indonesian_is_not_malay_and_malay_is_not_indonesian():
    indonesian = ["Tidak seorang pun boleh masuk perahu karena laut sedang pasang.", "Kapal telah kembali dari laut."]
    malay = "Mereka mahu pulang selepas hujan kerana pejabat syarikat itu berbeza, iaitu di bandar."
    assert labels_of([*indonesian, malay]) == ["id", "id", "ms"]


@needs_model
def test_spanish_and_portuguese_are_told_by_their_spellings():
    assert labels_of(["Nadie podrá entrar en el puerto de noche.", "Ninguém pode entrar no porto à noite."]) == [
        "es",
        "pt",
    ]


@needs_model
def test_vowel_signs_capitals_and_decomposed_accents_do_not_change_a_label():
    assert labels_of(["قَالَ رَسُولُ اللَّهِ صَلَّى اللَّهُ عَلَيْهِ وَسَلَّمَ"]) == ["ar"]
    assert labels_of([text.upper() for text in SENTENCES.values()]) == list(SENTENCES)
    vietnamese = "Buổi sáng hôm ấy bến cảng yên tĩnh."
    assert labels_of([vietnamese, unicodedata.normalize("NFD", vietnamese)]) == ["vi", "vi"]


@needs_model
def test_a_null_text_keeps_its_place():
    assert labels_of([None, SENTENCES["de"], None, SENTENCES["th"]]) == [None, "de", None, "th"]


def test_labels_of_all_models_name_the_same_languages():
    labels = ["__label__zh", "__label__zho_Hans", "__label__cmn_Hani", "__label__als", "__label__als_Latn", "news"]
    assert [parse_label(label).language for label in labels] == ["zh", "zh", "zh", "als", "sq", "news"]
    assert parse_label("__label__jpn_Jpan").scripts == {"Hani", "Hira", "Kana"}
    assert parse_label("__label__ace_Arab") == ("ace", {"Arab"})
    assert parse_label("__label__xyz").scripts == set()


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    """A model of four labels as OpenLID writes them, two of them of one language."""
    import fasttext

    folder = tmp_path_factory.mktemp("model")
    texts = {
        "eng_Latn": SENTENCES["en"], "deu_Latn": SENTENCES["de"], "zho_Hans": "小舟黄昏归港,渔人有鱼二尾,山里下雪了。",
        "zho_Hant": "小舟黃昏歸港,漁人有魚二尾,山裡下雪了。", "rus_Cyrl": SENTENCES["ru"],
    }  # fmt: skip
    lines = [f"__label__{label} {text}\n" for label, text in texts.items()]
    (folder / "train.txt").write_text("".join(lines * 20))
    model = fasttext.train_supervised(str(folder / "train.txt"), minn=1, maxn=3, dim=8, epoch=50, thread=1, verbose=0)
    model.save_model(str(folder / "small.bin"))
    return folder / "small.bin"


def test_a_model_with_script_labels_gives_the_same_names(small_model):
    texts = [SENTENCES["en"], SENTENCES["de"], SENTENCES["ru"], "小舟黄昏归港。", "山裡下雪了。"]
    found = found_in(texts, small_model)
    assert [one["language"] for one in found] == ["en", "de", "ru", "zh", "zh"]
    assert all(one["runner_up"] != "zh" for one in found[3:])


def test_any_model_is_adopted_by_name_and_digest(small_model, tmp_path):
    source = write_jsonl(tmp_path / "texts.jsonl", [{"text": SENTENCES["de"]}, {"text": SENTENCES["ru"]}])
    file = File(name=small_model.name, sha256=hashlib.sha256(small_model.read_bytes()).hexdigest())
    with session(Settings(store=tmp_path / "store", workers=0, models=small_model.parent)) as here:
        raw = run(ingest, IngestParams(), Sources({"own": Source(path=str(source))}))
        found = run(identify_language, LanguageParams(), run(clean, CleanParams(), raw), adopt(file))
        path = here.store.part_path("identify_language", found.parts[0].key)
        assert read_columns(path, ["language"])["language"].to_pylist() == ["de", "ru"]


def test_floors_are_fixed_as_ccnets_or_a_languages_own():
    rows = labelled([("de", 0.9), ("th", 0.4)])
    fitted = fit_language_floors(rows, FloorParams(kind="fixed", own={"th": 0.35})).to_pylist()
    assert [(row["language"], row["floor"]) for row in fitted] == [("de", 0.5), ("th", 0.35)]
    with pytest.raises(ValueError, match="less than or equal to 1"):
        FloorParams(own={"th": 1.5})


@needs_model
def test_paragraphs_of_the_universal_declaration_are_labelled_right_among_all_176_languages():
    texts = [(language, text) for language in LANGUAGES for text in held_out_texts(language)]
    found = labels_of([text for _, text in texts])
    wrong = [(said, label, text[:40]) for (said, text), label in zip(texts, found, strict=True) if said != label]
    assert len(texts) > 1_000
    assert len(wrong) <= 0.005 * len(texts), wrong


@needs_model
@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(ODD_TEXTS), max_size=6))
def test_any_text_has_a_label_and_neighbours_do_not_matter(texts):
    together = found_in(texts)
    assert together == [one for text in texts for one in found_in([text])]
    assert all(0 <= one["confidence"] <= 1 and one["language"] for one in together)


@needs_model
def test_evidence_of_a_long_text_does_not_overflow():
    assert labels_of(["في ذلك الصباح كان الميناء هادئا. " * 40_000], sure=1.0) == ["ar"]
    assert evidence_of_persian("پ" * 10) > 0 > evidence_of_persian("ا" * 100_000)


def evidence_of_persian(text):
    return log_odds("fa", "ar", Evidence(text))
