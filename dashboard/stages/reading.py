"""Some rows of a part, read without reading the part whole; what cannot be read is an error of the store."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from polylm.dashboard.store_reading import reading


def read_rows(path: Path, begin: int, count: int, columns: Sequence[str] | None = None) -> pa.Table:
    """Rows `begin` to `begin + count` of a part; only their row groups (of at most 64 MB) are read, checksums verified.

    Raises Damaged where the part is gone or damaged.
    """
    with reading(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        groups, before, skipped = [], 0, 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if before + rows <= begin:
                skipped += rows
            elif before < begin + count:
                groups.append(group)
            before += rows
        return file.read_row_groups(groups, list(columns) if columns else None).slice(begin - skipped, count)


def read_file(path: Path) -> pa.Table:
    """A table in a folder of an artifact; Damaged where it is gone or not what was written."""
    with reading(path):
        return pq.read_table(path)
