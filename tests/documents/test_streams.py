"""Compressed files: streamed in bounded memory; of what is cut, damaged or foreign the rest stays and the reason is named."""

import gzip
import tracemalloc

import pytest
import zstandard
from input_files import jsonl, read_all, write

from polylm.tasks.documents.readers import detect

LINES = [
    {"id": "a", "text": "Guten Tag", "url": "https://example.org/a", "date": "2024-05-01", "lang_declared": "de"},
    {"id": 7, "text": "สวัสดี", "date": "yesterday", "licence": "CC0", "align": None},
    {"text": "你好", "kind": "doc", "zeta": [1, {"b": 2}], "alpha": True},
]


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_bomb_is_streamed(tmp_path, suffix):
    line = jsonl([{"text": "short"}])
    path = write(tmp_path, f"x.jsonl.{suffix}", line + b"x" * (60 << 20) + b"\n" + line)
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    good, bad = read_all(path, max_record_bytes=1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(good), len(bad)) == (2, 1)
    assert peak < 24 << 20


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_of_truncated_data_stays_what_was_read(tmp_path, suffix):
    records = [{"text": f"document {i} {i * i * 7919}"} for i in range(12_000)]
    path = write(tmp_path, f"x.jsonl.{suffix}", jsonl(records))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    good, bad = read_all(path)
    assert 100 < len(good) < 12_000
    assert [row["text"] for row in good] == [record["text"] for record in records[: len(good)]]
    assert len(bad) == 1
    assert bad[0]["reason"].startswith("truncated")
    assert bad[0]["offset"] == len(jsonl(records[: len(good)]))


def test_a_zstd_window_larger_than_the_limit_is_a_bad_record(tmp_path):
    settings = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    stream = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(stream.compress(jsonl(LINES)) + stream.flush())
    good, bad = read_all(path)
    assert (good, [row["reason"] for row in bad]) == (
        [],
        ["zstd window of more than 128 MiB; compress again without --long"],
    )


def zstd_frames(*contents):
    return [zstandard.ZstdCompressor().compress(content) for content in contents]


SKIPPED = b"\x57\x2a\x4d\x18" + (300).to_bytes(4, "little") + b"x" * 300


def test_zstd_frames_one_after_another_and_frames_without_data_are_one_stream(tmp_path):
    first, second = zstd_frames(jsonl(LINES), jsonl(LINES))
    path = tmp_path / "x.jsonl.zst"
    for content in (first + second, SKIPPED + first + SKIPPED * 2 + second + SKIPPED):
        path.write_bytes(content)
        good, bad = read_all(path)
        assert (len(good), bad) == (6, [])
    path.write_bytes(first + SKIPPED[:200])
    good, bad = read_all(path)
    assert (len(good), [row["reason"][:14] for row in bad]) == (3, ["truncated zstd"])
    path.write_bytes(SKIPPED)
    with pytest.raises(ValueError, match="the file holds no data"):
        detect(path)


def test_zstd_that_needs_a_dictionary_says_so(tmp_path):
    samples = [jsonl([{"text": f"sample {i}", "n": i * 7919}]) for i in range(2_000)]
    trained = zstandard.train_dictionary(2_000, samples)
    packed = zstandard.ZstdCompressor(dict_data=trained).compress(jsonl(LINES))
    path = tmp_path / "x.jsonl.zst"
    for start in (b"", SKIPPED):
        path.write_bytes(start + packed)
        with pytest.raises(
            ValueError, match=r"x.jsonl.zst: zstd that needs a dictionary, .* \(zstd -d -D DICTIONARY\)"
        ):
            detect(path)
    path.write_bytes(zstd_frames(jsonl(LINES))[0] + packed)
    good, bad = read_all(path)
    assert (len(good), [row["reason"][:29] for row in bad]) == (3, ["zstd that needs a dictionary,"])


def test_several_gzip_members_and_padding_are_one_stream(tmp_path):
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(jsonl(LINES)) + b"\0" * 100 + gzip.compress(jsonl(LINES)) + b"\0" * 7)
    good, bad = read_all(path)
    assert (len(good), bad) == (6, [])


def test_bytes_after_a_gzip_stream_are_a_bad_record(tmp_path):
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(jsonl(LINES)) + b"rubbish that is not gzip")
    good, bad = read_all(path)
    assert len(bad) == 1
    assert bad[0]["reason"].startswith("damaged gzip near byte")
    assert len(good) == 3
