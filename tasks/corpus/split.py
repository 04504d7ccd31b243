"""Which pages are held out for validation, whatever verdict they get."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from polylm.kernels import minhash
from polylm.tasks.stage import Columns, Field, Params, Rows, measure

LABEL = pa.dictionary(pa.int16(), pa.string())


class SplitParams(Params):
    valid_share: float = Field(0.02, ge=0, lt=1, description="Share of pages held out for validation.", source="ours")
    seed: int = Field(0, ge=0, description="Chooses other pages for validation.")


@measure(reads=["text", "extra"], writes={"split": LABEL}, version=1)
def assign_split(rows: Rows, params: SplitParams) -> Columns:
    """Hold out pages for validation, by hash: `train` or `valid`.

    The hash is of `align` (the page that a text and its translations share) where there is one, else of the text, so that
    no translation of a page in training is in validation, and no verdict or order moves a page to the other side.
    """
    aligned = pc.struct_field(pc.extract_regex(rows["extra"], r'"align":"(?P<align>[^"]+)"'), "align")
    has_page = pc.fill_null(pc.greater(pc.utf8_length(aligned), 0), False)
    hashes = _hashes(pc.if_else(has_page, aligned, rows["text"]), params.seed)
    is_valid = hashes < np.uint64(params.valid_share * 2**64)
    return {"split": pa.array(np.where(is_valid, "valid", "train")).dictionary_encode()}


def _hashes(keys: pa.Array, seed: int) -> Any:
    texts = keys.cast(pa.large_string())
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    held = np.frombuffer(data or b"", np.uint8)
    return minhash.xxh64(held, ends[:-1].copy(), ends[1:].copy(), seed)
