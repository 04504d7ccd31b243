"""Where files of documents are: on this machine or at a URL, listed once with what pins their content, fetched when read."""

import fcntl
import hashlib
import os
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polylm.tasks import keys

LOCAL = "file://"
Stamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class Place:
    """One file of a source: its path or URL, and what pins its content.

    `pin` is the sha256 of the content where that is known (of a local file; a host that tells it, as Hugging Face does of large
    files), else what its host promises to change with the content: {"url", "etag"}.
    """

    where: str
    name: str  # relative to the source's root
    size: int
    pin: str | Mapping[str, str]
    cache: Path | None = None  # the folder that fetched files are kept in; None: a local file
    stamp: Stamp | None = field(default=None, compare=False)  # of a local file when it was listed

    @property
    def base(self) -> str:
        """The file's own name."""
        return self.name.rpartition("/")[2]

    def local(self) -> Path:
        """The file on this machine, fetched if it is not yet.

        Raises ValueError where its host has something else by now, OSError where it cannot be had.
        """
        return Path(self.where) if self.cache is None else _fetched(self, self.cache)

    def check_unchanged(self) -> None:
        """Raise ValueError where a local file is not the one that was listed: its documents would be kept as that one's."""
        if self.stamp is not None and (not Path(self.where).exists() or stamp(Path(self.where)) != self.stamp):
            raise ValueError(f"{self.where} changed since it was listed; run again, to list its source anew")

    def open(self) -> Any:
        """The file, opened where it is, to read a few of its bytes."""
        if self.cache is None:
            return Path(self.where).open("rb")
        fs, path = _filesystem(self.where)
        return fs.open(path, "rb")


def stamp(path: Path) -> Stamp:
    """What changes with a file's content, without reading it."""
    told = path.stat()
    return told.st_size, told.st_mtime_ns, told.st_ctime_ns, told.st_ino


def is_url(place: str) -> bool:
    """Is it a URL, and not one of a local file?"""
    return "://" in place and not place.startswith(LOCAL)


def list_remote(url: str, cache: Path) -> list[Place]:
    """The files at a URL (of a file, a folder or with `*`) in order of name, each pinned.

    A dataset of Hugging Face is pinned to the commit that its branch points to at this moment. A file that its host does
    not pin is fetched at once, and known by its content. Raises ValueError where there is nothing.
    """
    fs, path = _filesystem(url)
    fs.invalidate_cache()
    path = _at_commit(fs, path)
    try:
        infos = _infos(fs, path)
    except Exception as error:  # every library has errors of its own for a host that does not answer
        if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, FileNotFoundError | None):
            raise ValueError(f"{bare(url)} does not exist") from error
        raise OSError(f"{bare(url)} cannot be listed: {_one_line(error.__cause__ or error)}") from error
    root = path.split("*")[0].rpartition("/")[0] if "*" in path else path.rstrip("/")
    found = []
    for name, info in sorted(infos.items()):
        relative = name.removeprefix(root).lstrip("/") or name.rstrip("/").rpartition("/")[2]
        relative = urllib.parse.unquote(relative.partition("?")[0]) if "://" in name else relative
        found.append(_place(fs.unstrip_protocol(name), relative, info, cache))
    return found


def bare(url: str) -> str:
    """A URL without the secrets that it may hold: user, password, signature."""
    protocol, _, rest = url.partition("://")
    return f"{protocol}://{rest.partition('?')[0].rpartition('@')[2] if protocol.startswith('http') else rest}"


def _filesystem(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    import fsspec  # costs half a second, and only remote sources need it

    try:
        fs, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{bare(url)} cannot be opened: {_one_line(error)}") from error
    return fs, str(path)


def _infos(fs: Any, path: str) -> dict[str, dict[str, Any]]:
    """What a file system says of the files at a path."""
    if "*" in path:
        found = fs.glob(path, detail=True)
    elif not path.endswith("/") and (path.startswith("http") or fs.isfile(path)):
        found = {path: fs.info(path)}  # of a web page, nobody knows whether it is a folder, but by its slash
    else:
        found = fs.find(path, detail=True)
    return {name: info for name, info in found.items() if info["type"] == "file"}


def _at_commit(fs: Any, path: str) -> str:
    """The path in the commit that its branch points to now, where the host knows commits."""
    if getattr(fs, "protocol", "") != "hf":
        return path
    from huggingface_hub import HfApi  # costs a second

    try:
        at = fs.resolve_path(path.partition("*")[0])
        if not hasattr(at, "repo_id"):
            return path  # a bucket has no commits
        told = HfApi(endpoint=fs.endpoint, token=fs.token).repo_info(
            at.repo_id, repo_type=at.repo_type, revision=at.revision
        )
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"hf://{path} does not exist, or needs a token (HF_TOKEN): {_one_line(error)}") from error
    except Exception as error:  # httpx's errors, and huggingface_hub's
        raise OSError(f"hf://{path} cannot be listed: {_one_line(error)}") from error
    _, glob, rest = path.partition("*")
    kind = "" if at.repo_type == "model" else f"{at.repo_type}s/"
    inside = f"/{at.path_in_repo}" if at.path_in_repo else ""
    slash = "/" if glob and path.partition("*")[0].endswith("/") else ""
    return f"{kind}{at.repo_id}@{told.sha}{inside}{slash}{glob}{rest}"


def _place(url: str, name: str, info: Mapping[str, Any], cache: Path) -> Place:
    size, etag = int(info.get("size") or 0), info.get("ETag") or info.get("etag")
    large = info.get("lfs")
    if large is not None:
        return Place(url, name, size, str(large.sha256), cache)
    if info.get("blob_id"):  # git's own digest of the content
        return Place(url, name, size, {"git": str(info["blob_id"])}, cache)
    if etag:
        return Place(url, name, size, {"url": bare(url), "etag": str(etag).strip('"')}, cache)
    return _unpinned(url, name, cache)


def _unpinned(url: str, name: str, cache: Path) -> Place:
    """A file whose host says nothing of its content: fetched now."""
    folder = cache / keys.digest(bare(url))[:32]
    with _locked(folder):
        part = _download(url, folder)
        sha256 = keys.file_digest(part)
        place = Place(url, name, part.stat().st_size, sha256, cache)
        target = _target(place, cache)
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)
    return place


def _fetched(place: Place, cache: Path) -> Path:
    """The copy in the cache; ranges of one file are read by several workers, of which one fetches it."""
    target = _target(place, cache)
    if target.exists():
        return target
    with _locked(target.parent):
        if not target.exists():
            part = _download(place.where, target.parent)
            _check(place, part)
            part.replace(target)
    return target


def _target(place: Place, cache: Path) -> Path:
    return cache / keys.digest(place.pin)[:32] / place.base[-200:]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder of the cache; a death lets go of it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield


def _download(url: str, folder: Path) -> Path:
    """A whole file, in `folder` under a name of its own."""
    fs, path = _filesystem(url)
    part = folder / ".part"
    try:
        fs.get_file(path, str(part))
    except FileNotFoundError as error:
        raise ValueError(f"{bare(url)} does not exist any more; run again, to list its source anew") from error
    except Exception as error:  # every library has errors of its own for a connection that ends
        raise OSError(f"{bare(url)} could not be fetched: {_one_line(error)}") from error
    with part.open("rb") as file:
        os.fsync(file.fileno())
    return part


def _check(place: Place, part: Path) -> None:
    """Raise where what was fetched is not what was listed: OSError where it is short, ValueError where it is another."""
    if place.size and part.stat().st_size != place.size:
        raise OSError(f"{bare(place.where)}: {part.stat().st_size} bytes came of {place.size}")
    if isinstance(place.pin, str):
        found: Any = keys.file_digest(part)
    elif "git" in place.pin:
        content = part.read_bytes()
        found = {"git": hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()}
    else:
        fs, path = _filesystem(place.where)
        fs.invalidate_cache()
        info = fs.info(path)
        found = {"url": bare(place.where), "etag": str(info.get("ETag") or info.get("etag")).strip('"')}
    if found != place.pin:
        raise ValueError(f"{bare(place.where)} changed since it was listed; run again, to list its source anew")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
