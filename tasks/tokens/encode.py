"""Turn the selected documents into token ids."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from polylm.tasks.stage import Columns, NoParams, Rows, measure
from polylm.tasks.tokens.tokenizer import encode_texts, load_tokenizer

# The library holds about 100 bytes a token until a batch is done: a whole part at once would take gigabytes.
BATCH_BYTES = 4 << 20


@measure(reads=["text", "weight"], writes={"tokens": pa.list_(pa.int32())}, version=1, libraries=("tokenizers",))
def encode(rows: Rows, params: NoParams, tokenizer: Path) -> Columns:
    """Encode the documents that `select` gave a weight; null elsewhere.

    Nothing is added: packing puts the separators. A special token written out in a document is read as plain text, so
    no page can end a document or speak as a user. Memory: the part's ids and one batch of 4 MB of text.
    """
    texts = pc.if_else(pc.is_valid(rows["weight"]), rows["text"], pa.scalar(None, rows["text"].type))
    return {"tokens": encode_column(texts, tokenizer)}


def encode_column(texts: pa.Array, tokenizer: Path) -> pa.ListArray:
    """Token ids of every text as list<int32>; null where the text is."""
    given = pc.is_valid(texts).to_numpy(zero_copy_only=False)
    ids = [np.array(tokens, np.int32) for batch in _batches(texts.drop_null()) for tokens in _encode(batch, tokenizer)]
    offsets = np.zeros(len(texts) + 1, np.int32)
    offsets[1:][given] = [len(tokens) for tokens in ids]
    values = np.concatenate(ids) if ids else np.zeros(0, np.int32)
    return pa.ListArray.from_arrays(pa.array(np.cumsum(offsets, dtype=np.int32)), values, mask=pa.array(~given))


def _encode(texts: pa.Array, tokenizer: Path) -> list[list[int]]:
    return encode_texts(load_tokenizer(tokenizer), texts.to_pylist())


def _batches(texts: pa.Array) -> Iterator[pa.Array]:
    """Runs of texts of about BATCH_BYTES; a longer text is a run of its own."""
    sizes: npt.NDArray[np.int64] = pc.binary_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
    batch = (np.cumsum(sizes) - sizes) // BATCH_BYTES
    edges = [*np.flatnonzero(np.diff(batch, prepend=-1)).tolist(), len(texts)]
    for first, last in pairwise(edges):
        yield texts.slice(first, last - first)
