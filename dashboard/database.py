"""DuckDB over part files that lie side by side, locked down: it reads the store's parts, and nothing can make it do more."""

import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from polylm.dashboard.errors import TooSlow
from polylm.dashboard.store_reading import reading
from polylm.tasks.maintenance import seal
from polylm.tasks.store import StoreError

QUERY_SECONDS = 20.0
QUERY_MEMORY = "2GB"
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,60}")


class Database:
    """A database in memory; may be asked from any number of threads."""

    def __init__(self, parts: Path) -> None:
        self._parts = parts
        self._connection = _locked_down(parts)

    def ask(self, statement: str, files: Mapping[str, Sequence[str]], bind: Sequence[Any]) -> pa.Table:
        """Run a statement of ours, in which `{beside}` stands for these tables, a list of files in order by name.

        Raises TooSlow after QUERY_SECONDS, StoreError where a file is gone, damaged, or of code that wrote other columns.
        """
        assert all(_NAME.fullmatch(name) for name in files), "names of tables are ours"
        lengths = {len(paths) for paths in files.values()}
        if len(lengths) > 1:
            raise StoreError(f"Tables of {sorted(lengths)} parts do not lie side by side: run again to make them.")
        if 0 in lengths:
            raise StoreError(f"The tables {', '.join(files)} have no parts: run again to make them.")
        assert statement.count("{beside}") == bool(files)
        tables = " POSITIONAL JOIN ".join(f'read_parquet(?) AS "{name}"' for name in files)
        before, _, after = statement.partition("{beside}")
        first = before.count("?")
        try:
            return self._run(f"{before}{tables}{after}", [*bind[:first], *map(list, files.values()), *bind[first:]])
        except (duckdb.Error, pa.ArrowInvalid) as error:  # flipped bytes raise nearly all of them
            if isinstance(error, duckdb.InternalError | duckdb.FatalException):
                self._connection = _locked_down(self._parts)  # it answers nothing any more
            if (named := _named(error, [Path(path) for paths in files.values() for path in paths])) is error:
                raise
            raise named from error

    def _run(self, statement: str, values: Sequence[Any]) -> pa.Table:
        cursor = self._connection.cursor()
        timer = threading.Timer(QUERY_SECONDS, cursor.interrupt)
        timer.start()
        try:
            found = cursor.sql(statement, params=list(values)).to_arrow_table()
            found.validate(full=True)  # flipped bytes may be no text
            return found
        except duckdb.InterruptException as error:
            raise TooSlow(f"This took longer than {QUERY_SECONDS:.0f} s and was stopped.") from error
        finally:
            timer.cancel()
            cursor.close()


def _locked_down(parts: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:")
    connection.execute("SET allowed_directories = [$folder]", {"folder": str(parts)})
    for setting in (
        f"memory_limit = '{QUERY_MEMORY}'",
        "temp_directory = ''",
        "autoload_known_extensions = false",
        "autoinstall_known_extensions = false",
        "allow_community_extensions = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection


def _named(error: Exception, paths: Sequence[Path]) -> Exception:
    """An error as that of the file that is not what was written: the one that it names, else the first whose seal says so."""
    there = list(dict.fromkeys(paths))
    for path in [path for path in there if str(path) in str(error)] or there:
        try:
            with reading(path):
                seal.check_part(path, strict=False)
        except StoreError as damaged:
            return damaged
    if isinstance(error, duckdb.BinderException) and there:
        told = str(error).partition("\n")[0]
        return StoreError(f"Other code made a table of this run ({told}): run again to make it.")
    if isinstance(error, duckdb.IOException):
        return StoreError(f"A part of the store cannot be read ({str(error)[:300]}): `polylm verify` names it.")
    return error  # a statement of ours is wrong
