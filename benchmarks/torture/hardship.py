"""What machines do to a store: full and read-only disks, no descriptors, wrong clocks, other users, several runs at once."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from samples import HELPERS, command, environment, half_written, wait_until
from whole import Whole, contents

from torture.stores import Contents, differences, say, unclear
from torture.table import Line

CORPUS = ("--until", "select")
OTHER = ("--set", "text.thresholds.th.dup_line_frac=0.2")
READS = (("status",), ("plan", "sample"), ("show", "select"), ("verify",))
_DESCRIPTORS = (12, 16, 20, 24, 32, 40, 48, 64)
_YEAR = 365 * 86_400
_STRANGER = 54_321  # a user id that owns nothing else
_CAPABILITIES = (
    0,
    1,
    2,
    3,
)  # chown, read and write everything, act as a file's owner: what makes root more than a user


def hardships(whole: Whole, folder: Path, expected: Contents, *, seed: int) -> list[Line]:
    """All of them, one after the other; each begins with stores of its own."""
    chance = random.Random(f"hardship {seed}")
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        moved(whole, folder, expected),
        at_once(whole, folder, expected, chance),
        descriptors(whole, folder, expected),
    ]
    lines += interposed(whole, folder, expected)
    if os.geteuid() == 0:
        lines += disk_full(whole, folder, expected, chance)
        lines += [read_only(whole, folder, expected), another_user(whole, folder, expected)]
    else:
        print("full and read-only disks and other users are left out: they need root", flush=True)
    return lines


def moved(whole: Whole, folder: Path, expected: Contents) -> Line:
    """Move a store to another path, and run."""
    line = Line("a store moved to another path", "nothing is built, every content is equal")
    copy = _copy(whole, folder / "here")
    (folder / "there").mkdir()
    moved = copy.store.rename(folder / "there" / "store of another name")
    done = say(copy.words("--json", store=moved))
    line.tell(_built(done, 0) or _differ(expected, moved))
    shutil.rmtree(folder / "there")
    return line


def at_once(whole: Whole, folder: Path, expected: Contents, chance: random.Random) -> Line:
    """Start two to five runs of the data stages at once over one new store, some of another recipe."""
    line = Line(
        "two to five runs at once, of the same and another recipe",
        "all end well, nothing half-written, every content as alone",
    )
    alone = _copy(whole, folder / "alone")
    say(alone.words(*CORPUS, *OTHER))
    all_known = contents(alone.store)
    for count in (2, 3, 4, 5):
        store = folder / f"at-once-{count}"
        (store / "parts").mkdir(parents=True)
        asked = [whole.words(*CORPUS, *(OTHER if n % 2 else ()), store=store, workers=1) for n in range(count)]
        runs = []
        for words in asked:
            runs.append(subprocess.Popen(words, env=environment(), stdout=-3, stderr=-1, text=True, cwd=HELPERS))
            time.sleep(chance.random() * 2)
        ends = [(run.communicate()[1], run.returncode) for run in runs]
        found = contents(store)
        wrong = [said.strip()[-300:] for said, code in ends if code]
        wrong += [name for name in found if found[name] != all_known.get(name)] + list(map(str, half_written(store)))
        for words in asked[:2]:
            again = say([*words, "--json"])
            wrong += [text for text in [_built(again, 0)] if text]
        line.tell(f"{count} at once: {wrong[:3]}" if wrong else None)
        shutil.rmtree(store)
    shutil.rmtree(alone.store)
    return line


def descriptors(whole: Whole, folder: Path, expected: Contents, counts: Sequence[int] = _DESCRIPTORS) -> Line:
    """Run with ever fewer file descriptors."""
    line = Line("few file descriptors", "the run ends well or says why in a line; then it goes on to equal content")
    for count in counts:
        copy = _copy(whole, folder / "descriptors", without=["measure_text"])
        code = "import os, resource, sys; n = int(sys.argv[1]); resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))"
        prefix = [sys.executable, "-c", f"{code}; os.execv(sys.argv[2], sys.argv[2:])", str(count)]
        done = say([*prefix, *copy.words()])
        wrong = unclear(done) if done.returncode else None
        print(f"{count} descriptors: {done.returncode} {done.stderr.strip()[-200:]}", flush=True)
        line.tell((wrong and f"{count} descriptors: {wrong}") or _mended(copy, expected))
        shutil.rmtree(copy.store)
    return line


def interposed(whole: Whole, folder: Path, expected: Contents) -> list[Line]:
    """Run with a clock set back, links that fail, and a slow file system; by a library between the run and its own."""
    library, when = folder / "interposed.so", folder / "now"
    source = Path(__file__).with_name("interposed.cpp")
    subprocess.run(["g++", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    load = {"LD_PRELOAD": library}

    clock = Line("the clock set back by a year, before and during a run", "the run ends well, every content is equal")
    copy = _copy(whole, folder / "clock", without=["encode", "measure_text"])
    done = say(copy.words("--json"), **load, TORTURE_BACK=_YEAR)
    clock.tell(_failed(done) or _differ(expected, copy.store))
    store = folder / "clock-during"
    (store / "parts").mkdir(parents=True)
    run = subprocess.Popen(
        whole.words(*CORPUS, store=store),
        env=environment(**load, TORTURE_BACK=_YEAR, TORTURE_WHEN=when),
        stdout=-3,
        stderr=-1,
        text=True,
        cwd=HELPERS,
    )
    wait_until(lambda: len(list((store / "parts").glob("*"))) > 4 or run.poll() is not None)
    when.touch()
    said = run.communicate()[1]
    found = contents(store)
    wrong = [name for name in found if found[name] != expected.get(name)]
    clock.tell(said.strip()[-300:] if run.returncode else f"{wrong[:3]} differ" if wrong else None)
    shutil.rmtree(store)

    no_link = Line(
        "a file system that cannot link (EPERM, as FAT)", "refused at the start, in a line that names the store"
    )
    done = say(copy.words(store=folder / "unlinked"), **load, TORTURE_NO_LINK=1)
    no_link.tell(unclear(done, names="cannot be written") if done.returncode else "it ran")
    shutil.rmtree(folder / "unlinked", ignore_errors=True)

    slow = Line("20 ms on every link, rename, unlink, mkdir and fsync", "the run ends well, every content is equal")
    shutil.rmtree(copy.store)
    copy = _copy(whole, folder / "slow", without=["encode", "measure_text", "train_byte_models"])
    slow.tell(_failed(say(copy.words(), **load, TORTURE_LATENCY=20_000)) or _differ(expected, copy.store))
    shutil.rmtree(copy.store)
    return [clock, no_link, slow]


def disk_full(whole: Whole, folder: Path, expected: Contents, chance: random.Random) -> list[Line]:
    """Run on a disk that is full, give it a little more, and run again, until everything fits."""
    held = Line("a full disk", "nothing half-written; once there is space, every content is equal")
    told = Line("what is said of a full disk", "a line with the reason, and no trace")
    total = sum(path.stat().st_size for path in whole.store.rglob("*") if path.is_file()) >> 10
    size = 64
    with _disk(folder / "small", size) as disk:
        store = disk / "store"
        while (done := say(whole.words(store=store))).returncode:
            halves = half_written(store) if (store / "parts").is_dir() else []
            held.tell(f"at {size} KiB: {halves[:3]}" if halves else None)
            wrong = unclear(done, names="No space left on device")
            told.tell(wrong and f"at {size} KiB, {_failing(done)}: {wrong}")
            size += int(chance.uniform(0.02, 0.14) * total) + 64
            _mount("-o", f"remount,size={size}k", disk)
        held.tell(_differ(expected, store))
    return [held, told]


def _failing(done: subprocess.CompletedProcess[str]) -> str:
    """What a run says of the stage that failed."""
    return next((line for line in done.stderr.splitlines() if line.startswith("polylm: ")), "no message")[:100]


def read_only(whole: Whole, folder: Path, expected: Contents) -> Line:
    """Read, and try to run, on a disk that cannot be written."""
    line = Line("a read-only store", "a run says so in a line; status, plan, show and verify work")
    copy = _copy(whole, folder / "read-only")
    _mount("--bind", copy.store, copy.store)
    try:
        _mount("-o", "remount,bind,ro", copy.store)
        line.tell(unclear(say(copy.words()), names="cannot be written"))
        for words in READS:
            line.tell(_failed(_read(copy, words)))
    finally:
        subprocess.run(["umount", copy.store], check=True)
    shutil.rmtree(copy.store / "parts" / "sign")
    line.tell(_mended(copy, expected))
    shutil.rmtree(copy.store)
    return line


def another_user(whole: Whole, folder: Path, expected: Contents) -> Line:
    """Read, and try to run, on a store of somebody else's; then with the right to write in it."""
    line = Line(
        "another user's store",
        "a run says so in a line, reading works; with the group's right to write a run ends equal",
    )
    store = folder / "strangers"
    shutil.copytree(whole.store, store)
    copy = Whole(whole.file, store, whole.server)
    for path in (store, *store.rglob("*")):
        os.chown(path, _STRANGER, 0)
        path.chmod(0o755 if path.is_dir() else 0o644)
    line.tell(unclear(say(_as_a_user(copy.words())), names="cannot be written"))
    for words in READS:
        line.tell(_failed(_read(copy, words, by=_as_a_user)))
    shutil.rmtree(store / "parts" / "encode")
    for path in (store, *store.rglob("*")):
        path.chmod(0o775 if path.is_dir() else 0o664)
    line.tell(_failed(say(_as_a_user(copy.words()))) or _differ(expected, store))
    shutil.rmtree(store)
    return line


def _as_a_user(words: list[str]) -> list[str]:
    """The command without root's right to read and write everything: as one of the group, not the owner."""
    code = "import ctypes, os, sys; [ctypes.CDLL(None).prctl(24, int(c), 0, 0, 0) for c in sys.argv[1].split()]"
    return [
        sys.executable,
        "-c",
        f"{code}; os.execv(sys.argv[2], sys.argv[2:])",
        " ".join(map(str, _CAPABILITIES)),
        *words,
    ]


def _read(
    copy: Whole, words: tuple[str, ...], by: Callable[[list[str]], list[str]] = list
) -> subprocess.CompletedProcess[str]:
    asked = copy.words() if words[0] == "plan" else command(*words, "--store", copy.store)
    if words[0] == "plan":
        asked = ["plan" if word == "run" else word for word in asked if word != "--no-prefect"]
    return say(by(asked))


def _copy(whole: Whole, store: Path, without: list[str] | None = None) -> Whole:
    """A copy of the store by hard links, without what some stages made."""
    shutil.rmtree(store, ignore_errors=True)
    return whole.copy(store, without=without or [])


def _failed(done: subprocess.CompletedProcess[str]) -> str | None:
    return f"{done.args[-1]} exited with {done.returncode}: {done.stderr.strip()[-400:]}" if done.returncode else None


def _built(done: subprocess.CompletedProcess[str], expected: int) -> str | None:
    """What is wrong with how much a run built."""
    if done.returncode:
        return _failed(done)
    built = {stage["stage"]: stage["built"] for stage in json.loads(done.stdout)["stages"] if stage["built"]}
    return f"it built {built}" if len(built) != expected else None


def _differ(expected: Contents, store: Path) -> str | None:
    names = differences(expected, store)
    return f"{len(names)} differ: {names[:3]}" if names else None


def _mended(copy: Whole, expected: Contents) -> str | None:
    """The same command, with nothing in its way."""
    return _failed(say(copy.words())) or _differ(expected, copy.store)


@contextmanager
def _disk(folder: Path, kib: int) -> Iterator[Path]:
    """A disk in memory, of that size."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)
