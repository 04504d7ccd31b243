"""How much of a document is in which language, line by line."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from polylm.kernels import utf8
from polylm.tasks.corpus.identify import Predict, identify, load_model
from polylm.tasks.stage import Columns, Field, Params, Rows, measure

BATCH_BYTES = 1 << 20  # of text whose lines are held at once
LABEL = pa.dictionary(pa.int16(), pa.string())
WRITES = {
    "line_language": LABEL,  # of most characters of sure lines
    "line_language_chars": pa.uint32(),
    "second_line_language": LABEL,
    "second_line_language_chars": pa.uint32(),
    "other_line_chars": pa.uint32(),  # of sure lines in further languages
    "unsure_line_chars": pa.uint32(),  # of lines that are too short or too doubtful
}


class LineLanguageParams(Params):
    min_chars: int = Field(20, ge=1, description="Shorter lines are not asked about.", unit="characters", source="ours")
    chars: int = Field(200, ge=1, description="Characters of a line that the model sees.", source="ours")
    sure: float = Field(0.5, ge=0, le=1, description="Lines below are unsure.", source="CCNet's floor")


@measure(reads=["text"], writes=WRITES, libraries=["fasttext-modern"])
def measure_line_languages(rows: Rows, params: LineLanguageParams, model: Path) -> Columns:
    """Count the characters of every document's lines by language: the two with most, all others, and unsure lines.

    The four counts together are all characters but line ends. Costs several times `identify_language`: short texts are dear.
    Memory: the lines of 1 MiB of text as Python's strings.
    """
    predict, texts = load_model(str(model)).f.predict, rows["text"]
    batches = utf8.row_batches(texts.drop_null(), BATCH_BYTES)
    found = [_row(counts) for batch in batches for counts in _counts(predict, batch, params)]
    places = pa.array(np.cumsum(texts.is_valid()) - 1, mask=texts.is_null().to_numpy(zero_copy_only=False))
    columns = zip(*found, strict=True) if found else [()] * len(WRITES)
    return {
        name: _column(list(values), kind).take(places)
        for (name, kind), values in zip(WRITES.items(), columns, strict=True)
    }


def _counts(predict: Predict, texts: pa.Array, params: LineLanguageParams) -> Iterator[Counter[str | None]]:
    """The characters of every text by language; None stands for unsure."""
    lists = pc.split_pattern(texts, "\n")
    lines, ends = lists.flatten(), np.cumsum(pc.list_value_length(lists)).tolist()
    lengths = pc.utf8_length(lines).to_numpy()
    labels: list[str | None] = [None] * len(lines)
    asked = np.flatnonzero(lengths >= params.min_chars)
    found = identify(predict, lines.take(pa.array(asked)), params.chars, 0.0, params.chars)
    for place, one in zip(asked.tolist(), found, strict=True):
        labels[place] = one.language if one.confidence >= params.sure else None
    begin = 0
    for end in ends:
        counts: Counter[str | None] = Counter()
        for place in range(begin, end):
            counts[labels[place]] += int(lengths[place])
        yield counts
        begin = end


def _row(counts: Counter[str | None]) -> tuple[str | None, int, str | None, int, int, int]:
    unsure = counts.pop(None, 0)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    (first, most), (second, next_most) = (*ranked, (None, 0), (None, 0))[:2]
    return first, most, second, next_most, sum(counts.values()) - most - next_most, unsure


def _column(values: list[str | int | None], kind: pa.DataType) -> pa.Array:
    if kind == LABEL:
        return pa.array(values, pa.string()).dictionary_encode().cast(kind)
    return pa.array(values, kind)
