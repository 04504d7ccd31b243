"""DuckDB over part files that lie side by side, locked down: it reads the store's parts, and nothing can make it do more."""

import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from polylm.dashboard.errors import TooSlow
from polylm.tasks.store import StoreError

QUERY_SECONDS = 20.0
QUERY_MEMORY = "2GB"
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,60}")


class Database:
    """A database in memory; may be asked from any number of threads."""

    def __init__(self, parts: Path) -> None:
        self._connection = _locked_down(parts)

    def ask(self, statement: str, files: Mapping[str, Sequence[str]], bind: Sequence[Any]) -> pa.Table:
        """Run a statement of ours, in which `{beside}` stands for these tables, a list of files in order by name.

        Raises TooSlow after QUERY_SECONDS, StoreError where a file is gone, damaged, or of code that wrote other columns.
        """
        assert all(_NAME.fullmatch(name) for name in files), "names of tables are ours"
        lengths = {len(paths) for paths in files.values()}
        if len(lengths) > 1:
            raise StoreError(f"Tables of {sorted(lengths)} parts do not lie side by side: run again to make them.")
        assert statement.count("{beside}") == bool(files)
        tables = " POSITIONAL JOIN ".join(f'read_parquet(?) AS "{name}"' for name in files)
        before, _, after = statement.partition("{beside}")
        first = before.count("?")
        return self._run(f"{before}{tables}{after}", [*bind[:first], *map(list, files.values()), *bind[first:]])

    def _run(self, statement: str, values: Sequence[Any]) -> pa.Table:
        cursor = self._connection.cursor()
        timer = threading.Timer(QUERY_SECONDS, cursor.interrupt)
        timer.start()
        try:
            return cursor.sql(statement, params=list(values)).to_arrow_table()
        except duckdb.InterruptException as error:
            raise TooSlow(f"This took longer than {QUERY_SECONDS:.0f} s and was stopped.") from error
        except duckdb.BinderException as error:
            told = str(error).partition("\n")[0]
            raise StoreError(f"Other code made a table of this run ({told}): run again to make it.") from error
        except duckdb.IOException as error:
            raise StoreError(f"A part of the store cannot be read: `polylm verify` names it ({error}).") from error
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
