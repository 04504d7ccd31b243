"""Letters by script, as Unicode's property and Python's tables have it."""

import unicodedata

import numpy as np
import pyarrow as pa

from polylm.kernels.scripts import SCRIPTS, count_letters


def counted(text, chars=1_000):
    letters = count_letters(pa.array([text]), chars)
    return {SCRIPTS[place]: int(letters.scripts[0, place]) for place in np.flatnonzero(letters.scripts[0])}


def test_counts_the_letters_of_every_script_and_nothing_else():
    assert counted("abc, ДЕ 12 日本の𠀀!") == {"Latn": 3, "Cyrl": 2, "Hani": 3, "Hira": 1}
    assert counted("12, 😀 \n") == {}


def test_only_the_first_characters_count_and_they_are_no_bytes():
    assert counted("日本の文章", 2) == {"Hani": 2}


def test_points_capitals_and_accents_are_counted_too():
    letters = count_letters(pa.array(["قَالَ", "שָׁלוֹם", "ABc Де", "re\u0301sume\u0301"]), 1_000)
    assert letters.points.tolist() == [2, 3, 0, 0]
    assert letters.upper.tolist() == [0, 0, 3, 0]
    assert letters.accents.tolist() == [0, 0, 0, 2]


def test_sliced_arrays_count_their_own_rows():
    assert count_letters(pa.array(["a", "bc", "def"]).slice(1, 2), 9).scripts.sum(axis=1).tolist() == [2, 3]


def test_the_script_of_a_letter_is_the_one_it_is_named_after():
    """Unicode's names of letters begin with their script, so Python's own table checks ours."""
    named = {"LATIN": "Latn", "CYRILLIC": "Cyrl", "ARABIC": "Arab", "HEBREW": "Hebr", "THAI": "Thai", "HANGUL": "Hang"}
    tatweel = "\u0640"  # a letter by category, common by script
    letters = [c for c in map(chr, range(0x20000)) if unicodedata.category(c)[0] == "L"]
    scripts = count_letters(pa.array(letters), 1).scripts
    for word, script in named.items():
        places = [
            place for place, c in enumerate(letters) if unicodedata.name(c, "").startswith(f"{word} ") and c != tatweel
        ]
        assert len(places) > 25
        assert scripts[places, SCRIPTS.index(script)].all()
