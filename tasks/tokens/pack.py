"""Fill rows of context + 1 tokens with documents, best fit first, and lose no token.

A row is a separator, then documents that each end with one: `</s> d1 </s> d2 </s> ...`. So every token of every document,
and its end, is predicted exactly once, the first one from a separator. A document that does not fit a row is cut; each
piece but the first begins with the last token of the piece before, which is shown again and gives no loss.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from polylm.kernels.permutation import mix, permute_all
from polylm.model.rows import packed_schema
from polylm.tasks.stage import DOC, Field, Params, Rows, files
from polylm.tasks.tokens.tokenizer import separator_id

Integers = npt.NDArray[np.int64]
Tokens = npt.NDArray[np.int32]

# Of any context: the width of `tokens` is known from the params only (`model.rows.packed_schema`).
PACKED = pa.schema(
    [field.with_type(pa.binary()) if field.name == "tokens" else field for field in packed_schema(context=1)]
)


class PackParams(Params):
    """The shape of the rows, and which documents go into them."""

    context: int = Field(
        default=2_048,
        ge=2,
        unit="tokens",
        description="Inputs of the model; a row has one more.",
        source="PolyLM table 3",
    )
    split: Literal["train", "valid"] = Field(default="train", description="Documents of this split are packed.")
    seed: int = Field(default=0, ge=0, description="Of the order of rows, and of documents inside a row.")


@files(reads=["tokens", "cell", "split", "language", "weight", DOC], writes=PACKED, each="part", version=1)
def pack(rows: Rows, params: PackParams, tokenizer: Path) -> pa.Table:
    """Pack the documents of every mixture cell of a part into rows, best fit in decreasing size.

    A document is packed as often as its weight says. Rows come out in seeded order, cells one after the other by name.
    What is left of a cell's last rows is padded: packing in small parts wastes more. Memory: the part's tokens, twice.
    """
    chosen = pc.and_(pc.is_valid(rows["tokens"]), pc.is_valid(rows["weight"]))
    chosen = pc.and_(chosen, pc.fill_null(pc.equal(rows["split"].cast(pa.string()), params.split), False))
    index = np.flatnonzero(chosen.to_numpy(zero_copy_only=False))
    weights = pc.fill_null(rows["weight"], 0).to_numpy(zero_copy_only=False)
    documents = Documents.of(
        tokens=rows["tokens"], docs=rows[DOC], languages=rows["language"], cells=rows["cell"]
    ).take(np.repeat(index, weights[index]))
    return pack_documents(documents, context=params.context, separator=separator_id(tokenizer), seed=params.seed)


@dataclass(frozen=True)
class Documents:
    """Token ids of documents end to end, and what packed rows say of each document."""

    values: Tokens
    starts: Integers
    lengths: Integers
    docs: Integers
    languages: pa.Array
    cells: pa.Array

    @classmethod
    def of(cls, *, tokens: pa.ListArray, docs: pa.Array, languages: pa.Array, cells: pa.Array) -> Self:
        """Documents of Arrow columns; a null list is empty."""
        offsets = tokens.offsets.to_numpy().astype(np.int64)
        lengths = pc.fill_null(pc.list_value_length(tokens), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        names = (pc.fill_null(column.cast(pa.string()), "und") for column in (languages, cells))
        return cls(tokens.values.to_numpy(), offsets[:-1], lengths, docs.to_numpy(zero_copy_only=False), *names)

    def take(self, index: Integers) -> Self:
        """The documents at `index`, over the same values; those without a token are left out."""
        index = index[self.lengths[index] > 0]
        kept = pa.array(index)
        languages, cells = self.languages.take(kept), self.cells.take(kept)
        return type(self)(self.values, self.starts[index], self.lengths[index], self.docs[index], languages, cells)


def pack_documents(documents: Documents, *, context: int, separator: int, seed: int) -> pa.Table:
    """Rows of `packed_schema(context)`: each has documents of one cell only."""
    cells = np.array(documents.cells.to_pylist(), dtype=object).astype(str)
    names, codes = np.unique(cells, return_inverse=True)
    tables = [
        _pack_cell(documents.take(np.flatnonzero(codes == code)), name, context, separator, mix(seed, code))
        for code, name in enumerate(names.tolist())
    ]
    schema = packed_schema(context)
    return pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()


def best_fit_decreasing(sizes: Integers, capacity: int) -> Integers:
    """The row of every piece: the longest first, each into the fullest row that still has room for it.

    Never much more than 11/9 of the fewest rows possible (Johnson et al. 1974). `room` has bit s set while some row has
    exactly s free tokens, so the fullest fitting row is its lowest bit from `size` on.
    """
    assert not len(sizes) or (sizes.min() > 0 and sizes.max() <= capacity), "a piece does not fit a row"
    row_of_piece = np.zeros(len(sizes), np.int64)
    rows_with: list[list[int]] = [[] for _ in range(capacity + 1)]
    room = rows = 0
    for piece in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[piece])
        if fits := room >> size:
            space = size + (fits & -fits).bit_length() - 1
            row = rows_with[space].pop()
            if not rows_with[space]:
                room ^= 1 << space
        else:
            space, row, rows = capacity, rows, rows + 1
        row_of_piece[piece] = row
        if rest := space - size:
            rows_with[rest].append(row)
            room |= 1 << rest
    return row_of_piece


@dataclass(frozen=True)
class _Pieces:
    """Documents cut to fit rows. A piece is `length` tokens of its document and END, counted from `first`."""

    document: Integers
    first: Integers
    length: Integers

    @classmethod
    def of(cls, lengths: Integers, context: int) -> Self:
        counts = -(-(lengths + 1) // context)
        document = np.repeat(np.arange(len(lengths)), counts)
        first = (np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)) * context
        return cls(document, first, np.minimum(context, lengths[document] + 1 - first))

    @property
    def is_continued(self) -> npt.NDArray[np.bool_]:
        return self.first > 0

    def sizes(self, context: int) -> Integers:
        """Room that each takes beyond the token with which a row begins; a continuation brings its own first token."""
        return np.minimum(self.length + self.is_continued, context)

    def take(self, index: Integers) -> Self:
        return type(self)(self.document[index], self.first[index], self.length[index])


def _pack_cell(documents: Documents, cell: str, context: int, separator: int, seed: int) -> pa.Table:
    pieces = _Pieces.of(documents.lengths, context)
    row = best_fit_decreasing(pieces.sizes(context), context)
    rows = int(row.max(initial=-1)) + 1
    # Best fit puts the longest first, in the row and among rows: without this, place would tell length.
    shuffled_row = permute_all(np.arange(rows), rows, mix(seed, 1))[row]
    order = np.lexsort((permute_all(np.arange(len(row)), len(row), mix(seed, 2)), shuffled_row))
    pieces, row = pieces.take(order), shuffled_row[order]
    offsets = np.searchsorted(row, np.arange(rows + 1))
    starts = _starts(pieces, offsets[:-1])
    matrix = _fill(documents, pieces, row, starts, np.full((rows, context + 1), separator, "<i4"))
    lists = {
        "starts": pa.array(starts, pa.int32()),
        "loss_starts": pa.array(starts + pieces.is_continued, pa.int32()),
        "docs": pa.array(documents.docs[pieces.document]),
        "languages": documents.languages.take(pa.array(pieces.document)),
    }
    columns = {
        "tokens": pa.Array.from_buffers(pa.binary((context + 1) * 4), rows, [None, pa.py_buffer(matrix)]),
        **{name: pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values) for name, values in lists.items()},
        "length": pa.array((starts + 1 + pieces.length)[offsets[1:] - 1], pa.int32()),
        "cell": pa.array([cell] * rows, pa.string()),
    }
    return pa.table(columns, packed_schema(context))


def _starts(pieces: _Pieces, leads: Integers) -> Integers:
    """Where each piece begins in its row, at the token that comes before its first target.

    For a whole document that is the separator before it; a continuation brings a token of its own, but takes the
    separator's place where it leads the row.
    """
    follows = np.ones(len(pieces.length), np.bool_)
    follows[leads] = False
    own_token = (pieces.is_continued & follows).astype(np.int64)
    taken = np.cumsum(pieces.length + own_token)
    before = taken - pieces.length - own_token
    in_row = before - np.repeat(before[leads], np.diff(np.append(leads, len(follows))))
    return np.asarray(in_row + own_token)


def _fill(documents: Documents, pieces: _Pieces, row: Integers, starts: Integers, matrix: Tokens) -> Tokens:
    """Copy the pieces into rows full of separators, so that ends and padding are there already."""
    flat = matrix.reshape(-1)
    place = row * matrix.shape[1] + starts
    source = documents.starts[pieces.document] + pieces.first
    continued = pieces.is_continued
    flat[place[continued]] = documents.values[source[continued] - 1]
    count = np.minimum(pieces.length, documents.lengths[pieces.document] - pieces.first)
    for target, begin, size in zip((place + 1).tolist(), source.tolist(), count.tolist(), strict=True):
        flat[target : target + size] = documents.values[begin : begin + size]
    return matrix
