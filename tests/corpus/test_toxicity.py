"""Words of adopted lists are counted as whole words in every script, and adopted models are asked in their language alone."""

import json
import random
import re
import subprocess
import sys

import pyarrow as pa
import pytest
from pydantic import ValidationError
from samples import MODEL, ODD_TEXTS, write_jsonl

import polylm.tasks.corpus.fasttext_training as trainer
from polylm.deployments.settings import Settings
from polylm.flows.everything import start
from polylm.flows.reading import explain
from polylm.tasks.corpus.toxicity import ToxicityList, ToxicityParams, measure_toxicity
from polylm.tasks.keys import file_digest
from polylm.tasks.run import File
from polylm.tasks.stage import StageError
from polylm.tasks.store import read_columns

NOWHERE = File(name="x", sha256="0")


def counted(texts, language, content, folder):
    """The column of counts of texts in one language, by a list of this content."""
    (folder / "list.txt").write_text(content)
    rows = {"text": pa.array(texts, pa.string()), "language": pa.array([language] * len(texts), pa.string())}
    params = ToxicityParams(lists=[ToxicityList(language=language, file=NOWHERE)])
    return measure_toxicity(rows, params, folder / "list.txt")["toxic_words"].to_pylist()


@pytest.mark.parametrize(
    ("language", "content", "texts"),
    [
        ("en", "idiot\nson of a gun", {"You IDIOT, he's no idiot.": 2, "idiotic": 0, "A son of\na gun!": 1, "a son of guns": 0}),
        ("en", "f**k\nshut up!\n🖕", {"f**k it, shut up!": 2, "🖕 🖕 fork, shut up": 2}),
        ("en", "don't care", {"I don’t care, don't care, DON＇T CARE": 3, "dont care": 0}),
        ("en", "don’t care\nidiot", {"I don't care, don’t care": 2, "‘idiot’ 'idiot' “idiot’s”": 2}),
        ("uk", "об’їзд\nмʼяч", {"об'їзд, обʼїзд, м’яч": 3}),
        ("tr", "ışık\nistanbul", {"IŞIK Işık ışık": 3, "İSTANBUL I\u0307stanbul": 2, "işik ISTANBUL": 0}),
        ("el", "λόγος", {"ΛΌΓΟΣ λόγος, Λόγοσ": 3}),
        ("de", "Scheiße", {"SCHEISSE scheiße SCHEIẞE": 3}),
        ("de", "Arsch\nDummkopf", {"Du Dummkopf! „Arsch“": 2, "Die Barsche und die Marschen": 0}),
        ("fr", "crétin", {"Quel cre\u0301tin, ces crétins.": 1, "CRÉTIN": 1}),
        ("ru", "дурак", {"Дурак ты, дурак.": 2, "дураками": 0}),
        ("ar", "غبي", {"هذا الرجل غبي.": 1, "الغبيون": 0}),
        ("he", "אידיוט", {"איזה אידיוט, אמרה.": 1, "שלום": 0}),
        ("ko", "바보", {"이 바보, 정말 바보!": 2, "바보같은 사람": 0}),
        ("vi", "đồ ngu", {"Anh là đồ ngu, thật.": 1, "đồ ăn ngu": 0}),
        ("zh", "混蛋\n王八蛋", {"你这个混蛋。他也是王八蛋!": 2, "鸡蛋很好吃": 0}),
        ("ja", "馬鹿\nクソ野郎", {"お前は馬鹿だ。馬鹿!": 2, "あのクソ野郎が来た": 1, "馬と鹿を見た": 0}),
        ("th", "ควาย\nไอ้บ้า", {"เขาเป็นควายหรือเปล่า": 1, "ไอ้บ้าคนนี้": 1, "ความรักคือความสุข": 0}),
    ],
)  # fmt: skip
def test_an_entry_is_whole_words_in_any_case(language, content, texts, tmp_path):
    assert dict(zip(texts, counted(list(texts), language, content, tmp_path), strict=True)) == texts


def test_counts_are_those_of_a_search_for_whole_words(tmp_path):
    """Beside a regular expression, on sentences of random words."""
    words = ["shit", "holy shit", "bull", "ox", "a", "bulls", "damn it all", "it", "all"]
    draw = random.Random(4)
    texts = [" ".join(draw.choices([*words, "the", "ball"], k=draw.randrange(30))) for _ in range(60)]
    listed = [word for word in words if word not in ("a", "it")]
    found = counted(texts, "en", "\n".join(listed), tmp_path)
    slow = [sum(len(re.findall(rf"\b(?={word}\b)", text)) for word in listed) for text in texts]
    assert found == slow
    assert sum(found) > 100


def test_what_has_no_list_is_null_and_no_word_of_a_list_is_0(tmp_path):
    (tmp_path / "list.txt").write_text("idiot\n")
    texts, languages = ["an idiot", "ein Idiot", "", "Hm.", None], ["en", "de", "en", "en", None]
    rows = {"text": pa.array(texts, pa.string()), "language": pa.array(languages, pa.string())}
    params = ToxicityParams(lists=[ToxicityList(language="en", file=NOWHERE)])
    found = measure_toxicity(rows, params, tmp_path / "list.txt")
    assert found["toxic_words"].to_pylist() == [1, None, 0, 0, None]
    assert found["toxicity"].to_pylist() == [None] * 5


def test_the_entries_that_were_found_are_told(tmp_path):
    (tmp_path / "list.txt").write_text("idiot\nson of a gun\ncrétin\n" + "".join(f"word{i}\n" for i in range(30)))
    texts = [
        "An IDIOT, a son of\na gun; idiot. Cre\u0301tin!",
        "nothing",
        " ".join(f"word{i}" for i in range(30)),
        None,
    ]
    rows = {"text": pa.array(texts, pa.string()), "language": pa.array(["en"] * 3 + [None], pa.string())}
    params = ToxicityParams(lists=[ToxicityList(language="en", file=NOWHERE)])
    found = measure_toxicity(rows, params, tmp_path / "list.txt")
    shown = [value and json.loads(value) for value in found["toxic_found"].to_pylist()]
    assert shown[0] == {"idiot": 2, "crétin": 1, "son of a gun": 1}
    assert (shown[1], len(shown[2]), shown[3]) == (None, 20, None)
    assert found["toxic_words"].to_pylist() == [4, 0, 30, None]


def test_odd_texts_and_none_at_all(tmp_path):
    for language in ("en", "zh", "th", "ja", "ko"):
        assert set(counted(list(ODD_TEXTS), language, "idiot", tmp_path)) == {0}
        assert counted([], language, "idiot", tmp_path) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"idiot\n\n# a comment\n---\n", r"list\.txt, line 4: expected a word or phrase, found '---'"),
        (b"idiot\nfool\t0.7\n", r"list\.txt, line 2: expected a word or phrase, found 'fool\\t0\.7'"),
        ("idiot\n\u200bfool\n".encode(), r"list\.txt, line 2: expected a word or phrase, found"),
        (b"# nothing\n", r"list\.txt: expected a word or phrase a line, found none"),
        (b"idiot\n\xff\n", r"list\.txt: a list is UTF-8 text, but byte 6 is none"),
    ],
)
def test_a_bad_list_is_named_with_its_line(content, said, tmp_path):
    (tmp_path / "list.txt").write_bytes(content)
    rows = {"text": pa.array(["a text"]), "language": pa.array(["en"])}
    params = ToxicityParams(lists=[ToxicityList(language="en", file=NOWHERE)])
    with pytest.raises(ValueError, match=said):
        measure_toxicity(rows, params, tmp_path / "list.txt")


def test_two_lists_of_one_language_and_files_without_a_list_are_refused(tmp_path):
    twice = [ToxicityList(language="en", file=NOWHERE)] * 2
    with pytest.raises(ValidationError, match="two of the kind words for en: make them one file"):
        ToxicityParams(lists=twice)
    with pytest.raises(StageError, match="1 lists in its params, 0 adopted files"):
        measure_toxicity({"text": pa.array(["x"]), "language": pa.array(["en"])}, ToxicityParams(lists=twice[:1]))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A fastText model of two labels, trained on a few lines."""
    folder = tmp_path_factory.mktemp("toxic")
    lines = [f"__label__toxic you {w} idiot" for w in "abcdefgh"] + [
        f"__label__fine dear {w} friend" for w in "abcdefgh"
    ]
    (folder / "lines.txt").write_text("\n".join(lines * 5) + "\n")
    options = {"epoch": 25, "lr": 0.1, "seed": 1, "thread": 1, "verbose": 0, "minCount": 1, "wordNgrams": 2}
    options |= {"dim": 16, "bucket": 100_000}  # as our classifiers: with 8 dimensions fastText ends in NaN now and then
    words = [sys.executable, "-P", trainer.__file__, folder / "lines.txt", folder / "toxic.bin", json.dumps(options)]
    subprocess.run(words, check=True, capture_output=True)
    return folder / "toxic.bin"


def test_a_model_scores_texts_of_its_language(model):
    texts, languages = ["you\nidiot", "dear friend", "you idiot", None], ["en", "en", "de", None]
    rows = {"text": pa.array(texts, pa.string()), "language": pa.array(languages, pa.string())}
    one = ToxicityList(language="en", kind="model", file=NOWHERE)
    found = measure_toxicity(rows, ToxicityParams(lists=[one]), model)
    toxic, fine, *others = found["toxicity"].to_pylist()
    assert 0 <= fine < 0.2 < 0.8 < toxic <= 1
    assert others == [None, None]
    assert found["toxic_words"].to_pylist() == [None] * 4
    wrong = one.model_copy(update={"label": "__label__nsfw"})
    with pytest.raises(ValueError, match=r"toxic\.bin has no label __label__nsfw; it has __label__\w+, __label__\w+"):
        measure_toxicity(rows, ToxicityParams(lists=[wrong]), model)


def test_a_recipe_that_names_a_list_has_the_counts_beside_its_documents(third, tmp_path):
    """And one that names none has no such stage."""
    records = [json.loads(line) for line in third.read_text().splitlines()[:20]]
    source = write_jsonl(
        tmp_path / "few.jsonl", [*records, {"text": "You idiot, this is a sentence in English.", "id": "rude"}]
    )
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "en.txt").write_text("idiot\n")
    (tmp_path / "models" / MODEL.name).symlink_to(MODEL)
    settings = Settings(store=tmp_path / "store", workers=0, models=tmp_path / "models")
    file = {"name": "en.txt", "sha256": file_digest(tmp_path / "models" / "en.txt")}
    change = f"toxicity.lists={json.dumps([{'language': 'en', 'file': file}])}"
    without = start("corpus", settings, sources=[f"x={source}"], until="measure_text")
    here = start("corpus", settings, sources=[f"x={source}"], changes=[change], until="measure_toxicity")
    assert "measure_toxicity" not in without.artifacts
    [part] = here.artifacts["measure_toxicity"].parts
    table = read_columns(here.store.part_path("measure_toxicity", part.key))
    assert table["toxic_words"].to_pylist()[20] == 1
    assert table.num_rows == 21
    told = explain(settings, "rude", None)["document"]
    assert (told["toxic_words"], told["toxic_found"]) == (1, '{"idiot":1}')
