"""Flipped bytes, cuts and edits: `verify` finds and names them all, and no run uses what is damaged."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from samples import command
from whole import Whole, contents, copy_store

from polylm.tasks import keys
from polylm.tasks.maintenance.verify import damaged
from polylm.tasks.store import Store, read_columns, read_record
from torture.stores import Contents, differences, files_of, overwrite, say, unclear
from torture.table import Line

Harm = Callable[[bytes, random.Random], bytes]
_SLOW = ("pretrain", "finetune", "evaluate", "generate_instructions")  # made again by few of the runs
_MADE = ("parts", "folders", "artifacts")


def flip(data: bytes, chance: random.Random) -> bytes:
    """Change one byte to any other."""
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ chance.randrange(1, 256)]) + data[place + 1 :]


def cut(data: bytes, chance: random.Random) -> bytes:
    """Lose the end."""
    return data[: chance.randrange(len(data))]


def found_by_verify(whole: Whole, folder: Path, *, flips: int, cuts: int, seed: int) -> list[Line]:
    """Damage one file after the other and ask `verify` about it."""
    store = _copy(whole, folder / "damaged")
    chance = random.Random(f"damage {seed}")
    lines = []
    for name, harm, count in (("a flipped byte", flip, flips), ("a truncation", cut, cuts)):
        kinds = {kind: paths for kind, paths in files_of(store).items() if paths}
        line = Line(
            f"{name} ({', '.join(kinds)})", "`verify` names the file, its stage and the command that makes it again"
        )
        for _ in range(count):
            path = chance.choice(kinds[chance.choice(sorted(kinds))])
            line.tell(_found(store, path, harm, chance))
        lines.append(line)
    left = [str(entry) for entry in damaged(store).damage]
    lines[-1].lost += left  # all was put back
    shutil.rmtree(store)
    return lines


def used_by_no_run(whole: Whole, folder: Path, expected: Contents, *, runs: int, seed: int) -> Line:
    """Damage what a missing output stands on, and run: it is named, or not used, and its remedy brings all back."""
    line = Line(
        "a damaged file that a run needs", "the run names it and stops, or makes it again; then every content is equal"
    )
    chance = random.Random(f"use {seed}")
    for _ in range(runs):
        store = _copy(whole, folder / "used")
        line.tell(_used(whole, store, expected, chance))
        shutil.rmtree(store)
    return line


def found_by_recompute(whole: Whole, folder: Path, *, edits: int, seed: int) -> Line:
    """Edit parts with records and seals that match, and have `verify` make them again."""
    line = Line("an edited part with a seal that matches", "`verify` passes it, `verify --recompute 100%` names it")
    chance, store = random.Random(f"edit {seed}"), _copy(whole, folder / "edited")
    stages = [stage for stage in ("measure_text", "encode", "score_quality") if (store / "parts" / stage).is_dir()]
    paths = [path for stage in stages for path in sorted((store / "parts" / stage).rglob("*.parquet"))]
    edited = {str(_edit(store, path).relative_to(store)) for path in chance.sample(paths, min(edits, len(paths)))}
    plain = {entry.path for entry in damaged(store).damage}
    done = say(command("verify", "--recompute", "100%", "--store", store, "--json"))
    named = {entry["path"] for entry in json.loads(done.stdout)["damaged"]} if done.returncode == 5 else set()
    for path in sorted(edited):
        line.tell("digests alone named it" if path in plain else None if path in named else f"{path} was not named")
    line.lost += [f"{path} was named and not edited" for path in sorted(named - edited)]
    shutil.rmtree(store)
    return line


def _copy(whole: Whole, store: Path) -> Path:
    shutil.rmtree(store, ignore_errors=True)
    copy_store(whole.store, store)
    say(command("pin", "export", "--store", store))
    return store


def _found(store: Path, path: Path, harm: Harm, chance: random.Random) -> str | None:
    """What is wrong with what `verify` says of a file that is harmed and then put back."""
    data = path.read_bytes()
    overwrite(path, harm(data, chance))
    damage = damaged(store, only={path}).damage
    overwrite(path, data)
    inside = path.relative_to(store)
    place, stage = inside.parts[:2]
    if [entry.path for entry in damage] != [str(inside)]:
        return f"{inside}: {[str(entry) for entry in damage]}"
    told = damage[0]
    if told.stage != (stage if place in _MADE else ""):
        return f"{inside}: it names the stage {told.stage!r}"
    remedy = "`polylm run sample " if place in _MADE else "run again" if place == "seen" else "delete it"
    return None if remedy in told.remedy else f"{inside}: its remedy is {told.remedy!r}"


def _used(whole: Whole, store: Path, expected: Contents, chance: random.Random) -> str | None:
    copy = Whole(whole.file, store, whole.server)
    path, stage, until = _break(copy, chance)
    inside = path.relative_to(store)
    words = copy.words(*until, workers=0)
    done = say(words)
    named = inside.parts[2] if inside.parts[0] == "folders" else path.stem
    if done.returncode and (wrong := unclear(done, names=named)):
        return f"{inside}, read by {stage}: {wrong}"
    if not done.returncode:
        at_fault = "/".join(inside.parts[:3]) if inside.parts[0] == "folders" else str(inside)
        sound = [name for name in expected if name != at_fault and (store / name).exists()]
        held = _contents(store, without=at_fault)
        if wrong_ones := [name for name in sound if held.get(name) != expected[name]]:
            return f"{inside}, read by {stage}: it was used: {wrong_ones[:3]}"
    for entry in damaged(store).damage:
        _delete(store, entry.path)
    done = say(words)
    if done.returncode:
        return f"{inside}, deleted: {done.stderr.strip()[-300:]}"
    differ = differences(expected, store)
    return f"{inside}: {differ[:3]} differ" if differ else None


def _break(copy: Whole, chance: random.Random) -> tuple[Path, str, list[str]]:
    """Take away what a stage made, and harm something that it reads; the file, the stage, and the words that run up to it."""
    store, record = copy.store, json.loads(max((copy.store / "runs").glob("*.json")).read_text())
    made = {entry["artifact"]: entry for entry in record["stages"]}
    edges = [(ref, entry) for entry in record["stages"] for ref in entry["reads"] if ref in made]
    edges = [edge for edge in edges if edge[1]["stage"] not in _SLOW or chance.random() < 0.1]
    ref, reader = chance.choice(edges)
    for path in _outputs(store, reader["artifact"]):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    outputs = [path for path in _outputs(store, ref) if path.exists()]
    target = chance.choice([*outputs, *outputs, next(store.glob(f"artifacts/{ref}*.json"))])
    if target.is_dir():
        target = chance.choice([path for path in sorted(target.rglob("*")) if path.is_file() and path.stat().st_size])
    overwrite(target, (flip if chance.random() < 0.8 else cut)(target.read_bytes(), chance))
    stages = [entry["stage"] for entry in record["stages"]]
    until = ["--until", reader["stage"]] if stages.count(reader["stage"]) == 1 else []  # it would end at the first
    return target, reader["stage"], until


def _outputs(store: Path, ref: str) -> list[Path]:
    """Parts or folders of an artifact, and the tables of bad records."""
    manifest = json.loads(next(store.glob(f"artifacts/{ref}*.json")).read_text())
    here, stage = Store(store), manifest["stage"]
    parts = [here.path(manifest["shape"], stage, part["key"]) for part in manifest["parts"]]
    return parts + [here.part_path(stage, key) for key in manifest.get("jobs", ())]


def _contents(store: Path, *, without: str) -> Contents:
    """As `contents`, of a store in which one thing is damaged."""
    aside = store.parent / "aside"
    source = store / without
    if not source.exists() or without.startswith("artifacts"):
        return contents(store)
    source.rename(aside)
    held = contents(store)
    aside.rename(source)
    return held


def _delete(store: Path, inside: str) -> None:
    """Do what a remedy says: a folder goes whole."""
    parts = Path(inside).parts
    path = store.joinpath(*parts[:3]) if parts[0] == "folders" else store / inside
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _edit(store: Path, path: Path) -> Path:
    """Rewrite a part as someone would who knows the store: another first column, a record and a seal that match."""
    record, rows = read_record(path), read_columns(path)
    name = rows.schema.names[0]
    other = rows.set_column(0, rows.schema.field(name), pa.nulls(rows.num_rows, rows.schema.field(name).type))
    path.unlink()
    Store(store).open().commit_table(other, replace(record, columns=keys.contents(other)))
    return path
