"""The paper's line-wise rules (PolyLM 3.1), and the gate for texts of which nothing is left."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from polylm.kernels import normalize
from polylm.tasks.rules import Rules, at_least
from polylm.tasks.stage import Columns, Field, NoParams, Params, Rows, gate, measure


class CleanParams(Params):
    max_word_chars: int = Field(
        1_000,
        ge=1,
        description="Longer words are cut out, but in scripts without spaces.",
        unit="characters",
        source="C4",
    )
    drop_url_lines: bool = Field(
        True, description="Drop lines that are only addresses.", source="PolyLM 3.1, line-wise rules"
    )


@measure(
    reads=["text"],
    writes={
        "text": pa.string(),
        "chars": pa.uint32(),
        "url_lines": pa.uint32(),
        "long_words": pa.uint32(),
        "invisible_chars": pa.uint32(),
        "space_chars": pa.uint32(),
    },
    version=1,
    libraries=["unicodedata"],
)
def clean(rows: Rows, params: CleanParams) -> Columns:
    """Standardise white space; drop invisible characters, lines that are only addresses and over-long words.

    A text of which nothing is left is null, with 0 characters. Memory: two copies of the part's text.
    """
    cut = normalize.clean(rows["text"], max_word_chars=params.max_word_chars, drop_url_lines=params.drop_url_lines)
    return {
        "text": cut.texts,
        "chars": pc.utf8_length(cut.texts).fill_null(0).cast(pa.uint32()),
        "url_lines": cut.url_lines,
        "long_words": cut.long_words,
        "invisible_chars": cut.invisible_chars,
        "space_chars": cut.space_chars,
    }


@gate(reads=["chars"])
def drop_empty(rows: Rows, params: NoParams) -> Rules:
    """Reject documents of which cleaning left nothing."""
    return {"empty": at_least(np.asarray(rows["chars"]), 1)}
