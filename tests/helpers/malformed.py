"""Malformed files for every reader, each from a seed: built, damaged, read, and checked against what was in them.

    python -P malformed.py FOLDER KIND FIRST COUNT

runs a stretch of seeds in a process of its own, because native code can take the process along: it notes each seed in
FOLDER/KIND.seed before it begins, and prints one line of JSON at its end.
"""

import json
import random
import resource
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from well_formed import BUILDERS, compress

from polylm.tasks.documents.readers import detect, read, split

LOST = "damaged Parquet"  # how the bad record begins that stands for many rows
SMALL, LARGE = 4_000, 1 << 20  # bytes that a record may have


def truncate(rng, data):
    return data[: rng.randrange(len(data))]


def flip_bits(rng, data):
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 3, 20])):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_near_the_end(rng, data):
    """Where Parquet has its footer, and compressed data its checksum."""
    kept = max(0, len(data) - 1_500)
    return data[:kept] + flip_bits(rng, data[kept:])


def insert_nul(rng, data):
    return insert(rng, data, b"\0" * rng.choice([1, 1, 50, 5_000]))


def insert_long_line(rng, data):
    return insert(rng, data, rng.choice([b"y", b"\xc3\xa9", b'{"text":"', b"["]) * rng.choice([5_000, 200_000]))


def insert_wrong_encoding(rng, data):
    pieces = ["Größe".encode("latin-1"), "мир".encode("cp1251"), "日本".encode("shift-jis"), b"\xc0\xaf", b"\xf5\x80"]
    return insert(rng, data, rng.choice(pieces))


def insert_surrogate(rng, data):
    """A half of a pair, as bytes and as an escape."""
    return insert(rng, data, rng.choice([b"\xed\xa0\x80", b"\xed\xb0\x80", b"\\ud800", b"\\udc00x", b"\\ud83d\\u0041"]))


def insert_mark(rng, data):
    return insert(rng, data, b"\xef\xbb\xbf")


def begin_with_a_mark(rng, data):
    return rng.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"]) + data


def recode(rng, data):
    """The whole file in UTF-16 or UTF-32, with and without a mark."""
    return data.decode("utf-8", "replace").encode(rng.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32"]))


def break_header(rng, data):
    old, new = rng.choice(
        [
            (b"Content-Length: ", b"Content-Length: -"),
            (b"Content-Length: ", b"Content-Length: 99999999999"),
            (b"Content-Length: ", b"Content-Length: 1\r\nContent-Length: "),
            (b"WARC/1.0", b"WARC/"),
            (b"WARC-Type", b"WARC-Typ\0"),
            (b"HTTP/1.1 200", b"HTTP/1.1 2x0"),
            (b"charset=utf-8", b"charset=no-such"),
            (b"Content-Type: text/html", b"Content-Encoding: gzip\r\nContent-Type: text/html"),
            (b"Content-Type: text/html", b"Transfer-Encoding: chunked\r\nContent-Type: text/html"),
            (b"\r\n\r\n", b"\r\n"),
            (b":", b""),
        ]
    )
    at = data.find(old, rng.randrange(len(data)))
    return data if at < 0 else data[:at] + new + data[at + len(old) :]


def drop_piece(rng, data):
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randint(1, 400) :]


def repeat_piece(rng, data):
    start = rng.randrange(len(data))
    return data[:start] + data[start : start + rng.randint(1, 400)] + data[start:]


def overwrite_with_zeros(rng, data):
    """What a file system gives back of a block that it lost."""
    start, count = rng.randrange(len(data)), rng.choice([16, 512, 4_096])
    return data[:start] + b"\0" * len(data[start : start + count]) + data[start + count :]


def empty(rng, data):
    return rng.choice([b"", b"\n", b"\r\n\r\n", b"\0", b" " * 9_000])


def damage_twice(rng, data):
    for harm in rng.sample(ONCE, 2):
        data = harm(rng, data) if data else data
    return data


def insert(rng, data, piece):
    at = rng.randrange(len(data) + 1)
    return data[:at] + piece + data[at:]


ONCE = [
    truncate,
    flip_bits,
    flip_near_the_end,
    insert_nul,
    insert_long_line,
    insert_wrong_encoding,
    insert_surrogate,
    insert_mark,
    begin_with_a_mark,
    recode,
    break_header,
    drop_piece,
    repeat_piece,
    overwrite_with_zeros,
    empty,
]
DAMAGES = [*ONCE, damage_twice]
TAKES_RECORDS = (truncate, drop_piece, overwrite_with_zeros, empty, recode, damage_twice)  # and may leave no trace


@dataclass(frozen=True)
class Case:
    """One malformed file and how it is read."""

    kind: str
    damage: str
    path: Path
    records: list[bytes]
    data: bytes | None  # the content after the damage; None where what was damaged is its compressed form
    options: dict

    @property
    def limit(self):
        """Bytes that a record may have."""
        return self.options["max_record_bytes"]


def make_case(kind, seed, folder):
    """Build and damage one file."""
    rng = random.Random(f"{kind} {seed}")
    more = ["zst", "bz2", "xz"] if kind in ("jsonl", "txt", "csv", "tsv", "xml") else []
    suffix = "" if kind in ("parquet", "arrow") else rng.choice(["", "", "gz", *more])
    records, damage = BUILDERS[kind](rng), rng.choice(DAMAGES)
    before = suffix == "" or rng.random() < 0.5
    data = damage(rng, b"".join(records)) if before else b"".join(records)
    stored = compress(data, suffix, records if kind in ("wet", "warc") and not before else None)
    if not before:
        stored = damage(rng, stored)
    path = folder / f"{seed}.{kind}{'.' + suffix if suffix else ''}"
    path.write_bytes(stored)
    options = {
        "documents": rng.choice(["line", "line", "blank-line", "file"]) if kind == "txt" else "file",
        "target": max(rng.choice([100, 1000, 1 << 20]), len(stored) // 100),
        "batch_rows": rng.choice([1, 7, 10_000]),
        "max_record_bytes": rng.choice([SMALL, LARGE]),
    }
    return Case(kind, damage.__name__, path, records, data if before else None, options)


def run_case(case):
    """Read it and check what was read: "read" or "refused". AssertionError where a record is lost or a reason lacks."""
    try:
        good, bad = read_file(case.path, dict(case.options))
    except ValueError as error:
        check_refusal(case.path, error)
        return "refused"
    check(case, good, bad)
    return "read"


def read_file(path, options):
    """Documents and bad records of all ranges."""
    format = detect(path)
    documents = options["documents"]
    batches = [
        batch
        for range_ in split(path, format, options.pop("target"), documents=documents)
        for batch in read(path, format, range_, **options)
    ]
    good = [text for batch in batches for text in batch.documents["text"].to_pylist()]
    for batch in batches:
        batch.documents.validate(full=True)
        batch.bad.validate(full=True)
        assert all(reason and "\n" not in reason for reason in batch.bad["reason"].to_pylist())
    return good, [row for batch in batches for row in batch.bad.to_pylist()]


def check_refusal(path, error):
    """The one line of a ValueError names the file."""
    assert str(path) in str(error), error
    assert "\n" not in str(error), error


def check(case, good, bad):
    """Records in the file = documents + bad records, as far as the damage lets one count them."""
    if case.kind == "parquet":
        check_rows(case, good, bad)
    elif case.kind in ("wet", "warc"):
        check_records(case, good, bad)
    elif case.kind == "xml":
        check_pages(case, good, bad)
    elif case.kind == "csv":
        check_table(case, good, bad)
    elif case.kind == "tsv" and case.data is not None:
        lines = count_lines(case.data, case.limit)
        assert len(good) + len(bad) in (lines - 1, lines), (len(good), len(bad), lines)
    elif case.data is not None and (case.kind == "jsonl" or case.options["documents"] == "line"):
        lines = count_lines(case.data, case.limit)
        assert len(good) + len(bad) == lines, (len(good), len(bad), lines)


def check_records(case, good, bad):
    """What the damage did not touch is read, but for what a bad record says that a wrong length took along."""
    if case.data is not None and case.limit > SMALL:
        stretches = [case.data[row["offset"] :] for row in bad if row["reason"].startswith("truncated WARC record")]
        lost = sum(record not in case.data or any(record in rest for rest in stretches) for record in case.records)
        assert len(good) >= len(case.records) - lost - 1, (len(good), lost, bad)
    if case.damage not in {harm.__name__ for harm in TAKES_RECORDS}:
        assert len(good) >= len(case.records) or bad


def check_pages(case, good, bad):
    """Articles that the damage did not touch are read, but for one that a broken tag took along."""
    if case.data is not None and case.limit > SMALL:
        articles = [page for page in case.records[1:-1] if b"<ns>0" in page and b"<redirect" not in page]
        whole = sum(page.strip() in case.data for page in articles)
        assert len(good) >= whole - 1, (len(good), whole, bad)


def check_table(case, good, bad):
    """Records that the damage did not touch are read, but for the lines that a stray quote makes unsure."""
    if case.data is not None and case.limit > SMALL:
        whole = sum(record in case.data for record in case.records[1:])
        assert len(good) + len(bad) >= whole // 2, (len(good), bad)
        assert len(good) + len(bad) <= count_lines(case.data, case.limit)


def check_rows(case, good, bad):
    """A bad record says how many rows it stands for; together they are what the footer promises."""
    lost = sum(int(row["reason"].split()[2]) for row in bad if row["reason"].startswith(LOST))
    others = sum(not row["reason"].startswith(LOST) for row in bad)
    metadata = pq.read_metadata(case.path)
    promised = sum(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    assert len(good) + others + lost == promised, (len(good), others, lost, promised)


def count_lines(data, limit):
    """Lines that are not blank; of one that is too long that cannot be known, so it is a bad record."""
    return sum(1 for line in data.split(b"\n") if len(line) > limit or (line and not line.isspace()))


def run_cases(folder, kind, seeds):
    """How the cases of a kind ended, and what was wrong, as "KIND SEED: what"."""
    outcomes, wrong = Counter(), []
    for seed in seeds:
        (folder / f"{kind}.seed").write_text(str(seed))
        try:
            case = make_case(kind, seed, folder)
            outcomes[run_case(case)] += 1
            case.path.unlink()
        except Exception as error:  # every kind is the finding
            wrong.append(f"{kind} {seed} ({case.damage}): {type(error).__name__}: {str(error)[:300]}")
    return outcomes, wrong


def main():
    """A stretch of seeds in this process."""
    folder, kind, first, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    outcomes, wrong = run_cases(folder, kind, range(first, first + count))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    sys.stdout.write(json.dumps({"outcomes": outcomes, "wrong": wrong, "peak_bytes": peak}) + "\n")


if __name__ == "__main__":
    main()
