"""Text of others: escaped, isolated, and with what cannot be seen made visible."""

import pytest

from polylm.dashboard.text import cluster_boundary, foreign, plain, prose, shortened, visible


@pytest.mark.parametrize(
    "character", ["\u202e", "\u2066", "\x00", "\x1b", "\u200b", "\ufeff", "\u2028", "\U000e0041", "\x85"]
)
def test_names_what_cannot_be_seen(character):
    shown = visible(f"a{character}b")
    assert character not in shown
    assert f"U+{ord(character):04X}" in shown
    assert character not in plain(character)


@pytest.mark.parametrize(
    "text",
    ["e\u0301", "👩\u200d👩\u200d👧", "می\u200cخواهم", "ภาษาไทย", "日本語", "שָׁלוֹם", "\U00020000", "tab\tand\nline"],
)
def test_leaves_what_writing_needs(text):
    assert visible(text) == text


def test_escapes_markup():
    assert foreign("<b>&\"'") == "<bdi>&lt;b&gt;&amp;&#34;&#39;</bdi>"
    assert "<b>" not in prose("<b>")


def test_cuts_what_is_long():
    assert foreign("abcdef", 3) == "<bdi>abc…</bdi>"
    assert foreign("abc", 3) == "<bdi>abc</bdi>"


@pytest.mark.parametrize(
    "cluster",
    ["e\u0301\u0323", "👩\u200d👩\u200d👧", "👍🏽", "🇸🇪", "กำ", "שָׁ", "각", "\r\n"],
)
def test_a_cut_is_never_within_what_a_reader_sees_as_one_character(cluster):
    text = f"ab{cluster}cd"
    for limit in range(2, 2 + len(cluster)):
        assert shortened(text, limit) == "ab…"
    assert shortened(text, 2 + len(cluster)) == f"ab{cluster}…"
    assert shortened(text, len(text)) == text


def test_a_heap_of_marks_is_cut_all_the_same():
    heap = "e" + "\u0301" * 500
    assert len(shortened(heap, 200)) == 201
    assert cluster_boundary("", 0) == 0


def test_isolates_every_line_of_a_document():
    assert prose("שלום\nhello").startswith('<div class="prose" dir="auto">')
