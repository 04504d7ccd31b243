"""Identity: content digests, keys, addresses, and fingerprints of code."""

import datetime
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import ODD_TEXTS, ROOT, environment

from polylm.tasks import keys

TYPES = {
    pa.string(): st.text(max_size=5) | st.sampled_from(ODD_TEXTS),
    pa.large_string(): st.text(max_size=5),
    pa.binary(): st.binary(max_size=5),
    pa.binary(3): st.binary(min_size=3, max_size=3),
    pa.bool_(): st.booleans(),
    pa.uint8(): st.integers(0, 255),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.float64(): st.floats(allow_nan=False),
    pa.dictionary(pa.int8(), pa.string()): st.sampled_from(["th", "en", "", "é"]),
    pa.list_(pa.uint64()): st.lists(st.integers(0, 9) | st.none(), max_size=3),
    pa.list_(pa.string()): st.lists(st.text(max_size=2) | st.none(), max_size=3),
    pa.struct([("a", pa.int32()), ("b", pa.string())]): st.fixed_dictionaries(
        {"a": st.integers(0, 9) | st.none(), "b": st.text(max_size=2) | st.none()}
    ),
}


@st.composite
def columns(draw):
    kind = draw(st.sampled_from(list(TYPES)))
    values = draw(st.lists(TYPES[kind] | st.none(), max_size=12))
    return kind, values


def array(kind, values):
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    return pa.array(values, kind)


def in_chunks(kind, values, cuts):
    """The same values in pieces, each with a dictionary of its own, cut out of longer arrays."""
    ends = [0, *sorted(cut % (len(values) + 1) for cut in cuts), len(values)]
    padding = values[:1] or [None]
    pieces = [
        array(kind, [*padding, *values[start:stop], *padding]).slice(1, stop - start) for start, stop in pairwise(ends)
    ]
    return pa.chunked_array(pieces, kind)


@given(columns(), st.lists(st.integers(0, 99), max_size=4))
def test_content_does_not_depend_on_chunks_offsets_or_dictionaries(column, cuts):
    kind, values = column
    assert keys.content(in_chunks(kind, values, cuts)) == keys.content(array(kind, values))


@given(columns())
def test_content_of_a_dictionary_is_that_of_its_values(column):
    kind, values = column
    if pa.types.is_dictionary(kind):
        plain = pa.array(values, pa.string())
        unused = pa.DictionaryArray.from_arrays(plain.dictionary_encode().indices, _longer(plain.dictionary_encode()))
        assert keys.content(unused) == keys.content(array(kind, values)) == keys.content(plain)


def _longer(encoded):
    return pa.concat_arrays([encoded.dictionary, pa.array(["never used"])])


@settings(max_examples=40, deadline=None)
@given(columns(), st.integers(1, 5), st.sampled_from(["zstd", "none", "snappy"]), st.booleans())
def test_content_survives_parquet_in_any_row_groups_and_compression(tmp_path_factory, column, rows, compression, coded):
    kind, values = column
    path = tmp_path_factory.mktemp("content") / "x.parquet"
    table = pa.table({"x": array(kind, values)})
    pq.write_table(table, path, row_group_size=rows, compression=compression, use_dictionary=coded)
    assert keys.content(pq.read_table(path)["x"]) == keys.content(table["x"])


@given(columns(), columns())
def test_other_values_have_another_content(one, other):
    (kind, values), (other_kind, others) = one, other
    if kind == other_kind and values != others:
        assert keys.content(array(kind, values)) != keys.content(array(kind, others))


def test_null_is_neither_empty_nor_zero_and_boundaries_count():
    def of(values, kind=None):
        return keys.content(pa.array(values, kind or pa.string()))

    assert of([None]) != of([""])
    assert of([None], pa.int64()) != of([0], pa.int64())
    assert of(["ab", "c"]) != of(["a", "bc"])
    assert of([[1], [2, 3]], pa.list_(pa.int8())) != of([[1, 2], [3]], pa.list_(pa.int8()))
    assert of([[]], pa.list_(pa.int8())) != of([None], pa.list_(pa.int8()))
    assert of([1], pa.int32()) != of([1], pa.int64())


def test_what_hides_under_a_null_does_not_count():
    hidden = pa.Array.from_buffers(
        pa.int64(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(np.array([5, 77], np.int64).tobytes())]
    )
    assert hidden.to_pylist() == [5, None]
    assert keys.content(hidden) == keys.content(pa.array([5, None], pa.int64()))


def test_dates_have_a_content():
    days = [datetime.date(2024, 5, 1), None]
    assert keys.content(pa.array(days)) == keys.content(pa.chunked_array([[days[0]], [None]], pa.date32()))


def test_a_digest_does_not_depend_on_the_order_of_names():
    assert keys.digest({"a": 1, "b": [2]}) == keys.digest({"b": [2], "a": 1}) != keys.digest({"a": 1, "b": [3]})


def test_a_key_changes_with_stage_version_and_identity():
    found = {
        keys.job_key(name, version, {"reads": reads})
        for name in ("a", "b")
        for version in (1, 2)
        for reads in ("x", "y")
    }
    assert len(found) == 8


@given(st.integers(0, 2**15 - 1), st.integers(0, 2**24 - 1), st.integers(0, 2**24 - 1))
def test_an_address_is_read_back_and_numbers_are_in_the_order_of_documents(source, part, row):
    doc = keys.number(source, part) + row
    text = f"wiki-th.2024.{part}.{row}"
    assert keys.address(doc, defaultdict(lambda: "wiki-th.2024")) == text
    assert keys.parse_address(text, ["a", "wiki-th.2024"]) == ("wiki-th.2024", part, row)
    assert doc < 2**63
    assert (doc >> 48, doc >> 24 & 2**24 - 1, doc & 2**24 - 1) == (source, part, row)


@pytest.mark.parametrize("text", ["wiki", "wiki.1", "other.1.2", "wiki.x.2", "wiki.1.-2", "1.2", ""])
def test_what_is_no_address_is_an_error_that_lists_the_sources(text):
    with pytest.raises(ValueError, match=r"SOURCE.PART.ROW, with SOURCE one of wiki, news"):
        keys.parse_address(text, ["wiki", "news"])


FINGERPRINT = "from polylm.tasks import keys; print(keys.code_fingerprint('lib_a'))"


def fingerprint(folder):
    """Of the module `lib_a` in a folder, in a new process: fingerprints are remembered in one."""
    done = subprocess.run(
        [sys.executable, "-c", FINGERPRINT],
        env=environment() | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    return done.stdout


def test_a_fingerprint_sees_code_and_not_comments_docstrings_or_layout(tmp_path):
    code = 'from polylm.kernels import clean_text\n\n\ndef f(x):\n    """Old."""\n    return clean_text.clean(x) + 1\n'
    module = tmp_path / "lib_a.py"
    module.write_text(code)
    first = fingerprint(tmp_path)
    module.write_text(code.replace("Old.", "New.").replace(" + 1", "  +  1  # why") + "\n\n")
    assert fingerprint(tmp_path) == first
    module.write_text(code.replace("+ 1", "+ 2"))
    assert fingerprint(tmp_path) != first


def test_a_fingerprint_holds_the_kernels_below_and_not_the_machinery():
    seen = keys._imported("polylm.tasks.documents.clean")
    assert {"polylm.tasks.documents.clean", "polylm.kernels.clean_text"} <= seen
    assert not seen & keys.WITHOUT_EFFECT


def test_the_machinery_that_fingerprints_leave_out_is_there():
    files = {f"polylm.tasks.{path.stem}" for path in (ROOT / "tasks").glob("[!_]*.py")}
    assert files == keys.MACHINERY
