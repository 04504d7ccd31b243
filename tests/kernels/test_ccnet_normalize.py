"""The kernel's normal form is cc_net's, for every character and where characters act on each other."""

import itertools
import sys

import pyarrow as pa
import pytest
from ccnet import slow_normal
from hypothesis import given, settings
from hypothesis import strategies as st

from polylm.kernels import ccnet_normalize


def normals(texts):
    data, offsets = ccnet_normalize.normalized(pa.array(texts, pa.string()))
    return [data[first:last].tobytes().decode() for first, last in itertools.pairwise(offsets)]


def test_every_character_becomes_what_cc_net_makes_of_it():
    every = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    texts = [f"a{char}b" for char in every]
    assert normals(texts) == [slow_normal(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  Élan\n und  Größe 2024 \t", "elan und  große 0000"),
        ("ΟΔΟΣ ΣΟΦΟΣ", "οδος σοφος"),
        ("İstanbul", "istanbul"),
        ("„So“ — «ça»…", '"so" - "ca"...'.replace(" - ", "  -  ")),
        ("ที่นี่มีน้ำ", "ทนมนำ"),
        ("한국", "\u1112\u1161\u11ab\u1100\u116e\u11a8"),
        ("a\u0301 \x0b", "a"),
        ("\u2003 \u200b \u2003", "\u200b"),
        ("", ""),
    ],
)
def test_texts_become_what_they_become_in_cc_net(text, normal):
    assert normals([text]) == [normal] == [slow_normal(text)]


marks = st.sampled_from("aΣσ \u0301\u302e\u302f\U0001d165\U0001d16d\n\x85\u00a0한é１—\U000e0101\U0002f800")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=8), st.text(marks, max_size=8)), max_size=5))
def test_texts_of_a_batch_do_not_touch_each_other(texts):
    assert normals(texts) == [slow_normal(text) for text in texts]


def test_a_slice_and_a_null_are_as_texts_alone():
    texts = pa.array(["Ä", None, "ÖÖ", "ü"])
    data, offsets = ccnet_normalize.normalized(texts.slice(1, 2))
    assert (data.tobytes(), offsets.tolist()) == (b"oo", [0, 0, 2])
