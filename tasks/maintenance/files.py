"""Files of a store as they get to disk: sealed, fsynced, and whole from the moment that they can be seen."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from polylm.tasks.maintenance import seal

MANIFEST = "manifest.json"  # of a folder; written last
ROW_GROUP_BYTES = 64 << 20
PACKED_ROW_GROUP = 256  # rows of tokens are read at random, a group at a time


def write_parquet(table: pa.Table, path: Path) -> None:
    """zstd(3), row groups of at most 64 MB, page index, checksums, seal; dictionaries for short labels only."""
    rows = max(1, table.num_rows)
    group = max(1, min(rows, rows * ROW_GROUP_BYTES // max(1, table.nbytes)))
    if any(pa.types.is_fixed_size_binary(field.type) for field in table.schema):
        group = PACKED_ROW_GROUP
    labels = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
    pq.write_table(
        table,
        path,
        row_group_size=group,
        compression="zstd",
        compression_level=3,
        use_dictionary=labels or False,
        write_page_index=True,
        write_page_checksum=True,
    )
    seal.seal_part(path)
    fsync(path)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a small file whole, sealed: readers see the old or the new one."""
    tmp = path.with_name(f"{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        with tmp.open("wb") as file:
            file.write(seal.seal_json(value))
            file.flush()
            os.fsync(file.fileno())
        tmp.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # not the name of the temporary one
    finally:
        tmp.unlink(missing_ok=True)  # of a full disk


def read_json(path: Path) -> Any:
    """What a small file holds, None where it is damaged."""
    try:
        return seal.open_json(path.read_bytes())
    except (ValueError, RecursionError):
        return None


def walk_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)


def link(tmp: Path, target: Path) -> bool:
    """Put a file into place unless one is there: the first writer wins."""
    try:
        os.link(tmp, target)
    except FileExistsError:
        return False
    finally:
        tmp.unlink()
    fsync(target.parent)
    return True


def fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
