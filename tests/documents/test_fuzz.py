"""Malformed files of every kind, seeded: no reader crashes, none loses a record that the damage did not touch.

`make torture ONLY=inputs` runs a thousand a reader.
"""

import json
import subprocess
import sys

import malformed
import pytest
import well_formed
from samples import HELPERS, environment

CASES = 150  # a reader


@pytest.mark.parametrize("kind", well_formed.BUILDERS)
def test_malformed_files_of_every_format_are_read_or_refused_by_name(kind, tmp_path):
    outcomes, wrong = malformed.run_cases(tmp_path, kind, range(CASES))
    assert wrong == []
    assert outcomes["read"] > CASES / 4
    assert outcomes["refused"] > 0


@pytest.mark.parametrize("kind", well_formed.BUILDERS)
def test_every_kind_of_damage_comes_up(kind, tmp_path):
    seen = {malformed.make_case(kind, seed, tmp_path).damage for seed in range(CASES)}
    assert seen == {damage.__name__ for damage in malformed.DAMAGES}


@pytest.mark.parametrize(
    "bomb",
    [
        "lines.jsonl.gz",
        "one-line.jsonl.zst",
        "record.warc.gz",
        "rows.parquet",
        "dump.xml.bz2",
        "table.csv.xz",
    ],
)
def test_a_compressed_bomb_takes_no_more_memory_than_its_records_may(bomb, tmp_path):
    """64 MB here and 1 GB in `make torture`; what it takes does not depend on that, and records may have 1 MB."""
    words = [sys.executable, "-P", HELPERS / "bombs.py", tmp_path / bomb, "64"]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["packed_bytes"] < 1 << 20
    assert told["unpacked_bytes"] > 60 << 20
    assert told["read"] == told["expected"]
    assert told["grown_bytes"] < 150 << 20
