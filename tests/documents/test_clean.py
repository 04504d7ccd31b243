"""Cleaning keeps every row and what it cut; a text of which nothing is left is rejected as empty."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import ODD_TEXTS

from polylm.tasks.documents.boilerplate import BoilerplateParams, count_lines
from polylm.tasks.documents.clean import CleanParams, clean, drop_empty
from polylm.tasks.documents.masks import KINDS, STAND_INS, mask
from polylm.tasks.stage import NoParams, Workspace


def cleaned(texts, *, urls=None, kinds=None, boilerplate=(), **params):
    count = len(texts)
    rows = {"text": texts, "url": urls or [None] * count, "kind": kinds or [None] * count}
    found = clean(
        {name: pa.array(values, pa.string()) for name, values in rows.items()}, CleanParams(**params), *boilerplate
    )
    return {name: pa.array(values).to_pylist() for name, values in found.items()}


def test_lines_of_addresses_go_and_are_counted():
    found = cleaned(["Read on.\nhttps://example.org/a?b=c\nThe end.", "See https://example.org now."])
    assert found["text"] == ["Read on.\nThe end.", "See https://example.org now."]
    assert found["url_lines"] == [1, 0]
    assert cleaned(["a\nhttps://example.org"], drop_url_lines=False)["url_lines"] == [0]


def test_words_that_are_too_long_go_but_sentences_without_spaces_stay():
    chinese = "那天早上港口很安静" * 200
    found = cleaned(["x" * 1_001 + " y", chinese, "z" * 1_000])
    assert found["text"] == ["y", chinese, "z" * 1_000]
    assert found["long_words"] == [1, 0, 0]
    assert cleaned(["four fours"], max_word_chars=4)["text"] == ["four"]


def test_white_space_and_what_cannot_be_seen_is_made_standard_and_counted():
    found = cleaned(["a\u00a0\u2003b\u200b\r\nc\x00", " \t"])
    assert found["text"] == ["a b\nc", None]
    assert found["chars"] == [5, 0]
    assert found["invisible_chars"][0] == 2


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_characters_in_are_characters_out_and_what_was_cut(text):
    keep_all = {"drop_url_lines": False, "max_word_chars": 10_000}
    found = cleaned([text], **keep_all)
    assert sum(found[name][0] for name in ("chars", "invisible_chars", "space_chars")) == len(text)
    again = cleaned(found["text"], **keep_all)
    assert again["text"] == found["text"]
    assert (again["invisible_chars"], again["space_chars"]) == ([0], [0])


def test_every_row_stays_and_emptied_ones_have_their_reason():
    found = cleaned([*ODD_TEXTS, None])
    assert len(found["text"]) == len(ODD_TEXTS) + 1
    rule = drop_empty({"chars": np.array(found["chars"], np.float64)}, NoParams())["empty"]
    assert [text is None for text in found["text"]] == rule.broken.tolist()
    assert rule.broken.sum() >= 4
    assert rule.margin[0] == len(ODD_TEXTS[0]) - 1


def test_no_rows_are_no_rows():
    assert {len(values) for values in cleaned([]).values()} == {0}


def test_what_was_cut_is_kept_with_the_number_of_its_line():
    found = cleaned(["One.\n\n\nhttps://a.example/b\nTwo " + "y" * 1_500 + "\nThree", "nothing"])
    cuts = json.loads(found["cut"][0])
    assert cuts == [
        {"why": "address", "line": 2, "text": "https://a.example/b"},
        {"why": "long word", "line": 3, "text": "y" * 200},
    ]
    assert found["cut"][1] is None


def test_code_keeps_its_indentation_and_other_kinds_do_not():
    text = "def f():\n    return 1\n"
    found = cleaned([text, text], kinds=["code", "doc"])
    assert found["text"] == [text, "def f():\nreturn 1"]
    assert found["space_chars"] == [0, 5]
    assert cleaned([text], kinds=["code"], keep_kinds=())["text"] == ["def f():\nreturn 1"]


# What a recipe adds

BROKEN = {
    "schÃ¶n und gut": "schön und gut",
    "Ã  Paris, l’Ã©tÃ©": "à Paris, l’été",
    "donâ€™t": "don’t",
    "Ð\x9fÑ\x80Ð¸Ð²ÐµÑ\x82": "Привет",
    "æ—¥æœ¬èªž": "日本語",
}
RIGHT = [
    "São Tomé — ok",
    "¿Qué? «Où»",
    "ÃÃÃ",
    "Привет, мир",
    "l’été à 20 €",
    "日本語",
    "ภาษาไทย",
    "Größe: 5 ‰",
    "ﬁne “quotes”",
]


def test_mojibake_is_repaired_line_by_line_and_what_is_right_stays():
    texts = [f"Erste Zeile.\n{bad}\n“Letzte”" for bad in BROKEN]
    found = cleaned([*texts, *RIGHT, None], fix_mojibake=True)
    assert found["text"] == [f"Erste Zeile.\n{good}\n“Letzte”" for good in BROKEN.values()] + [*RIGHT, None]
    assert found["mojibake_lines"] == [1] * len(BROKEN) + [0] * (len(RIGHT) + 1)
    assert json.loads(found["cut"][0]) == [{"why": "mojibake", "line": 1, "text": "schÃ¶n und gut"}]
    assert cleaned(texts)["mojibake_lines"] == [0] * len(texts)


def test_lines_that_c4_drops_go_and_are_kept_in_the_record():
    found = cleaned(
        ["A whole sentence stands here.\nMenu\nPlease enable javascript now.\nThe end is near."], c4_lines=True
    )
    assert found["text"] == ["A whole sentence stands here.\nThe end is near."]
    assert found["c4_cut_lines"] == [2]
    assert [(cut["line"], cut["text"]) for cut in json.loads(found["cut"][0])] == [
        (1, "Menu"),
        (2, "Please enable javascript now."),
    ]
    emptied = cleaned(["Menu"], c4_lines=True)
    assert (emptied["text"], emptied["chars"]) == ([None], [0])


PERSONAL = [
    ("email", "Write to Jane.Doe+x@mail.firma.de, please.", "Jane.Doe+x@mail.firma.de"),
    ("email", "邮箱abc@firma.cn。", "abc@firma.cn"),
    ("email", "an müller@bücher.de.", "müller@bücher.de"),
    ("email", "of o'brien@firma.com,", "o'brien@firma.com"),
    ("email", "почта 'иван@почта.com'", "иван@почта.com"),
    ("email", "почта иван@почта.рф, и", "иван@почта.рф"),
    ("email", "пиши ivan@почта.рф.", "ivan@почта.рф"),
    ("email", "ИВАН@ПОЧТА.РФ", "ИВАН@ПОЧТА.РФ"),
    ("email", "at joe@xn--bcher-kva.xn--p1ai now", "joe@xn--bcher-kva.xn--p1ai"),
    ("email", "连接joe＠firma.com。", "joe＠firma.com"),
    ("email", "邮箱abc@公司.中国的网站", "abc@公司.中国"),
    ("email", "البريد ali@بريد.امارات.", "ali@بريد.امارات"),
    ("email", "Пиши ivan@mail.ru.Дети спят", "ivan@mail.ru"),
    ("ip", "from 8.8.4.4:53 on", "8.8.4.4"),
    ("ip", "at 2001:4860:4860::8888 there", "2001:4860:4860::8888"),
    ("iban", "Konto DE89 3704 0044 0532 0130 00 BIC COBADEFF", "DE89 3704 0044 0532 0130 00"),
    ("iban", "GB82WEST12345698765432.", "GB82WEST12345698765432"),
    ("phone", "call +49 30 901820 today", "+49 30 901820"),
    ("phone", "+1 (650) 253-0000\n", "+1 (650) 253-0000"),
    ("phone", "call +49\u201130\u2011901820 today", "+49\u201130\u2011901820"),
    ("phone", "call +49 30 – 901820 today", "+49 30 – 901820"),
    ("phone", "هاتف +٤٩ ٣٠ ٩٠١٨٢٠ ليلا", "+٤٩ ٣٠ ٩٠١٨٢٠"),
    ("phone", "電話 ＋４９ ３０ ９０１８２０ です", "＋４９ ３０ ９０１８２０"),
    ("phone", "電話 ＋４９－３０－９０１８２０。", "＋４９－３０－９０１８２０"),
]


@pytest.mark.parametrize(("kind", "text", "found"), PERSONAL)
def test_what_leads_to_a_person_is_masked_with_its_exact_span(kind, text, found):
    text = text.strip()
    masked = cleaned([text], masks=(kind,))
    new = masked["text"][0]
    assert found not in new
    (span,) = json.loads(masked["cut"][0])
    assert (span["why"], span["was"]) == (kind, len(found))
    assert new[: span["start"]] + found + new[span["end"] :] == text
    assert masked["masked"] == [1]
    assert cleaned([new], masks=KINDS)["masked"] == [0], "a stand-in is nobody's"
    assert cleaned([text])["text"] == [text]


@pytest.mark.parametrize(
    "text",
    [
        "mail@example.org and 192.168.0.1, 10.0.0.7, 127.0.0.1",
        "version 1.2.3.4.5 and 300.1.1.1",
        "DE89 3704 0044 0532 0130 01",
        "at 12:30:45, ISBN 978-3-16-148410-0, 1234567890",
        "a::b and std::vector, @home, x@y",
        "+12 34",
        "mail＠example.org, x＠y, 値段＠１００円",
        "кот@дом.Потом, @почта.рф, a@b.рфы",
        "+ 1914–1918, ２０２６年１１月２８日, 10 000–20 000",
    ],
)
def test_what_leads_to_nobody_stays(text):
    assert cleaned([text], masks=KINDS)["text"] == [text]


def test_a_number_without_a_country_code_needs_its_region():
    text = "Tel. 030 901820"
    assert cleaned([text], masks=("phone",))["masked"] == [0]
    assert cleaned([text], masks=("phone",), phone_regions=("DE",))["text"] == ["Tel. 000-000-0000"]


def test_from_one_number_to_another_is_no_number_of_a_region():
    text = "2010–2012, 1998 – 2004, 2500–3500, 22 000–33 000"
    assert cleaned([text], masks=("phone",), phone_regions=("NO", "DK"))["text"] == [text]
    assert mask("030–901820, 030\u2011901820", ("phone",), ("DE",))[0] == "000-000-0000, 000-000-0000"
    assert mask("(650) 253–0000, ٦٥٠–٢٥٣–٠٠٠٠", ("phone",), ("US",))[0] == "(000-000-0000, 000-000-0000"


def test_a_number_with_wide_spaces_is_one():
    assert mask("電話＋４９　３０　９０１８２０", ("phone",))[0] == "電話000-000-0000"


def test_spans_of_several_masks_are_those_of_the_new_text():
    text = "a@b.de und c.d@e.fr, +49 30 901820 oder 8.8.8.8 a@b.de"
    found = cleaned([text], masks=KINDS)
    new, at, pieces = found["text"][0], 0, []
    for span in json.loads(found["cut"][0]):
        assert new[span["start"] : span["end"]] == STAND_INS[span["why"]]
        pieces.append(span["start"] - at)
        at = span["end"]
    assert found["masked"] == [5]
    assert sum(pieces) + len(new) - at == len(text) - len("a@b.dec.d@e.fr+49 30 9018208.8.8.8a@b.de")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("BE62510007547061 DE89370400440532013000", "XX00 0000 0000 0000 00 XX00 0000 0000 0000 00"),
        (
            "DE89 3704 0044 0532 0130 00 GB29 NWBK 6016 1331 9268 19 ok",
            "XX00 0000 0000 0000 00 XX00 0000 0000 0000 00 ok",
        ),
        ("XY12 ABCD EFGH IJK DE89370400440532013000", "XY12 ABCD EFGH IJK XX00 0000 0000 0000 00"),
        ("Tel +49 30 901820-8.8.8.8", "Tel 000-000-0000-192.0.2.1"),
    ],
)
def test_of_two_that_stand_side_by_side_both_are_masked(text, masked):
    assert cleaned([text], masks=KINDS)["text"] == [masked]


PIECES = [
    "+49 30 901820",
    "8.8.8.8",
    "2001:4860:4860::8888",
    "a@b.de",
    "и@я.рф",
    "＋４９－３０－９０１８２０",
    "\u2011",
    "DE89370400440532013000",
    "XY12 ABCD",
    "-",
    ")",
    " ",
    "ü",
    "1",
]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.sampled_from([(), ("DE",)]))
def test_masking_twice_changes_nothing(text, regions):
    once, _ = mask(text, KINDS, regions)
    assert mask(once, KINDS, regions)[0] == once


def test_what_is_masked_is_looked_up_not_compared_with_all():
    """A log of 40,000 addresses: two minutes when each was compared with each."""
    text = "2026-01-01 8.8.4.4 GET /index a@b.de\n" * 20_000
    new, spans = mask(text, KINDS)
    assert len(spans) == 40_000
    assert new == "2026-01-01 192.0.2.1 GET /index email@example.com\n" * 20_000


def test_a_region_that_is_none_is_named():
    with pytest.raises(ValueError, match="de are no regions of ISO 3166, such as DE or US"):
        CleanParams(phone_regions=("de",))


MAIL, PHONE, IBAN, IP = "jane.doe@firma.de", "+49 30 901820", "DE89 3704 0044 0532 0130 00", "8.8.4.4"
LEAKS = f"Schreiben Sie an {MAIL} oder {PHONE} Konto {IBAN} Server {IP}"
HIDDEN = "Schreiben Sie an email@example.com oder 000-000-0000 Konto XX00 0000 0000 0000 00 Server 192.0.2.1"


def shown(found, row=0):
    return [cut["text"] for cut in json.loads(found["cut"][row]) if "text" in cut]


def test_the_record_shows_no_personal_data_of_lines_that_c4_drops():
    text = f"A whole sentence stands here.\n{LEAKS}\nThe end is near {MAIL}."
    found = cleaned([text], c4_lines=True, masks=KINDS)
    assert shown(found) == [HIDDEN]
    assert found["masked"] == [1]
    (span,) = (cut for cut in json.loads(found["cut"][0]) if "text" not in cut)
    assert found["text"][0][span["start"] : span["end"]] == STAND_INS["email"]
    assert shown(cleaned([text], c4_lines=True)) == [LEAKS]
    assert shown(cleaned([text], c4_lines=True, masks=("email",))) == [LEAKS.replace(MAIL, STAND_INS["email"])]


def test_the_record_shows_no_personal_data_of_boilerplate(tmp_path):
    rows = pages(20, "a.example", LEAKS)
    table = counted(tmp_path, rows, min_documents=10)
    texts, urls = map(list, zip(*rows, strict=True))
    assert shown(cleaned(texts, urls=urls, boilerplate=[table], masks=KINDS), 19) == [HIDDEN]
    assert shown(cleaned(texts, urls=urls, boilerplate=[table]), 19) == [LEAKS]


def test_the_record_shows_no_personal_data_of_lines_of_addresses():
    text = f"Read on.\nhttps://firma.de/?to={MAIL}&host=8.8.4.4\nThe end."
    assert shown(cleaned([text], masks=KINDS)) == ["https://firma.de/?to=email@example.com&host=192.0.2.1"]
    assert shown(cleaned([text])) == [f"https://firma.de/?to={MAIL}&host=8.8.4.4"]


def test_the_record_shows_no_personal_data_of_long_words_nor_half_of_it():
    inside, at_the_border = f"/{MAIL}/" + "x" * 1_500, "/" * 190 + MAIL + "/" * 1_000
    found = cleaned([f"One {inside} two", f"One {at_the_border} two"], masks=KINDS)
    assert shown(found, 0) == [("/email@example.com/" + "x" * 1_500)[:200]]
    assert shown(found, 1) == ["/" * 190 + "email@exam"]
    assert shown(cleaned([f"One {inside} two"])) == [inside[:200]]
    pieces = cleaned(["call +49 1512 3456789 today"], max_word_chars=6, masks=("phone",))
    assert shown(pieces) == ["000-000-0000"], "a piece of a number that only the line tells"


@pytest.mark.parametrize(
    "line", [f"schÃ¶n: {LEAKS}", "schÃ¶n: +49Â\u00a030Â\u00a0901820", f"schÃ¶n: jane.\u200bdoe@firma.de, {PHONE}"]
)
def test_the_record_shows_no_personal_data_of_broken_lines(line):
    found = cleaned([f"Eins.\n{line}"], fix_mojibake=True, masks=KINDS)
    for piece in ("doe", "901820", "3704", "8.8.4"):
        assert piece not in found["text"][0]
        assert piece not in found["cut"][0]
    assert found["mojibake_lines"] == [1]
    assert shown(cleaned([f"Eins.\n{line}"], fix_mojibake=True)) == [line]


def pages(count, host, lines):
    return [
        (f"Page {i} of {host}.\n{lines}\nIts own words, number {i}.", f"https://www.{host}/{i}") for i in range(count)
    ]


def counted(tmp_path, rows, **params):
    texts, urls = zip(*rows, strict=True)
    parts = [
        {"text": pa.array(texts[at : at + 7], pa.string()), "url": pa.array(urls[at : at + 7], pa.string())}
        for at in range(0, len(texts), 7)
    ]
    work = Workspace(tmp_path, tmp_path, tmp_path)
    return count_lines(parts, BoilerplateParams(**params), work=work)


def test_lines_that_a_site_repeats_are_cut_there_and_nowhere_else(tmp_path):
    rows = pages(20, "a.example", "Home | News\u00a0| About") + pages(20, "b.example", "Another line")
    rows += [
        ("Home | News | About\nof a small site", "https://c.example/"),
        ("no site", None),
        (None, "https://a.example/"),
    ]
    table = counted(tmp_path, rows, min_documents=10)
    assert table["documents"].to_pylist() == [20, 20]
    texts, urls = map(list, zip(*rows, strict=True))
    found = cleaned(texts, urls=urls, boilerplate=[table])
    assert found["text"][0] == "Page 0 of a.example.\nIts own words, number 0."
    assert found["boilerplate_lines"] == [1] * 40 + [0] * 3
    assert json.loads(found["cut"][0]) == [{"why": "boilerplate", "line": 1, "text": "Home | News | About"}]
    assert found["text"][40] == "Home | News | About\nof a small site"


def test_a_line_must_stand_on_enough_pages_and_on_a_share_of_them(tmp_path):
    rows = pages(12, "a.example", "often") + pages(300, "a.example", "")
    assert counted(tmp_path, rows, min_documents=10, min_share=0.01).num_rows == 1
    assert counted(tmp_path, rows, min_documents=10, min_share=0.1).num_rows == 0
    assert counted(tmp_path, rows, min_documents=20, min_share=0.0).num_rows == 0
    assert counted(tmp_path, [("x\nx\nx", "https://a.example/")], min_documents=2).num_rows == 0
