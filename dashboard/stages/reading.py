"""Some rows of a part, read without reading the part whole; what cannot be read is an error of the store."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from polylm.tasks.store import StoreError


def read_rows(path: Path, begin: int, count: int, columns: Sequence[str] | None = None) -> pa.Table:
    """Rows `begin` to `begin + count` of a part; only their row groups (of at most 64 MB) are read, checksums verified.

    Raises StoreError where the part is gone or damaged.
    """
    with _told(), pq.ParquetFile(path, page_checksum_verification=True) as file:
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
    """A table in a folder of an artifact; StoreError where it is gone or damaged."""
    with _told():
        return pq.read_table(path)


@contextmanager
def _told() -> Iterator[None]:
    """Errors of reading as those of the store, but for the machine's trouble, which may pass."""
    try:
        yield
    except FileNotFoundError as error:
        raise StoreError("A part of this artifact is gone: run again to make it.") from error
    except (OSError, pa.ArrowException) as error:
        if getattr(error, "errno", None):
            raise
        raise StoreError("A part of this artifact is damaged: `polylm verify` names it.") from error
