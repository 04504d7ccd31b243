"""UTF-8 that was read as another encoding, and written so: `schÃ¶n`."""

import pyarrow as pa
import pyarrow.compute as pc

# What two or three bytes of UTF-8 look like in an encoding of one byte: a first byte and a continuation. Whether it is one
# is ftfy's to say, line by line; this only spares it 99 of 100 texts, of which it reads 5 MB a second.
_SUSPECT = (
    "[\\x{0080}-\\x{009f}]|[ÂÃÄÅÐÑØÙÎÏâãäåæçèéêïðĂĐŃŕîđ][\\x{00a0}-\\x{00bf}ŒœŠšŽžŸƒˆ˜–—‘’‚“”„†‡•…‰‹›€™ŁłĄąŞşŹźŤťŻżĽľ]"
)


def repair(texts: pa.Array) -> tuple[pa.Array, dict[int, list[tuple[int, str]]]]:
    """Texts with such lines repaired, and by row what stood there: number and text of each line.

    A line is repaired where ftfy finds it bad and its repair is shorter and less bad; other lines and all quotes, widths and
    ligatures stay as they are.
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
    from ftfy import fix_encoding  # only workers that repair need it
    from ftfy.badness import badness, is_bad

    lines, before = text.split("\n"), []
    for number, line in enumerate(lines):
        if not is_bad(line):
            continue
        better = fix_encoding(line)
        if "\n" not in better and len(better) < len(line) and badness(better) < badness(line):
            before.append((number, line))
            lines[number] = better
    return "\n".join(lines), before
