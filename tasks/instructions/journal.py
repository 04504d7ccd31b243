"""Keep every answer of a model on disk before anything looks at it: what was paid for is never asked for again.

One line of JSON an answer, appended and fsynced. After a kill the last line may be torn; it is cut off on opening, and its
request is asked again. Everything before it is whole.
"""

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self


@dataclass(frozen=True)
class Answer:
    """What a server returned for one request: text, why it ended ("stop", "length", ...), and the tokens it counted."""

    text: str
    finish_reason: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


def request_key(*, round: int, prompt: str, model: str, params: Mapping[str, object]) -> str:
    """sha256 of all that a request is made of. Not the server's address: a journal may be moved to another one."""
    identity = [round, prompt, model, dict(params)]
    return hashlib.sha256(json.dumps(identity, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class Journal:
    """The answers in one file, by request key. One writer at a time; its threads may share it.

    Attributes:
        torn_bytes: what was cut from the end on opening: the rest of a line that a kill interrupted.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file = _open_durably(path)
        try:
            self._answers, whole = _read(path, self._file)
            self.torn_bytes = self._file.seek(0, os.SEEK_END) - whole
            self._file.truncate(whole)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._answers)

    def close(self) -> None:
        """Close the file; every answer is on disk already."""
        self._file.close()

    def find(self, key: str) -> Answer | None:
        """The answer to this request, if it was ever given."""
        return self._answers.get(key)

    def append(self, key: str, prompt: str, answer: Answer) -> None:
        """Put one answer on disk: when this returns, no kill and no power cut loses it."""
        line = json.dumps({"key": key, "prompt": prompt, "answer": asdict(answer)}, ensure_ascii=False)
        with self._lock:
            self._file.write(line.encode("utf-8", "surrogatepass") + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self._answers[key] = answer


def _open_durably(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab+")
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # a new file's name is lost with its folder otherwise
    finally:
        os.close(folder)
    return file


def _read(path: Path, file: BinaryIO) -> tuple[dict[str, Answer], int]:
    """All answers, and where the last whole line ends."""
    answers: dict[str, Answer] = {}
    whole = 0
    file.seek(0)
    for number, line in enumerate(file, start=1):
        if not line.endswith(b"\n"):
            break
        try:
            entry = json.loads(line.decode("utf-8", "surrogatepass"))
            answers[entry["key"]] = Answer(**entry["answer"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number}: expected an answer as this program wrote it, found {line[:60]!r}; "
                "the file was changed by something else: restore it, or move it away to ask everything again"
            ) from error
        whole += len(line)
    return answers, whole
