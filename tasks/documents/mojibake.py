"""Text that was read as another encoding, and written so: `schÃ¶n` for `schön`, `Ïðèâåò` for `Привет`."""

import re
import unicodedata
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import regex

from polylm.tasks.documents import cyrillic

# Two bytes of UTF-8 as an encoding of one byte shows them are a capital letter (_FIRST) and a sign (_NEXT), which right text
# has too where a word of capitals ends: `“MAÇÔ`, `CAFɮ. Right text does not have what stands below; any of it is enough for
# ftfy to look at the line.
_FIRST = "ÂÃÄÅÎÏÐÑØÙĂĐŃĹĆŘŮĎ"
_RARE = "\x80-\x9fƒˆ‰˜ŒœŠšŽžŸ"  # that no word of capitals is followed by, nor ends with
_ODD = _RARE + "¢¤¦±µ¶¼½¾"  # not the soft hyphen, which stands in right words of capitals: CHÂ-TEAU
_NEXT = _ODD + "\xa0-¿–—‘’‚“”„†‡•…‹›€™ŁłĄąŞşŤťŹźŻżĽľ"
_NEXT_BUT_APOSTROPHES = _NEXT.replace("’", "")
_THIRD = "à-ïŕăĺćčęěď"  # the first of three bytes
_BROKEN = "|".join(
    [
        f"\\p{{Ll}}(?:[{_FIRST}][{_NEXT}]|Ã\xad|Æ[°¡])",  # a capital and a sign after a small letter
        f"[ÂÃÄÅÎÏÐÑØÙ](?:[\x80-\x9f]|[{_ODD}]\\p{{L}})|\\p{{L}}[ÂÃÄÅÎÏÐÑØÙ][{_RARE}]",
        f"(?:^|[^\\p{{L}}])(?:[{_FIRST}][{_NEXT_BUT_APOSTROPHES}]\\p{{L}}|Ã\xad\\p{{Ll}})",  # or at the start of a word
        f"\\p{{Lu}}[{_FIRST}][¡-ª¬\xad¯-¶¸-º¼-¿]\\p{{Ll}}",
        "(?:^|[ '’(])Ã[¨\xa0] ",  # the words è and à
        f"(?:[{_FIRST}×][{_NEXT}]){{2}}",  # two side by side
        f"(?:[{_THIRD}][{_NEXT}][{_NEXT}]){{2}}",
        f"[{_THIRD}][\x80-\x9f]",
        f"á[º»][{_ODD}¥§-ª¬¯-¶¸-º]",  # Vietnamese; not «está»…
        f"â[€„†ˆ˜œš›ž][{_NEXT}]|ðŸ[{_NEXT}][{_NEXT}]",  # punctuation, symbols, emoji
        "(?:^|[\\d.,;:!?)])Â\xa0|(?:^|[ \\t\\d.,;:!?)])Â[£§©«°·¿¡®]",  # a sign of Latin-1, alone
    ]
)
_MAYBE = re.compile(f"[{_FIRST}{_THIRD}Æ][{_NEXT}]")  # what is looked at beside many broken lines
_MANY = 3
_IS_BROKEN = regex.compile(_BROKEN)  # re knows no \\p
_SUSPECT = f"(?m){_BROKEN}|{cyrillic.SUSPECT}"
# Letters and signs that repaired lines do not bring, because nothing but a wrong repair does: CAFɮ.
_UNLIKELY = re.compile(
    "[\x80-\x9f\u0180-\u018e\u0190\u0193-\u019f\u01a2-\u01ae\u01b1-\u0217\u021c-\u02bb\u02bd-\u02c5\u02cc-\u02ff\ufffd]"
)
_WORD = re.compile(r"[^\W\d_]+")
_EAST_ASIAN = {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO", "FULLWIDTH", "HALFWIDTH"}


def repair(texts: pa.Array) -> tuple[pa.Array, dict[int, list[tuple[int, str]]]]:
    """Texts with such lines repaired, and by row what stood there: number and text of each line.

    Precision first. UTF-8 is repaired by ftfy where right text could not look like the line, the repair is shorter and less bad,
    and it brings no rare letters and no word of two scripts. Russian in an encoding of one byte is told by its letters (see
    `cyrillic`). Other lines and all quotes, widths and ligatures stay as they are.
    """
    found = pc.fill_null(pc.match_substring_regex(texts, _SUSPECT), False)
    changed: dict[int, str] = {}
    lines: dict[int, list[tuple[int, str]]] = {}
    for row in (row for row, suspect in enumerate(found.to_pylist()) if suspect):
        text, before = _repaired(texts[row].as_py())
        if before:
            changed[row], lines[row] = text, before
    if not changed:
        return texts, lines
    mask = pa.array([row in changed for row in range(len(texts))])
    return pc.replace_with_mask(texts, mask, pa.array(list(changed.values()), texts.type)), lines


def _repaired(text: str) -> tuple[str, list[tuple[int, str]]]:
    lines = text.split("\n")
    better = _of_utf8(lines) | cyrillic.repaired(lines)
    changed = [(number, lines[number]) for number in sorted(better)]
    return "\n".join(better.get(number, line) for number, line in enumerate(lines)), changed


def _of_utf8(lines: Sequence[str]) -> dict[int, str]:
    """The lines that are sure to be UTF-8, and beside many of them those that may be."""
    broken = [_IS_BROKEN.search(line) is not None for line in lines]
    found = {number: _fixed(line) for number, line in enumerate(lines) if broken[number]}
    sure = {number: better for number, better in found.items() if better is not None}
    if len(sure) < _MANY:
        return sure
    rest = [number for number, line in enumerate(lines) if not broken[number] and _MAYBE.search(line)]
    return sure | {number: better for number in rest if (better := _fixed(lines[number])) is not None}


def _fixed(line: str) -> str | None:
    """A line as it should be; None where that is not sure."""
    from ftfy import fix_encoding  # only workers that repair need it
    from ftfy.badness import badness, is_bad

    if not is_bad(line):
        return None
    better = fix_encoding(line)
    if "\n" in better or len(better) >= len(line) or badness(better) >= badness(line):
        return None
    return None if _is_unlikely(line, better) else better


def _is_unlikely(line: str, better: str) -> bool:
    """Does a repair bring letters that hardly any text has, or words of more than one script? Those of East Asia stand beside
    Latin ones, but not a single one: `caf陔` was `café™”`."""
    new = set(better) - set(line)
    if _UNLIKELY.search("".join(new)):
        return True
    scripts = [_scripts(word) for word in _WORD.findall(better) if new.intersection(word)]
    many = sum(character in new for character in better) >= _MANY
    return any(len(of_word) > 1 and not (many and "CJK" in of_word) for of_word in scripts)


def _scripts(word: str) -> set[str]:
    """The scripts of a word's letters, by the first word of their Unicode names; those of East Asia are one."""
    names = {unicodedata.name(letter, "").partition(" ")[0] for letter in word if unicodedata.category(letter) != "Lm"}
    return {"CJK" if name in _EAST_ASIAN else name for name in names}
