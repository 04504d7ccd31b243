"""Broken text is repaired where that is sure; what is right stays, letter for letter."""

import gzip
import json
import re
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import DOCUMENTS

from polylm.tasks.documents import cyrillic
from polylm.tasks.documents.mojibake import repair


def repaired(*texts):
    return repair(pa.array(texts, pa.string()))[0].to_pylist()


def sample_texts():
    """The texts of the embedded sample, by language: 18 of them."""
    found = defaultdict(list)
    with gzip.open(DOCUMENTS, "rt", encoding="utf-8") as file:
        for record in map(json.loads, file):
            found[record["lang_declared"]].append(record["text"])
    return dict(found)


TEXTS = sample_texts()
LINES = [line for texts in TEXTS.values() for text in texts for line in text.split("\n") if not line.isascii()]


RIGHT = [
    "“Ã”", "CAFÉ®", "“CAFÉ®”", "“AMANHÔ", "«MAÇû", "AMANHÃ—SEXTA", "IRMÃ\xa0!", "ITAMARACÅ", "ESPAÑ…", "PÅ®", "Å»",
    "“café™”", "“Café”—he said", "«Ya está»—dijo", "«Ya está»…", "voilà”…", "voilà…“", "la lettre «Â»", "la lettre Â\xa0:",
    "the letter Ã’s sound", "¨MAÇè", "Îşi aminteşte", "SFÂ°", "Ã©", "“Ã¶” is what ö becomes", "NÃO® É™ Ù½", "RÉUNION © ÎLE",
    "ÄÖÜäöüß", "åäö ÅÄÖ", "æøå ÆØÅ", "éèêëàâîïôùûç", "áéíóúñ ÁÉÍÓÚÑ", "ãõçáéíóúâêô", "ÃÃÃÃÃÃ", "ÁÁÁÁÁÁ!", "ÖÖÖÖöööö", "ÉÉÉÉÉÉÉ",
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿ", "[a-zA-ZÀ-ÖØ-öø-ÿ]", "ÇĞİÖŞÜ çğıöşü", "ýðþæö ÝÐÞÆÖ",
    "Привет, мир", "«Ещё», Ёлка", "Ångström", "Ø 5 × 3 ± ½ ¶", "ťľščžýáíé", "Đžungla",
]  # fmt: skip


@pytest.mark.parametrize("text", RIGHT)
def test_right_text_stays(text):
    for form in (text, f"“{text}”", f"{text}®", f"{text} {text}", f"({text})…", f"One.\n{text}\nTwo."):
        assert repaired(form) == [form]


def capitals(text):
    """Every word in capitals and quotes, as titles are: the last letter of each stands before a sign."""
    return re.sub(r"[^\W\d_]+", lambda word: f"“{word[0].upper()}”", text)


@pytest.mark.parametrize(
    "sign", ["”", "®", "™", "©", "»", "…", "—", "–", "’", "ª", "º", "°", "²", "·", "•", "†", "\xa0", "€", "£"]
)
def test_no_right_text_of_18_languages_changes_whatever_signs_its_words_of_capitals_have(sign):
    assert len(TEXTS) == 18
    for texts in TEXTS.values():
        signed = [re.sub(r"(?<=\w)(?=\s|$)", sign, text.upper()) for text in texts[:6]]
        assert repaired(*signed) == signed


def test_no_right_text_of_18_languages_changes():
    for texts in TEXTS.values():
        for form in (str, capitals):
            formed = [form(text) for text in texts]
            assert repaired(*formed) == formed


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.sampled_from(LINES), min_size=1, max_size=4),
    st.sampled_from(["“{}”", "{}®", "«{}»—", "({})…", "¨{}¨", "{}"]),
)
def test_any_lines_in_any_quotes_stay(lines, form):
    text = "\n".join(form.format(line) for line in lines)
    assert repaired(text, text.upper()) == [text, text.upper()]


def lines_back(texts, encoding, read_as):
    """Of the lines that garbling changes: how many come back, and how many become something else."""
    right = [text.encode(encoding, "ignore").decode(encoding) for text in texts]
    broken = [text.encode(encoding).decode(read_as) for text in right]
    lines = [
        line
        for texts in zip(right, broken, repaired(*broken), strict=True)
        for line in zip(*(text.split("\n") for text in texts), strict=True)
    ]
    changed = [(good, bad, found) for good, bad, found in lines if good != bad]
    back = sum(found == good for good, _, found in changed)
    return back / len(changed), sum(found not in (good, bad) for good, bad, found in changed)


@pytest.mark.parametrize("language", sorted(TEXTS))
def test_utf8_that_was_read_as_windows_1252_or_latin_1_comes_back(language):
    import ftfy.bad_codecs  # noqa: F401  # registers what it is named after

    for read_as in ("sloppy-windows-1252", "latin-1"):
        share, others = lines_back(TEXTS[language][:15], "utf-8", read_as)
        assert others == 0
        assert share > 0.94


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r"])
def test_russian_that_was_read_as_western_comes_back(encoding):
    share, others = lines_back(TEXTS["ru"], encoding, "latin-1")
    assert others <= 1  # a sign of KOI8-R between words
    assert share > 0.98
    alone, _ = lines_back([line for text in TEXTS["ru"] for line in text.split("\n")], encoding, "latin-1")
    assert alone > 0.85


@pytest.mark.parametrize(
    ("language", "encoding"), [("he", "cp1255"), ("ar", "cp1256"), ("tr", "cp1254"), ("pl", "cp1250")]
)
def test_other_encodings_of_one_byte_are_not_taken_for_russian(language, encoding):
    import ftfy.bad_codecs  # noqa: F401

    assert lines_back(TEXTS[language], encoding, "sloppy-windows-1252") == (0, 0)


def test_short_lines_are_repaired_beside_many_that_are_sure():
    sure = ["Ïðèâåò, ìèð!", "Äîáðî ïîæàëîâàòü íà íàø ñàéò"]
    assert repaired("Äà") == ["Äà"]
    assert repaired("Ïðèâåò") == ["Привет"]
    assert repaired("\n".join(["Äà", *sure, "Windows XP", "voilà", "Îá àâòîðå"])) == [
        "Да\nПривет, мир!\nДобро пожаловать на наш сайт\nWindows XP\nvoilà\nОб авторе"
    ]


def test_the_table_of_pairs_is_that_of_the_sample():
    places = {letter: place + 1 for place, letter in enumerate("абвгдежзийклмнопрстуфхцчшщъыьэюя")}
    places["ё"] = places["е"]
    counts = np.full((33, 33), 0.5)
    for text in TEXTS["ru"]:
        for word in re.findall("[а-яё]+", text.lower()):
            path = [0, *(places[letter] for letter in word), 0]
            np.add.at(counts, (path[:-1], path[1:]), 1)
    bits = np.log2(counts / counts.sum(axis=1, keepdims=True) * 33)
    table = [
        "".join(chr(ord("M") + value) for value in row) for row in np.clip(np.round(2 * bits), -12, 10).astype(int)
    ]
    assert list(cyrillic._PAIRS) == table
