"""Run records, `runs/<time>-<name>.json`, as values: parsed here, for everyone who reads them.

They are written by other versions, copied by people and cut short by full disks. What does not fit is a run whose state
is `damaged`, with no stages: it is shown, it stops nobody from reading the others, and `gc` refuses to guess what it needs.
"""

import json
import re
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from polylm.tasks.maintenance.files import read_json
from polylm.tasks.maintenance.processes import is_alive

_FLOW_RUN = re.compile(r"Prefect flow run ([0-9a-f-]{36})")


class Entry(BaseModel):
    """One stage of a run."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    stage: str
    jobs: int
    reused: int
    built: int
    seconds: float
    rows: int
    reasons: dict[str, int]
    artifact: str = Field(pattern=r"^([A-Za-z0-9_]+(/[0-9a-f]+)?)?$")  # stage/key, the beginning of the key
    reads: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        return "built" if self.built else "re-used"

    @property
    def rejected(self) -> int:
        return sum(self.reasons.values())


class Run(BaseModel):
    """A run's record.

    `state`: running, completed, failed, stopped (somebody ended it), interrupted (its process is gone and could not say
    so), alarm, awaiting approval, approved (it waited, and a later attempt of the same flow run went on), refused, damaged.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    id: str
    name: str
    state: str
    recipe: dict[str, Any] = {}
    stages: tuple[Entry, ...] = ()
    host: str = ""
    pid: int = 0
    seconds: float | None = None
    error: str = ""
    options: tuple[str, ...] = ()  # the words after the recipe's name that make this run again
    started_by: str = ""
    alarms: tuple[dict[str, Any], ...] = ()
    now: dict[str, Any] = {}  # the stage at work: stage, jobs, since
    new: dict[str, Any] = {}  # against the run before: since, sources, parts_gone, kept_more

    @field_validator("recipe", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return {} if value is None else value

    @property
    def started(self) -> datetime:
        """The time that its id begins with, in UTC."""
        return _started(self.id)

    @property
    def flow_run(self) -> str:
        """The id of the Prefect flow run that it is, "" where it is none of a deployment."""
        told = _FLOW_RUN.fullmatch(self.started_by)
        return told[1] if told else ""

    def entries(self, stage: str) -> list[Entry]:
        """All entries of a stage: training stages may be run more than once."""
        return [entry for entry in self.stages if entry.stage == stage]

    def artifact(self, stage: str) -> str:
        """What the last entry of a stage made, as stage/key; "" where there is none."""
        made = [entry.artifact for entry in self.entries(stage) if entry.artifact]
        return made[-1] if made else ""

    def as_it_is(self) -> "Run":
        """The same run, interrupted where it says that it is running and its process is gone from this host."""
        if self.state != "running" or self.host != socket.gethostname():
            return self
        if is_alive(self.pid, self.started.timestamp()):
            return self
        return self.model_copy(update={"state": "interrupted"})


def run_paths(root: Path) -> list[Path]:
    """The records of the store at `root`, the oldest first."""
    return sorted((root / "runs").glob("*.json"))


def read_runs(root: Path) -> list[Run]:
    """All runs of the store at `root`, the oldest first."""
    return [read_run(path).as_it_is() for path in run_paths(root)]


def read_run(path: Path) -> Run:
    """What a record tells; its process is not looked at, so this may be remembered as long as the file is the same."""
    try:
        if path.exists() and not path.is_file():
            return _damaged(path, "it is no file")
        told: Mapping[str, Any] | None = read_json(path)
        if told is None:
            return _damaged(path, "it is not what was written")
        json.dumps(told, ensure_ascii=False).encode()  # escapes may hold what is no text
        return Run.model_validate({**told, "id": run_id(path)})
    except ValidationError as error:
        problem = error.errors()[0]
        return _damaged(path, f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}")
    except UnicodeEncodeError:
        return _damaged(path, "it holds lone surrogates")
    except OSError as error:
        return _damaged(path, error.strerror or str(error))


def run_id(path: Path) -> str:
    """The id of the run whose record this is: the file's name, without bytes that are no text."""
    return path.stem.encode("utf-8", "backslashreplace").decode()


def _damaged(path: Path, why: str) -> Run:
    name = run_id(path)
    error = f"{path.with_name(name)}.json is damaged ({why}): delete it; nothing but this note is lost"
    return Run(id=name, name=name.partition("-")[2], state="damaged", error=error)


def _started(run_id: str) -> datetime:
    try:
        return datetime.strptime(run_id.partition("-")[0][:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
