"""Signatures, bands and Jaccard, against datasketch, hashlib, xxhash and Python's sets."""

import hashlib
import struct

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from polylm.kernels.minhash import (
    bands,
    distinct,
    exact,
    jaccard,
    optimal_bands,
    permutations,
    sha1_32,
    signatures,
    xxh64,
)
from polylm.kernels.shingles import shingles, tokenize

TEXTS = [
    "The harbour was quiet that morning; two boats came in late, and the third one did not come at all.",
    "Der Hafen war an jenem Morgen still; zwei Boote kamen spät, und das dritte kam überhaupt nicht.",
    "В то утро в гавани было тихо; две лодки пришли поздно, а третья не пришла вовсе.",
    "その朝、港は静かだった。二隻の舟は遅れて着き、三隻目はついに来なかった。",
    "เช้าวันนั้นท่าเรือเงียบสงบ เรือสองลำมาช้า และลำที่สามไม่มาเลย",
    "كان الميناء هادئًا في ذلك الصباح؛ وصل قاربان متأخرين ولم يصل الثالث أبدًا.",
    "four words are few",
    "",
    None,
    "…!?",
]


def spans_of(messages: list[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The messages end to end, with their starts and ends."""
    ends = np.cumsum([len(message) for message in messages], dtype=np.int64)
    starts = ends - np.array([len(message) for message in messages], np.int64)
    return np.frombuffer(b"".join(messages), np.uint8), starts, ends


def messages_of_every_length() -> list[bytes]:
    """Lengths 0 to 200: every padding of one, two, three and four blocks."""
    stream = np.random.default_rng(1).integers(0, 256, 201, np.uint8).tobytes()
    return [stream[:size] for size in range(201)]


def datasketch_signature(shingles: list[bytes]) -> np.ndarray:
    minhash = MinHash(num_perm=128, seed=1, scheme="legacy")
    for shingle in shingles:
        minhash.update(shingle)
    return minhash.hashvalues


def test_sha1_is_that_of_hashlib():
    messages = messages_of_every_length()
    np.random.default_rng(2).shuffle(messages)  # neighbours of unlike lengths
    expected = [struct.unpack("<I", hashlib.sha1(message).digest()[:4])[0] for message in messages]
    assert sha1_32(*spans_of(messages)).tolist() == expected


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_xxh64_is_that_of_xxhash(seed: int):
    messages = messages_of_every_length()
    expected = [xxhash.xxh64_intdigest(message, seed) for message in messages]
    assert xxh64(*spans_of(messages), seed=seed).tolist() == expected


def test_permutations_are_those_of_datasketch():
    a, b = permutations(128)
    expected = MinHash(num_perm=128, seed=1, scheme="legacy").permutations
    assert a.tolist() == expected[0].tolist()
    assert b.tolist() == expected[1].tolist()


def test_signatures_of_real_texts_are_byte_equal_to_datasketch():
    tokens = tokenize(pa.array(TEXTS))
    spans = shingles(tokens, 5)
    ours = signatures(sha1_32(tokens.text, spans.starts, spans.ends), spans.offsets, *permutations(128))
    assert ours.dtype == np.uint32
    for row in range(len(TEXTS)):
        of_row = range(spans.offsets[row], spans.offsets[row + 1])
        theirs = datasketch_signature([tokens.text[spans.starts[i] : spans.ends[i]].tobytes() for i in of_row])
        assert ours[row].astype("<u8").tobytes() == theirs.astype("<u8").tobytes()


def test_the_overflow_of_the_product_is_kept():
    a, b = permutations(128)
    largest = np.array([2**32 - 1], np.uint32)
    exact_arithmetic = [((int(x) * (2**32 - 1) + int(y)) % (2**61 - 1)) & 0xFFFFFFFF for x, y in zip(a, b, strict=True)]
    minhash = MinHash(num_perm=128, seed=1, scheme="legacy", hashfunc=lambda _: 2**32 - 1)
    minhash.update(b"")
    ours = signatures(largest, np.array([0, 1]), a, b)[0].tolist()
    assert ours == minhash.hashvalues.tolist()
    assert ours != exact_arithmetic


def test_texts_without_tokens_have_no_shingles_and_shorter_ones_have_one():
    spans = shingles(tokenize(pa.array(TEXTS)), 5)
    assert np.diff(spans.offsets)[6:].tolist() == [1, 0, 0, 0]


@given(st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=5), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_signatures_depend_on_the_set_alone(sets: list[list[int]]):
    def signed(lists: list[list[int]]) -> np.ndarray:
        offsets = np.concatenate(([0], np.cumsum([len(x) for x in lists]))).astype(np.int64)
        return signatures(np.array([h for x in lists for h in x], np.uint32), offsets, *permutations(16))

    assert (signed(sets) == signed([[*reversed(x), *x] for x in sets])).all()


def test_bands_are_equal_where_their_rows_are_and_nowhere_else():
    signed = np.random.default_rng(0).integers(0, 2**32, (3, 128), np.uint32)
    signed[1, :9] = signed[0, :9]
    signed[1, 126:] = signed[0, 126:]  # past 14 x 9: not used
    found = bands(signed, 14, 9)
    assert (found[0] == found[1]).tolist() == [True] + [False] * 13
    assert len(np.unique(found)) == 3 * 14 - 1
    assert found[2, 3] == xxhash.xxh64_intdigest(signed[2, 27:36].astype("<u4").tobytes(), seed=4)


def test_equal_rows_in_different_bands_differ():
    found = bands(np.ones((1, 8), np.uint32), 4, 2)
    assert len(np.unique(found)) == 4


def test_bands_that_need_more_permutations_are_refused():
    with pytest.raises(ValueError, match="16 bands of 9 rows need 144 permutations, the signatures have 128"):
        bands(np.zeros((1, 128), np.uint32), 16, 9)


def test_exact_hashes_are_equal_for_equal_normalised_texts():
    tokens = tokenize(pa.array(["Hello, WORLD 12!", "hello world 99", "hello world"]))
    found = exact(tokens.text, tokens.text_offsets)
    assert found[0] == found[1] == xxhash.xxh64_intdigest(b"hello world 00")
    assert found[2] != found[0]


@pytest.mark.parametrize("threshold", [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9])
def test_optimal_bands_are_those_of_datasketch(threshold: float):
    lsh = MinHashLSH(threshold=threshold, num_perm=128)
    assert optimal_bands(threshold, 128) == (lsh.b, lsh.r)


def test_a_threshold_that_is_no_share_is_refused():
    with pytest.raises(ValueError, match=r"threshold 1\.5, 128 permutations: expected 0\.\.1 and at least 2"):
        optimal_bands(1.5, 128)


@given(st.lists(st.lists(st.integers(0, 12), max_size=14), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_jaccard_is_that_of_sets(lists: list[list[int]]):
    offsets = np.concatenate(([0], np.cumsum([len(x) for x in lists]))).astype(np.int64)
    hashes = np.array([h << 60 | h for x in lists for h in x], np.uint64)
    sets, set_offsets = distinct(hashes, offsets)
    pairs = np.array([(i, j) for i in range(len(lists)) for j in range(len(lists))])
    expected = [len({*lists[i]} & {*lists[j]}) / max(len({*lists[i]} | {*lists[j]}), 1) for i, j in pairs]
    assert jaccard(sets, set_offsets, pairs).tolist() == expected
    assert np.diff(set_offsets).tolist() == [len({*x}) for x in lists]


def test_signatures_estimate_jaccard():
    rng = np.random.default_rng(3)
    common, left, right = (
        rng.integers(0, 2**32, 600, np.uint32),
        rng.integers(0, 2**32, 200, np.uint32),
        rng.integers(0, 2**32, 200, np.uint32),
    )
    hashes = np.concatenate((common, left, common, right))
    signed = signatures(hashes, np.array([0, 800, 1600]), *permutations(128))
    assert abs((signed[0] == signed[1]).mean() - 0.6) < 0.13  # three standard errors
