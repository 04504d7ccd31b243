"""The corpus as a view: which documents count, how much, in which cell of the mixture, and for training or validation."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from polylm.kernels import minhash
from polylm.tasks.stage import Field, Params, Rows, files

LABEL = pa.dictionary(pa.int16(), pa.string())
SELECTED = {"weight": pa.uint8(), "cell": LABEL, "split": LABEL}


class SelectParams(Params):
    valid_share: float = Field(0.02, ge=0, lt=1, description="Share of pages held out for validation.", source="ours")
    seed: int = Field(0, ge=0, description="Chooses other pages for validation.")


@files(reads=["text", "language", "kind", "extra"], writes=SELECTED, each="part", aligned=True, version=1)
def select(rows: Rows, params: SelectParams) -> pa.Table:
    """Select what no gate rejected: weight 1, cell `language/kind`, split by page.

    The split is by the hash of `align` (the page that a text and its translations share) where there is one, else of the
    text, so that no translation of a page in training is in validation. Text is not written again.
    """
    kinds = rows["kind"].fill_null("text")
    cells = pc.binary_join_element_wise(rows["language"].cast(pa.string()), kinds, "/")
    aligned = pc.struct_field(pc.extract_regex(rows["extra"], r'"align":"(?P<align>[^"]+)"'), "align")
    hashes = _hashes(
        pc.if_else(pc.fill_null(pc.greater(pc.utf8_length(aligned), 0), False), aligned, rows["text"]), params.seed
    )
    is_valid = hashes < np.uint64(params.valid_share * 2**64)
    return pa.table(
        {
            "weight": pa.array(np.ones(len(cells), np.uint8)),
            "cell": cells.dictionary_encode().cast(LABEL),
            "split": pa.array(np.where(is_valid, "valid", "train")).dictionary_encode().cast(LABEL),
        }
    )


def _hashes(keys: pa.Array, seed: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    texts = keys.cast(pa.large_string())
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    held = np.frombuffer(data or b"", np.uint8)
    return minhash.xxh64(held, ends[:-1].copy(), ends[1:].copy(), seed)
