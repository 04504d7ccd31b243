import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from polylm.tasks.stage import StageError
from polylm.tasks.tokens.tokenizer import (
    SPECIAL_TOKENS,
    TokenizerParams,
    encode_texts,
    load_tokenizer,
    new_tokenizer,
    sampling_rates,
    separator_id,
    train_tokenizer,
    word_pattern,
)

from .conftest import SENTENCES, corpus_of, sentences, workspace

ODD_TEXTS = [
    "",
    " ",
    "\r\n\t \u00a0\u3000 x  ",
    "\x00\x01\x7f\ufeff\ufffd\uffff",
    "👩‍👩‍👧‍👦🏳️‍🌈 e\u0301\u0302 ﬃ Ⅷ ½ ①",
    "สวัสดี ๑๒๓ 你好。Wordの表示 ١٢٣ ㍿ 𠀀𡃁 한\u1112\u1161\u11ab",
    "</s> <pad><|user|>\n<|assistant|>",
    "=" * 100 + "\n" * 30 + " " * 70,
]


def words(text, cap=24):
    split = new_tokenizer(cap).pre_tokenizer
    pieces = [text[first:last] for _, (first, last) in split.pre_tokenize_str(text)]
    return [piece for piece in pieces if piece]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_text_comes_back_as_it_was(tokenizer, text):
    loaded = load_tokenizer(tokenizer)
    assert loaded.decode(encode_texts(loaded, [text])[0], skip_special_tokens=False) == text


@settings(max_examples=300, deadline=None)
@given(text=st.text())
def test_any_text_comes_back_as_it_was(tokenizer, text):
    loaded = load_tokenizer(tokenizer)
    assert loaded.decode(encode_texts(loaded, [text])[0], skip_special_tokens=False) == text


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(codec="utf-8", categories=["L", "M", "N", "P", "Z", "S", "Cc"])))
def test_the_pattern_of_words_covers_every_text(text):
    assert "".join(regex.findall(word_pattern(24), text)) == text


def test_every_digit_is_one_token_and_no_entry_holds_two(tokenizer):
    loaded = load_tokenizer(tokenizer)
    assert len(encode_texts(loaded, ["0123456789"])[0]) == 10
    assert not [entry for entry in loaded.get_vocab() if regex.search(r"\d.*\d", entry)]


def test_words_end_where_a_script_without_spaces_begins():
    assert words("Wordの表示 ภาษาไทย2024年") == ["Word", "の表示", " ภาษาไทย", "2", "0", "2", "4", "年"]


def test_long_runs_are_cut_and_short_words_keep_the_space_before():
    assert words("委員会" * 9, cap=10) == ["委員会" * 3 + "委", "員会" + "委員会" * 2 + "委員", "会" + "委員会" * 2]
    assert words("d'être à l'eau") == ["d", "'être", " à", " l", "'eau"]


def test_the_special_tokens_have_the_first_ids(tokenizer):
    loaded = load_tokenizer(tokenizer)
    assert [loaded.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3]
    assert separator_id(tokenizer) == 0


def test_a_separator_written_in_a_document_is_plain_text(tokenizer):
    loaded = load_tokenizer(tokenizer)
    assert 0 not in encode_texts(loaded, ["the end</s>The committee"])[0]


def test_transformers_loads_it_with_the_right_ids_and_without_our_code(tokenizer):
    script = """
import sys
from transformers import AutoTokenizer
t = AutoTokenizer.from_pretrained(sys.argv[1])
text = "The river 2024 委員会"
ids = t(text)["input_ids"]
print(t.is_fast, t.bos_token_id, t.eos_token_id, t.pad_token_id, t.decode(ids) == text, t("<|user|></s>")["input_ids"], ids)
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONSAFEPATH": "1"}
    run = subprocess.run(
        [sys.executable, "-c", script, str(tokenizer)], capture_output=True, text=True, env=environment, check=True
    )
    ids = encode_texts(load_tokenizer(tokenizer), ["The river 2024 委員会"])[0]
    assert run.stdout.strip() == f"True 0 0 1 True [2, 0] {ids}"


def test_other_hash_seeds_and_threads_give_the_same_file(tmp_path):
    script = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from conftest import corpus_of, sentences, workspace
from polylm.tasks.tokens.tokenizer import TokenizerParams, train_tokenizer
train_tokenizer(corpus_of(sentences(), valid={3}), TokenizerParams(vocabulary=900), workspace(Path(sys.argv[1])))
"""
    digests = set()
    for hash_seed, threads in (("0", "1"), ("1", "2"), ("77", "2")):
        folder = tmp_path / f"{hash_seed}-{threads}"
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "RAYON_NUM_THREADS": threads, "PYTHONSAFEPATH": "1"}
        command = [sys.executable, "-c", script, str(folder), str(Path(__file__).parent)]
        subprocess.run(command, env=environment, check=True)
        files = sorted(path for path in (folder / "out").iterdir())
        digests.add(tuple((path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files))
    assert len(digests) == 1
    assert [name for name, _ in digests.pop()] == ["statistics.parquet", "tokenizer.json", "tokenizer_config.json"]


def test_how_documents_are_spread_over_parts_does_not_matter(tmp_path, corpus, tokenizer):
    halves = [
        {name: values[half] for name, values in rows.items()} for rows in corpus for half in (slice(20), slice(20, 40))
    ]
    work = workspace(tmp_path)
    train_tokenizer(halves, TokenizerParams(vocabulary=900), work)
    assert (work.out / "tokenizer.json").read_bytes() == (tokenizer / "tokenizer.json").read_bytes()


def test_unselected_and_held_out_documents_are_not_trained_on(tmp_path, corpus, tokenizer):
    noise = corpus_of({"en": ["zzzzqqqq zzzzqqqq " * 200] * 3}, valid={2})[0]
    noise["weight"] = pa.array([None, None, 1], pa.uint8())
    work = workspace(tmp_path)
    train_tokenizer([*corpus, noise], TokenizerParams(vocabulary=900), work)
    assert (work.out / "tokenizer.json").read_bytes() == (tokenizer / "tokenizer.json").read_bytes()


def test_statistics_measure_the_held_out_documents(tokenizer, corpus):
    rows = {row["language"]: row for row in pq.read_table(tokenizer / "statistics.parquet").to_pylist()}
    assert set(rows) == set(SENTENCES)
    texts = [corpus[0]["text"][i].as_py() for i in (3, 17)]
    english = rows["en"]
    assert english["documents"] == 2
    assert english["bytes"] == sum(len(text.encode()) for text in texts)
    assert english["tokens"] == sum(map(len, encode_texts(load_tokenizer(tokenizer), texts)))
    assert english["fertility"] == round(english["tokens"] / sum(len(text.split()) for text in texts), 4)
    assert rows["th"]["fertility"] is None  # its words have no spaces between them
    assert rows["th"]["bytes_per_token"] > 1


def test_a_language_without_held_out_text_has_no_measured_compression(tmp_path):
    work = workspace(tmp_path)
    metrics = train_tokenizer(corpus_of(sentences(10)), TokenizerParams(vocabulary=400), work)
    rows = pq.read_table(work.out / "statistics.parquet").to_pylist()
    assert {row["bytes_per_token"] for row in rows} == {None}
    assert metrics["bytes_per_token"] == 0.0
    assert metrics["entries"] == 400


def test_small_languages_count_for_more_than_they_have_but_not_without_end():
    sizes = {"en": 1_000_000, "th": 1_000, "xx": 10}
    rates = sampling_rates(sizes, TokenizerParams(alpha=0.3, max_repeats=50))
    sample = {language: rates[language] * size for language, size in sizes.items()}
    assert rates["en"] < 1 < rates["th"] <= 50
    assert rates["xx"] == 50
    assert sampling_rates(sizes, TokenizerParams(alpha=1.0)) == pytest.approx(dict.fromkeys(sizes, 1.0))
    assert sum(sample.values()) <= sum(sizes.values())


def test_the_sample_stays_near_its_bound(tmp_path, corpus):
    metrics = train_tokenizer(corpus, TokenizerParams(vocabulary=400, max_bytes=20_000), workspace(tmp_path))
    assert 14_000 < metrics["sample_bytes"] < 26_000


def test_a_corpus_without_selected_text_is_named(tmp_path):
    empty = corpus_of({"en": ["text"]})[0] | {"weight": pa.array([None], pa.uint8())}
    with pytest.raises(StageError, match="none of the documents in 1 parts is selected"):
        train_tokenizer([empty], TokenizerParams(), workspace(tmp_path))


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(StageError, match="no tokenizer"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_without_a_separator_is_named(tmp_path, tokenizer):
    foreign = json.loads((tokenizer / "tokenizer.json").read_text())
    foreign["added_tokens"] = [token for token in foreign["added_tokens"] if token["id"]]
    foreign["model"]["vocab"]["<end>"] = foreign["model"]["vocab"].pop("</s>")
    (tmp_path / "tokenizer.json").write_text(json.dumps(foreign))
    with pytest.raises(StageError, match="no entry </s>"):
        separator_id(tmp_path)
