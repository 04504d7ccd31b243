"""What stages leave behind, and how it gets to disk: written aside, fsynced, linked into place; never changed.

parts/<stage>/<ab>/<key>.parquet   text and annotations, one file a part; its record is in its footer
folders/<stage>/<key>/             models, tokenizers, exports; whole when its manifest.json is there
artifacts/<stage>/<key>.json       which parts make an artifact; can be rebuilt from the records
runs/<time>-<name>.json            a run: its recipe and its artifacts, written when it starts, updated as it goes
work/  tmp/  trash/                locked work; files being written; folders that lost files
checked/  seen/                    code checks that passed; digests of inputs
"""

import fcntl
import json
import os
import re
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal, get_args

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from polylm.tasks import keys
from polylm.tasks.maintenance import seal
from polylm.tasks.maintenance.files import MANIFEST, fsync, link, read_json, walk_files, write_json, write_parquet

RECORD = b"polylm.record"
Shape = Literal["rows", "table", "tables", "folder", "folders", "file"]


class StoreError(ValueError):
    """The store cannot be used as it is; the message names the path and the way out."""


@dataclass(frozen=True)
class Record:
    """What one job made. Identity first; `facts` say how it went, and are never part of a key."""

    stage: str
    version: int
    key: str
    label: str
    identity: dict[str, Any]
    columns: dict[str, str]  # content digest by column; of a folder, sha256 by file
    rows: int
    code: str = ""
    kept: str | None = None  # of a gate: digest of which rows it kept
    reasons: dict[str, int] = field(default_factory=dict)
    parts: list[dict[str, Any]] = field(default_factory=list)  # of an ingest job: key suffix, rows and columns of each
    metrics: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """One job's output, as those who read it know it. `record` None: a plan that cannot know it yet."""

    key: str | None
    label: str
    record: Record | None = None
    number: int | None = None  # of the part's first document

    @property
    def columns(self) -> dict[str, str]:
        assert self.record is not None, f"{self.label} is not built"
        return self.record.columns


@dataclass(frozen=True)
class Artifact:
    """A stage's output: its parts in order, and which columns or files they hold."""

    stage: str
    shape: Shape
    parts: tuple[Part, ...]
    columns: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    path: Path | None = None  # of an adopted file only

    @property
    def built(self) -> bool:
        return all(part.record is not None for part in self.parts)

    @property
    def key(self) -> str:
        return keys.digest([self.stage, [part.key for part in self.parts]])

    def without(self, *columns: str) -> "Artifact":
        """The same artifact with some columns hidden, where another input has a newer form of them."""
        return replace(self, columns=tuple(name for name in self.columns if name not in columns))

    @property
    def ref(self) -> str:
        return f"{self.stage}/{self.key[:16]}"


class Store:
    """A folder of artifacts that any number of processes may read and write at once."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def open(self) -> "Store":
        """Make the folders; StoreError where the place cannot be written or cannot link files."""
        try:
            for name in ("parts", "folders", "artifacts", "runs", "work", "tmp", "trash", "checked", "seen"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            probe = self._tmp("probe")
            probe.touch()
            os.link(probe, probe.with_suffix(".link"))
            probe.with_suffix(".link").unlink()
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"the store {self.root} cannot be written ({error.strerror}): choose another with --store"
            ) from error
        self._sweep()
        return self

    def open_to_read(self) -> "Store":
        """As `open`; a store that is there already need not be writable for those who only read."""
        try:
            return self.open()
        except StoreError:
            if not (self.root / "parts").is_dir():
                raise
            return self

    def part_path(self, stage: str, key: str) -> Path:
        return self.root / "parts" / stage / key[:2] / f"{key}.parquet"

    def folder_path(self, stage: str, key: str) -> Path:
        return self.root / "folders" / stage / key

    def path(self, shape: Shape, stage: str, key: str) -> Path:
        return self.folder_path(stage, key) if shape.startswith("folder") else self.part_path(stage, key)

    def record(self, shape: Shape, stage: str, key: str) -> Record | None:
        """The record of a finished job, None where there is none; StoreError where its file is damaged."""
        path = self.path(shape, stage, key)
        try:
            if shape.startswith("folder"):
                sealed = _of(Record(**seal.open_json((path / MANIFEST).read_bytes())), stage, key)
                return sealed if all((path / name).exists() for name in sealed.columns) else None
            record = read_record(path)
            whole = all(self.part_path(stage, entry["key"]).exists() for entry in record.parts)
            return record if whole else None
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (pa.ArrowInvalid, OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{stage}: {path} is damaged ({error}): delete it, and the next run makes it again"
            ) from error

    def commit_table(self, table: pa.Table, record: Record, *, key: str | None = None) -> Record:
        """Write a part; where another run was first, its file stays and its record is returned."""
        target = self.part_path(record.stage, key or record.key)
        target.parent.mkdir(parents=True, exist_ok=True)
        tmp = self._tmp(target.name)
        write_parquet(table.replace_schema_metadata({RECORD: json.dumps(asdict(record))}), tmp)
        if link(tmp, target):
            return record
        there = read_record(target)
        if there.columns != record.columns and there.identity.get("reproducible", True):
            raise StoreError(
                f"{record.stage}: {target.name} was made twice with different content: {there.facts} and {record.facts}"
            )
        return there

    def commit_folder(self, folder: Path, record: Record) -> Record:
        """Seal a folder by its manifest and rename it into place."""
        target = self.folder_path(record.stage, record.key)
        names = {str(path.relative_to(folder)): keys.file_digest(path) for path in walk_files(folder)}
        logs = {name: sha256 for name, sha256 in names.items() if name.startswith("logs/")}
        contents = {name: sha256 for name, sha256 in names.items() if name not in logs}
        record = replace(record, columns=contents, facts={**record.facts, "logs": logs})
        for path in walk_files(folder):
            fsync(path)
        # Written last, so its presence means that the folder is whole.
        write_json(folder / MANIFEST, asdict(record))
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(target)
        except OSError:
            if not target.exists():
                raise
            if (there := self.record("folder", record.stage, record.key)) is not None:
                shutil.rmtree(folder)
                return there
            target.rename(self.root / "trash" / f"{record.stage}.{record.key}.{uuid.uuid4().hex[:8]}")  # it lost files
            folder.rename(target)
        fsync(target.parent)
        return record

    def write_manifest(self, artifact: Artifact, details: Mapping[str, Any]) -> None:
        path = self.root / "artifacts" / artifact.stage / f"{artifact.key}.json"
        if path.exists() and read_manifest(path) is not None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = [
            {
                "key": part.key,
                "label": part.label,
                "number": part.number,
                "rows": part.record.rows,
                "reasons": part.record.reasons,
            }
            for part in artifact.parts
            if part.record is not None
        ]
        write_json(
            path,
            {"stage": artifact.stage, "shape": artifact.shape, "sources": artifact.sources, **details, "parts": parts},
        )

    def annotate_manifest(self, ref: str, details: Mapping[str, list[Any]]) -> None:
        """Add to the lists of a manifest, by stage/key: what was decided about an artifact after it was made."""
        path = self.manifest_path(*ref.split("/"))
        if (manifest := read_manifest(path)) is None:
            raise StoreError(f"{path} is damaged: the next run of the recipe writes it again")
        added = {name: [*manifest.get(name, []), *entries] for name, entries in details.items()}
        write_json(path, {**manifest, **added})

    def load_artifact(self, stage: str, key: str) -> Artifact:
        """An artifact by (the beginning of) its key, from its manifest; StoreError where there is none or several."""
        path = self.manifest_path(stage, key)
        manifest = read_manifest(path)
        if manifest is None:
            raise StoreError(f"{path} is damaged: the next run of the recipe writes it again")
        parts = []
        for entry in manifest["parts"]:
            suffix = entry["key"].partition(".")[2]
            record = self.record(manifest["shape"], stage, entry["key"])
            if record is None:
                raise StoreError(
                    f"{stage}: part {entry['label']} ({entry['key'][:16]}{suffix and '.'}{suffix}) is gone: run again"
                )
            parts.append(Part(entry["key"], entry["label"], record, entry["number"]))
        columns = tuple(parts[0].record.columns) if parts and parts[0].record else ()
        return Artifact(stage, manifest["shape"], tuple(parts), columns, tuple(manifest["sources"]))

    def manifest_path(self, stage: str, key: str) -> Path:
        """The manifest of an artifact by (the beginning of) its key; StoreError where there is none or several."""
        named = re.fullmatch(r"[A-Za-z0-9_]+/[0-9a-f]+", f"{stage}/{key}")
        found = sorted((self.root / "artifacts" / stage).glob(f"{key}*.json")) if named else []
        if len(found) != 1:
            raise StoreError(
                f"{len(found)} artifacts {stage}/{key}* in {self.root}: `polylm status` lists those of a run, and what `gc` "
                "has taken is back after `polylm gc --restore`, or another run"
            )
        return found[0]

    @contextmanager
    def locked(self, key: str) -> Iterator[Path]:
        """Hold `work/<key>` against other runs; the kernel frees it at any death. Yields the folder."""
        folder = self.root / "work" / key
        with _open_lock(folder) as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another run"
                print(f"waiting for {key[:16]}, held by {holder}", file=sys.stderr, flush=True)  # noqa: T201
                fcntl.lockf(file, fcntl.LOCK_EX)
            file.truncate(0)
            file.write(f"{socket.gethostname()} pid {os.getpid()}")
            file.flush()
            yield folder

    def input_digest(self, path: Path) -> str:
        """sha256 of an input file, remembered by path, size and times as git's index does."""
        stat = path.stat()
        seen = self.root / "seen" / f"{keys.digest(str(path.absolute()))[:32]}.json"
        stamp = [str(path.absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        known = read_json(seen) if seen.exists() else None
        if isinstance(known, dict) and known.get("stamp") == stamp and isinstance(known.get("sha256"), str):
            return str(known["sha256"])
        sha256 = keys.file_digest(path)
        # A file changed within the clock's grain of its digest could change again unseen.
        if time.time_ns() - stat.st_mtime_ns > 2_000_000_000:
            with suppress(OSError):  # only a memory: those who read use stores that cannot be written
                write_json(seen, {"stamp": stamp, "sha256": sha256})
        return sha256

    def _tmp(self, name: str) -> Path:
        return self.root / "tmp" / f"{os.getpid()}@{socket.gethostname()}@{uuid.uuid4().hex[:8]}@{name[-40:]}"

    def _sweep(self) -> None:
        """Remove what processes of this host that are gone left half-written."""
        for path in (self.root / "tmp").glob("*@*@*@*"):
            pid, host, _ = path.name.split("@", 2)
            if host == socket.gethostname() and not psutil.pid_exists(int(pid)):
                path.unlink(missing_ok=True)


def _open_lock(folder: Path) -> IO[str]:
    """The file `lock` of a folder, which one whose job has ended may be removing at this moment."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            return (folder / "lock").open("a+")


def read_record(path: Path) -> Record:
    """A part's record, from its footer; ValueError where that is not what was written, or is of another part."""
    return _of(Record(**json.loads(_metadata(path)[RECORD])), path.parents[1].name, path.stem)


def _of(record: Record, stage: str, key: str) -> Record:
    """A record, where it is the one of a stage's job."""
    _check_own(record.stage, record.key, stage, key)
    return record


def _check_own(stage: str, key: str, stage_here: str, key_here: str) -> None:
    """A restore or copy that went wrong puts whole files in others' places."""
    if (stage, key) != (stage_here, key_here.partition(".")[0]):
        raise ValueError(f"it holds the part {key[:16]} of {stage}")


def read_columns(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Columns of a part, without its record; StoreError where their values are not those that were written."""
    try:
        if data := seal.read_small(path):
            file = pq.ParquetFile(pa.BufferReader(data))
            _written(file.metadata.metadata or {}, path)
            return file.read(columns, use_threads=False).replace_schema_metadata(None)
        written = _written(_metadata(path), path)
        table = pq.read_table(path, columns=columns, page_checksum_verification=True, partitioning=None)
        # Page checksums do not cover the headers of pages; hashing costs a fraction of what made the values.
        if wrong := [name for name in table.schema.names if written.get(name) not in (None, keys.content(table[name]))]:
            raise ValueError(f"{', '.join(wrong)}: not what was written")
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        # The machine's trouble, such as too many open files, which may pass.
        if getattr(error, "errno", None) or isinstance(error, MemoryError):
            raise
        raise StoreError(f"{path} is damaged ({error}): delete it, and the next run makes it again") from error
    return table.replace_schema_metadata(None)


def _written(metadata: Mapping[bytes, bytes], path: Path) -> dict[str, str]:
    """The content digests of a part's columns; ValueError where it is another's. A table of other origin has none."""
    if not (told := metadata.get(RECORD)):
        return {}
    record = json.loads(told)
    if path.parent.parent.parent.name == "parts":
        _check_own(record["stage"], record["key"], path.parent.parent.name, path.stem)
    return dict(record["columns"])


def read_manifest(path: Path) -> Any:
    """What a manifest says, None where it is damaged or says something else."""
    try:
        told = read_json(path)
    except OSError as error:  # a folder, or a link that leads nowhere
        if isinstance(error, PermissionError):
            raise
        return None
    is_one = isinstance(told, dict) and told.get("shape") in get_args(Shape) and told.get("stage") == path.parent.name
    if not is_one or not isinstance(told.get("parts"), list) or not all(map(_is_part, told["parts"])):
        return None
    names = (told.get("sources"), told.get("reads", []), told.get("jobs", []))
    return told if all(isinstance(one, list) and all(isinstance(name, str) for name in one) for one in names) else None


def _is_part(entry: Any) -> bool:
    names = isinstance(entry, dict) and isinstance(entry.get("key"), str) and isinstance(entry.get("label"), str)
    return names and entry["key"].replace(".", "").isalnum() and "number" in entry


def _metadata(path: Path) -> dict[bytes, bytes]:
    return dict(pq.read_metadata(pa.BufferReader(b"PAR1" + seal.read_footer(path))).metadata or {})
