import json

import pyarrow as pa
import pytest

from polylm.model.rows import to_arrays
from polylm.tasks.stage import StageError
from polylm.tasks.tokens.pairs import PAIR, PackPairParams, PairParams, cut_pairs, pack_pairs
from polylm.tasks.tokens.tokenizer import load_tokenizer

PAGES = [
    ("en", "help/1", "View\nGuides\nShows the water\n\n3.5\nEnd of page"),
    ("de", "help/1", "Ansicht\nGuides\nZeigt das Wasser\n\n3,5\nEnde der Seite"),
    ("fr", "help/1", "Affichage\nRepères\nMontre l'eau\n\n3,5"),  # a line is missing
    ("en", "help/2", "View\nSave"),
    ("de", "help/2", "Ansicht\nSichern"),
    ("ja", "help/3", "表示\n保存"),  # no English page
]


def corpus_of(pages, *, empty=(), valid=(), declared=None):
    numbers = range(len(pages))
    extras = [
        {"align": align, "source": "help", "lang_declared": (declared or {}).get(i, language)}
        for i, (language, align, _) in enumerate(pages)
    ]
    return [
        {
            "text": pa.array([None if i in empty else text for i, (_, _, text) in enumerate(pages)], pa.string()),
            "language": pa.array([language for language, _, _ in pages]).dictionary_encode(),
            "extra": pa.array([json.dumps(extra) if extra["align"] else None for extra in extras], pa.string()),
            "split": pa.array(["valid" if i in valid else "train" for i in numbers]),
            "doc": pa.array([100 + i for i in numbers], pa.int64()),
        }
    ]


def texts(table):
    return [(row["tgt_language"], row["src"], row["tgt"]) for row in table.to_pylist()]


def test_line_k_belongs_to_line_k_of_the_english_page():
    table = cut_pairs(corpus_of(PAGES), PairParams())
    assert texts(table) == [
        ("de", "View", "Ansicht"),
        ("de", "Shows the water", "Zeigt das Wasser"),
        ("de", "End of page", "Ende der Seite"),
        ("de", "Save", "Sichern"),  # "View" of the second page is there already
    ]
    assert table.schema == PAIR
    assert table.to_pylist()[3] == {
        "src_language": "en", "tgt_language": "de", "src": "Save", "tgt": "Sichern",
        "align": "help/2", "src_doc": 103, "tgt_doc": 104, "split": "train",
    }  # fmt: skip


def test_short_and_long_lines_make_no_pair():
    table = cut_pairs(corpus_of(PAGES), PairParams(min_chars=7, max_chars=14))
    assert texts(table) == [("de", "End of page", "Ende der Seite")]


def test_an_emptied_page_gives_no_pair():
    assert {row["align"] for row in cut_pairs(corpus_of(PAGES, empty={1}), PairParams()).to_pylist()} == {"help/2"}
    assert cut_pairs(corpus_of(PAGES, empty={0, 3}), PairParams()).num_rows == 0


def test_a_page_in_another_language_than_declared_gives_no_pair():
    table = cut_pairs(corpus_of(PAGES, declared={1: "nl"}), PairParams())
    assert texts(table) == [("de", "View", "Ansicht"), ("de", "Save", "Sichern")]


def test_pages_without_alignment_are_passed_over():
    assert cut_pairs(corpus_of([("en", None, "View"), ("de", None, "Ansicht")]), PairParams()).num_rows == 0


def test_aligned_pages_are_in_one_split_and_no_text_is_in_two():
    table = cut_pairs(corpus_of(PAGES, valid={2}), PairParams())  # the French page of help/1
    assert [(row["align"], row["split"]) for row in table.to_pylist()] == [("help/1", "valid")] * 3 + [
        ("help/2", "train")
    ]


def test_parts_may_cut_through_aligned_pages():
    (rows,) = corpus_of(PAGES)
    parts = [{name: values[part] for name, values in rows.items()} for part in (slice(0, 1), slice(1, 4), slice(4, 6))]
    assert cut_pairs(parts, PairParams()).equals(cut_pairs([rows], PairParams()))


def test_pairs_are_packed_in_both_directions_in_the_language_of_the_translation(tokenizer):
    pairs = cut_pairs(corpus_of(PAGES), PairParams())
    rows = to_arrays(pack_pairs(PackPairParams(context=256), pairs, tokenizer))
    assert rows.cells == ["de-en/pair", "en-de/pair"]
    assert [set(rows.row(index).languages) for index in (0, 1)] == [{"en"}, {"de"}]
    assert {*rows.row(0).docs.tolist()} == {100, 103}
    decoded = [load_tokenizer(tokenizer).decode(rows.row(index).tokens) for index in (0, 1)]
    assert "Sichern\nTranslate this sentence from German to English.\nSave\n" in decoded[0]
    assert "Save\nTranslate this sentence from English to German.\nSichern\n" in decoded[1]
    ends = [int((rows.row(index).tokens[: rows.row(index).length] == 0).sum()) for index in (0, 1)]
    assert ends == [5, 5]  # one before the first of four pairs, and one after each


def test_a_split_without_pairs_gives_no_row(tokenizer):
    pairs = cut_pairs(corpus_of(PAGES), PairParams())
    assert pack_pairs(PackPairParams(context=64, split="valid"), pairs, tokenizer).num_rows == 0


def test_a_language_without_a_name_is_named(tokenizer):
    pairs = cut_pairs(corpus_of(PAGES), PairParams())
    with pytest.raises(StageError, match="language 'de' has no name"):
        pack_pairs(PackPairParams(names={"en": "English"}), pairs, tokenizer)
