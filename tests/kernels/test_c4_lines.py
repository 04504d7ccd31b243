"""C4's rules for lines against a slow reading of them, and the cases in which implementations differ."""

import re

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polylm.kernels.c4_documents import COUNTS, count_lines
from polylm.kernels.c4_lines import COLUMNS, judge_lines
from polylm.kernels.unicode_classes import TERMINAL, flags_of, tables
from polylm.kernels.words import text_buffers

CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
PIECES = [
    *POLICIES,
    *(
        "lorem ipsum",
        "Lorem  Ipsum",
        "lo[1]rem ipsum",
        "JavaScript",
        "java",
        "coo\u212aie policy",
        "lorem İpsum",
        "USE ",
    ),
    *("{", "[12]", "[]", "[edit]", "[citation needed]", "[1", "1]", "[١٢]", "[１]", "[x]", "[", "]"),
    *("...", "..", ".", "?", "!", '"', "'", "…", "。", " ", "  ", "\t", "\u00a0", "\u3000", "\u200b"),
    *("\n", "\n\n", "\r\n", "\r", "\x0b", "\x1c", "\x1f", "\x85", "\u2028"),
    *("word", "a", "b c d.", "é", "中文", "😀", "x" * 999, "x" * 1001, "é" * 199, "z" * 200, "\x00"),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


def fate(line, *, terminal):
    """What becomes of a line: the count that it adds to, and what is left of it; lorem ipsum apart."""
    words = line.split()
    if any(len(word) > 1_000 for word in words):
        return "c4_long_word_lines", None
    line = CITATION.sub("", line)
    if terminal and (line[-1:] not in (".", "?", "!", '"', "'") or line.endswith("...")):
        return "c4_unterminated_lines", None
    if len(words) < 3:
        return "c4_few_word_lines", None
    if "javascript" in line.lower():
        return "c4_javascript_lines", line
    return ("c4_policy_lines" if any(policy in line.lower() for policy in POLICIES) else "c4_kept_lines"), line


def slow(text, *, terminal):
    counts, kept = dict.fromkeys(COLUMNS, 0), []
    for line in text.splitlines():
        name, left = fate(line.strip(), terminal=terminal)
        counts["c4_lines"] += 1
        counts[name] += 1
        counts["c4_lorem_lines"] += (
            left is not None and "lorem ipsum" in left.lower() and not counts["c4_bracket_lines"]
        )
        counts["c4_bracket_lines"] += left is not None and "{" in left and name != "c4_javascript_lines"
        kept += [left] if name == "c4_kept_lines" else []
    counts["c4_paragraphs"] = sum(len(line) >= 200 for line in text.split("\n"))
    return counts, "\n".join(kept)


def judged(texts, *, terminal):
    lines = judge_lines(pa.array(texts, pa.string()), terminal=terminal)
    counts = [{name: int(values[row]) for name, values in lines.counts.items()} for row in range(len(texts))]
    return list(zip(counts, lines.kept.to_pylist(), strict=True))


def kept(text, *, terminal=True):
    ((_, left),) = judged([text], terminal=terminal)
    return left


@settings(deadline=None)  # the first example builds the tables
@given(st.lists(TEXTS, max_size=4), st.booleans())
@example(["", "\n", "[citation needed][citation needed]", "[1] [2] [3]", "a b c.\n[1] [2] [3].\n"], False)
def test_any_text_has_the_counts_and_lines_of_the_slow_rules(texts, terminal):
    assert judged(texts, terminal=terminal) == [slow(text, terminal=terminal) for text in texts]


def ends_sentences(character):
    return bool(flags_of.py_func(ord(character), *tables()) & TERMINAL)


def sentences(line):
    """A slow count: cut behind a run of marks and closing quotes where white space or the end follows, or it is wide."""
    count, begun, at = 0, 0, 0
    while at < len(line):
        mark = line[at]
        at += 1
        if not ends_sentences(mark):
            continue
        while at < len(line) and (ends_sentences(line[at]) or line[at] in "\"')]»’”」』）"):
            at += 1
        if at == len(line) or line[at].isspace() or ord(mark) >= 0x3000:
            count, begun = count + 1, at
    return count + (begun < len(line))


def counted(texts):
    rows = count_lines(*text_buffers(pa.array(texts, pa.string())))
    return [dict(zip(COUNTS, row, strict=True)) for row in rows.tolist()]


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=4))
@example(["One two three. Four five (six)! {\n", "terms of use.", "a b c uses cookies and java script lorem ipsum. d"])
@example(
    ["kookies and privacy policy of ours.", "lorem ipsum dolor.", "use cookies a b", "He said: “No.” Then he left."]
)
def test_counts_for_documents_are_those_of_the_lines_with_and_without_ends(texts):
    for found, text in zip(counted(texts), texts, strict=True):
        for prefix, terminal in (("c4_", True), ("c4_any_", False)):
            counts, kept = slow(text, terminal=terminal)
            assert found[f"{prefix}lorem_lines"] == counts["c4_lorem_lines"]
            assert found[f"{prefix}bracket_lines"] == counts["c4_bracket_lines"]
            assert found[f"{prefix}sentences"] == sum(map(sentences, kept.split("\n"))) * bool(counts["c4_kept_lines"])
            assert found["c4_paragraphs"] == counts["c4_paragraphs"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("One two three. Four, 5.5 of them! “Six?” he asked", 4),
        ("今天天气很好。我们去公园吧！你觉得 怎么样？ 好的", 4),
        ("A line of words without an end\nand one more of them", 2),
        ("Ещё одно предложение. И второе…", 2),
        ("यह एक वाक्य है। यह दूसरा वाक्य है।", 2),
    ],
)
def test_sentences_are_counted_in_several_scripts(text, number):
    assert counted([text])[0]["c4_any_sentences"] == number


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("One two three.", "One two three."),
        (" One two three! \t", "One two three!"),
        ("One two three.[12]", "One two three."),
        ("One two three. [12]", ""),  # the space before the citation is what the line then ends in
        ("One two [edit] three.", "One two  three."),
        ("One two three…", ""),
        ("One two three...", ""),
        ("One [1]!", ""),
        ("One [1] two!", "One  two!"),  # words are counted before citations go
        ("One two three。", ""),
        (f"One two {'x' * 1_000}.", ""),
        (f"One two {'é' * 999}.", f"One two {'é' * 999}."),
        ("One uses coo\u212aies.", ""),  # the Kelvin sign is a k in lower case
        ("Prİvacy policy of ours.", "Prİvacy policy of ours."),  # and this letter two, with a mark between
    ],
)
def test_what_is_left_of_a_line(line, left):
    assert kept(line) == left


def test_lines_need_no_punctuation_where_it_is_not_asked_for():
    assert kept("one two three\nno\nfour five six", terminal=False) == "one two three\nfour five six"


def test_lines_of_a_slice_are_those_of_the_texts_in_it():
    texts = pa.array(["lost lost lost.", "One two three.", "Four five six.\n"], pa.large_string())
    assert judge_lines(texts.slice(1), terminal=True).kept.to_pylist() == ["One two three.", "Four five six."]


def test_lorem_ipsum_counts_up_to_the_first_bracket():
    ((before, _), (after, _)) = judged(["lorem ipsum {one}.", "A {b} c.\nlorem ipsum dolor."], terminal=True)
    assert (before["c4_lorem_lines"], before["c4_bracket_lines"]) == (1, 1)
    assert (after["c4_lorem_lines"], after["c4_bracket_lines"]) == (0, 1)
