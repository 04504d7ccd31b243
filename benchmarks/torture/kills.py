"""Kill every kind of process that a run has, at seeded moments; the same command then goes on to the same content."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from samples import HELPERS, environment, half_written, is_alive, wait_until
from whole import Whole

from torture.stores import Contents, differences, say
from torture.table import Line

ORPHAN_SECONDS = 10.0
STORE_KILLS = 25  # then the run is left alone, so that its end is compared
RUN_SECONDS = 900.0
MARK = "POLYLM_TORTURE_MARK"  # in the environment of a run and so of all that it starts, whoever its parent is by then
KINDS = {
    "polylm.flows.cli": "command",
    "spawn_main": "worker",
    "polylm.model.rank": "rank",
    "local_server": "local model server",
    "prefect": "Prefect server",
    "lmplz": "program of a worker",
    "build_binary": "program of a worker",
}
WEIGHTS = {
    "command": 4,
    "worker": 4,
    "rank": 20,
    "local model server": 8,
    "Prefect server": 2,
    "program of a worker": 3,
}
TRAINED = ("pretrain", "finetune")
LATE = ("generate_instructions", "pack", "train_byte_models", "evaluate", "export")
ENDS = (0, 1, 2, 128 + signal.SIGTERM, -signal.SIGKILL, -signal.SIGTERM)


@dataclass
class Kills:
    """Kills until there were as many as asked for, one store after the other."""

    whole: Whole
    expected: Contents
    folder: Path
    wanted: int
    chance: random.Random
    until: float = float("inf")  # `time.time()` at which no new run is started
    more: tuple[str, ...] = ()  # options of the run
    prefect_share: float = 0.12  # of the runs, that go through a Prefect server of their own
    lines: dict[str, Line] = field(default_factory=dict)
    hit: Counter[str] = field(default_factory=Counter)
    recovering: int = 0
    checked: set[Path] = field(default_factory=set)
    compared: Line = field(
        default_factory=lambda: Line("a store after its kills", "every part and folder equals the undisturbed run's")
    )

    @property
    def done(self) -> int:
        return sum(self.hit.values())

    def all(self) -> list[Line]:
        """Kill, and compare each store when it is complete."""
        number = 0
        while self.done < self.wanted and time.time() < self.until:
            store = self.folder / f"killed-{number}"
            if self.chance.random() >= 0.5:  # what comes late is killed as often as what comes early
                self.whole.copy(store, without=[*TRAINED, *self.chance.sample(LATE, 2)])
            else:
                (store / "parts").mkdir(parents=True)
            self._torment(store, chance=self.chance)
            shutil.rmtree(store)
            number += 1
        return [*(self.lines[name] for name in sorted(self.lines)), self.compared]

    def _torment(self, store: Path, chance: random.Random) -> None:
        before = self.done
        words, variables = self.whole.words(*self.more, store=store), {"PREFECT_HOME": self.folder / "prefect"}
        while self.done - before < STORE_KILLS and self.done < self.wanted and time.time() < self.until:
            prefect = chance.random() < self.prefect_share
            asked = ["--prefect" if word == "--no-prefect" else word for word in words] if prefect else words
            if self._killed_run(Run(asked, store, variables), chance, first=self.done == before) == 0:
                break
        done = say(words, seconds=RUN_SECONDS)
        differ = [done.stderr.strip()[-300:]] if done.returncode else differences(self.expected, store)
        self.compared.tell(f"{store.name} after {self.done - before} kills: {differ[:3]}" if differ else None)

    def _killed_run(self, run: "Run", chance: random.Random, *, first: bool) -> int | None:
        """Start a run and kill of it what comes, until it has ended; its exit code."""
        while (victim := run.victim(chance)) is not None and self.done < self.wanted:
            process, kind = victim
            number = chance.choice([signal.SIGKILL, signal.SIGTERM])
            stage, recovering = run.doing(), not first and not run.has_built()
            try:
                process.send_signal(number)
            except psutil.Error:  # it has ended meanwhile
                continue
            self._told(run, f"{number.name} of {kind}", stage, recovering=recovering)
            if kind == "command":
                break
        wrong = run.wrong_at_end()
        wrong = wrong or self._half_written(run.store)
        if run.struck:
            self.lines[run.struck].tell(wrong and f"{run.store.name}, {run.struck}: {wrong}")
        for name in run.others:
            self.lines[name].tell(None)
        return run.code

    def _told(self, run: "Run", name: str, stage: str, *, recovering: bool) -> None:
        """Note a kill. What it did is seen when its run has ended, so it is counted in the table then."""
        self.hit[name] += 1
        self.recovering += recovering
        self.lines.setdefault(
            name, Line(name, f"no process left after {ORPHAN_SECONDS:g} s, nothing half-written, a clear end")
        )
        if run.struck:
            run.others.append(run.struck)
        run.struck = name
        print(f"kill {self.done}: {name}, {stage}{', in recovery' if recovering else ''}", flush=True)

    def _half_written(self, store: Path) -> str | None:
        """Files are never changed once they are there: one that was whole is not read again before the end."""
        wrong = half_written(store)
        return f"half-written: {wrong[:3]}" if wrong else None


class Run:
    """A command, and every process that it started."""

    def __init__(self, words: list[str], store: Path, variables: dict[str, Any]) -> None:
        self.store, self.started = store, time.time()
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self.code: int | None = None
        self.struck, self.others = "", list[str]()
        self._built = _outputs(store)
        self._said = store.with_suffix(".said")
        with self._said.open("wb") as said:
            self._command = subprocess.Popen(
                words, env=environment(**{MARK: self.mark}, **variables), stdout=said, stderr=said, cwd=HELPERS
            )

    def victim(self, chance: random.Random) -> tuple[psutil.Process, str] | None:
        """Wait for a seeded moment and choose who is killed; None where the run has ended before."""
        moment, outputs = chance.random(), _outputs(self.store)
        if moment < 0.3:  # once it has made so much more
            wanted = outputs + chance.choice([1, 3, 10, 40])
            self._wait(lambda: _outputs(self.store) >= wanted, 15)
            self._wait(lambda: False, chance.random() * 0.1)
        elif moment < 0.7:  # once it has started others, while they work
            self._wait(lambda: len(self._kinds()) > 1, 30, pause=0.2)  # which reads every process's environment
            self._wait(lambda: False, chance.random() * 3)
        else:  # at any time, often while it looks at what is there
            self._wait(lambda: False, chance.expovariate(1 / (1.5 if moment < 0.85 else 6)))
        kinds = self._kinds()
        if self._command.poll() is not None or not kinds:
            return None
        if moment < 0.7 and len(kinds) > 1:
            kinds.pop("command", None)
        kind = chance.choices(sorted(kinds), [WEIGHTS[kind] for kind in sorted(kinds)])[0]
        return chance.choice(sorted(kinds[kind], key=lambda process: process.pid)), kind

    def _kinds(self) -> dict[str, list[psutil.Process]]:
        """Its processes, by what they are to it."""
        kinds: dict[str, list[psutil.Process]] = {}
        for process in marked(self.mark):
            if kind := _kind(process):
                kinds.setdefault(kind, []).append(process)
        return kinds

    def wrong_at_end(self) -> str | None:
        """Wait for the end, then for all its processes; what was wrong with either."""
        try:
            self.code = self._command.wait(RUN_SECONDS)
        except subprocess.TimeoutExpired:
            self._command.kill()
            self.code = self._command.wait()
            return f"it did not end in {RUN_SECONDS:g} s"
        gone = wait_until(lambda: not any(map(is_alive, marked(self.mark))), ORPHAN_SECONDS, pause=0.2)
        if not gone:
            left = marked(self.mark)
            names = [" ".join(_words(process))[-200:] for process in left]
            for process in left:
                process.kill()
            return f"{len(names)} orphans: {names}"
        said = self._said.read_text(errors="replace")
        if self.code not in ENDS:
            return f"it exited with {self.code}: {said[-300:]}"
        clear = (
            self.code <= 0 or "polylm: " in said or "terminated; " in said
        )  # Prefect may leave a line without its end
        return None if clear else f"it does not say why it exited with {self.code}: {said[-300:]}"

    def has_built(self) -> bool:
        return _outputs(self.store) > self._built

    def doing(self) -> str:
        """What was made last."""
        made = [*(self.store / "parts").glob("*"), *(self.store / "folders").glob("*")]
        return f"after {max(made, key=lambda path: path.stat().st_mtime).name}" if made else "at the start"

    def _wait(self, true: Callable[[], object], seconds: float, pause: float = 0.02) -> None:
        wait_until(lambda: true() or self._command.poll() is not None, seconds, pause=pause)


def marked(mark: str) -> list[psutil.Process]:
    """Processes that a run started, also those whose parent is gone."""
    return [process for process in psutil.process_iter() if _has_mark(process, mark)]


def _has_mark(process: psutil.Process, mark: str) -> bool:
    try:
        return bool(process.environ().get(MARK) == mark)
    except (psutil.Error, OSError):  # another's, or it has ended
        return False


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _kind(process: psutil.Process) -> str | None:
    """What a process is to a run; None for multiprocessing's helper, which holds nothing of ours."""
    words = " ".join(_words(process))
    return next((kind for part, kind in KINDS.items() if part in words), None)


def _outputs(store: Path) -> int:
    """How many jobs have left something."""
    return sum(1 for _ in (store / "parts").rglob("*.parquet")) + len(list((store / "folders").glob("*/*")))


def model_server(whole: Whole, folder: Path, *, kills: int, chance: random.Random) -> Line:
    """Kill the local model server while it writes instructions; the run says so, and the next one goes on."""
    line = Line(
        "SIGKILL or SIGTERM of the local model server",
        "the run goes on or says why, no process left after 10 s; the next run ends well",
    )
    store = folder / "local"
    local = ["--set", "instructions.server=local", "--set", 'instructions.languages=["en"]']
    local += ["--set", "instructions.max_requests=1", "--set", "instructions.max_tokens=64"]
    for _ in range(kills):
        copy = whole.copy(store)
        words = copy.words(*local, "--until", "generate_instructions")
        line.tell(_without_server(Run(words, store, {}), words, chance))
        shutil.rmtree(store)
    return line


def _without_server(run: Run, words: list[str], chance: random.Random) -> str | None:
    servers: list[psutil.Process] = []

    def is_there() -> bool:
        servers[:] = [process for process in marked(run.mark) if _kind(process) == "local model server"]
        return bool(servers)

    run._wait(is_there, RUN_SECONDS)
    if not servers:
        return f"no server came up: {run.wrong_at_end()}"
    time.sleep(chance.random() * 4)
    if servers[0].is_running():
        servers[0].send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM]))
    wrong = run.wrong_at_end()
    if wrong or run.code == 0:
        return wrong
    done = say(words)
    return f"the next run: {done.stderr.strip()[-300:]}" if done.returncode else None
