"""What the commands that only read print: runs, artifacts, documents and their verdicts."""

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from polylm.deployments.settings import Settings, store_option
from polylm.flows.alarms import Watch
from polylm.flows.everything import build_everything
from polylm.flows.recipes import Recipe
from polylm.tasks import keys
from polylm.tasks.maintenance.files import MANIFEST, read_json
from polylm.tasks.maintenance.run_records import Run, read_runs
from polylm.tasks.maintenance.verify import folder_problems
from polylm.tasks.session import Observer, Session, session
from polylm.tasks.stage import REASON
from polylm.tasks.store import Artifact, Part, Store, StoreError, read_columns
from polylm.tasks.why import why

T = TypeVar("T")
UNFINISHED = ".unfinished"
# What they say of one document is told beside its verdicts.
_TOLD_BY = ("ingest", "clean", "identify_language", "read_declared", "measure_toxicity")
CORPUS_COLUMNS = ["text", "id", "url", "date", "licence", "kind", "extra", "language", "cell", "weight", "split"]


def runs_of(store: Path) -> list[Run]:
    """All runs, the oldest first; StoreError where there is no store."""
    return read_runs(_existing(store).root)


def first_rows(store: Path, what: str, count: int, *, rejected: bool = False) -> list[dict[str, Any]]:
    """The first rows of an artifact's table, those of documents with their addresses, or the files of its folder.

    Of a gate only the `rejected` ones, where that is asked.
    """
    if count < 1:
        raise ValueError(f"--rows {count}: expected at least 1")
    here = _existing(store)
    if what == "bad_records":
        return _bad_records(here, count)
    artifact = _find(here, what)
    if rejected and artifact.columns != (REASON,):
        raise ValueError(
            f"--rejected: {artifact.stage} is no gate and rejects nothing; `polylm stages` lists the gates"
        )
    rows: list[dict[str, Any]] = []
    for part in artifact.parts:
        assert part.record is not None
        if artifact.shape.startswith("folder"):
            folder = here.folder_path(artifact.stage, str(part.key))
            rows += [{"job": part.label, "file": name, "folder": str(folder)} for name in part.columns]
        else:
            table = read_columns(here.part_path(artifact.stage, str(part.key)))
            if artifact.shape == "rows":
                addresses = [f"{part.label}.{row}" for row in range(table.num_rows)]
                table = table.add_column(0, "doc", pa.array(addresses, pa.string()))
            else:
                table = table.add_column(0, "part", pa.array([part.label] * table.num_rows, pa.string()))
            if rejected:
                table = table.filter(pc.is_valid(table[REASON]))
            rows += table.slice(0, count - len(rows)).to_pylist()
        if len(rows) >= count:
            break
    return rows[:count]


def explain(settings: Settings, doc: str, run_id: str | None) -> dict[str, Any]:
    """Every rule's answer on one document, from the gates of a run's recipe; nothing costly is built."""
    with replayed(settings, run_id) as here:
        raw = here.artifacts["ingest"]
        index, row = _locate(here, raw, doc)
        jobs = [jobs[index] for jobs in here.gates if jobs[index].key]
        answers = why(jobs, row, here.store)
        first = next((answer for answer in answers if answer.verdict == "broken"), None)
        return {
            "run": here.record["replays"],
            "address": keys.address(int(raw.parts[index].number or 0) + row, list(raw.sources)),
            "verdict": f"rejected by {first.gate}: {first.rule}" if first else _kept(len(jobs), len(here.gates)),
            "document": _about(here, index, row) | (_kept_instead(here, raw, index, row) if first else {}),
            "rules": [asdict(answer) for answer in answers],
        }


def _kept(judged: int, gates: int) -> str:
    return "kept" if judged == gates else f"not rejected so far: {judged} of {gates} gates can judge it"


def where_to_look(here: Session) -> dict[str, str]:
    """What a run ends with: where its results are, one sentence that the model wrote, and what to try next."""
    lines = {"run": str(here.record["id"]), "store": str(here.store.root)}
    if kept := kept_by_language(here):
        read = next(report.rows for report in here.reports if report.stage == "ingest")
        lines["kept"] = f"{sum(row['documents'] for row in kept):,} of {read:,} documents"
    if (artifact := here.artifacts.get("export")) and artifact.built:
        lines["exported model"] = str(here.store.folder_path("export", str(artifact.parts[0].key)))
    if (artifact := here.artifacts.get("report_evaluation")) and artifact.built:
        report = here.store.folder_path("report_evaluation", str(artifact.parts[0].key))
        lines["evaluation"] = str(report / "evaluation.md")
    if (artifact := here.artifacts.get("write_samples")) and artifact.built:
        written = (
            read_columns(here.store.part_path("write_samples", str(artifact.parts[0].key))).slice(0, 1).to_pylist()[0]
        )
        lines["base model wrote"] = f"{written['prompt']}{written['text']}".replace("\n", " ")[:100]
    if (artifact := here.artifacts.get("ingest")) and artifact.built and artifact.parts:
        program = "polylm" if shutil.which("polylm") else os.path.relpath(sys.argv[0])
        lines["next"] = shlex.join([program, "why", f"{artifact.sources[0]}.0.0", *store_option(here.store.root)])
    return lines


def kept_by_language(here: Session) -> list[dict[str, Any]] | None:
    """Documents that no gate rejects, and their bytes after cleaning, by language; None where something must be built first."""
    counts = here.artifacts.get("count_survivors")
    if counts is None or not counts.built:
        return None
    rows: list[dict[str, Any]] = read_columns(here.store.part_path(counts.stage, str(counts.parts[0].key))).to_pylist()
    return rows


@contextmanager
def replayed(settings: Settings, run_id: str | None = None, observer: Observer | None = None) -> Iterator[Session]:
    """A session in which the recipe of a run (the latest by default) was planned again: its artifacts, by stage."""
    chosen = chosen_run(settings.store, run_id)
    try:
        recipe = Recipe.model_validate(chosen.recipe)
    except ValidationError as error:
        where = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
        text = f"the run {chosen.id} was made by another version of polylm (its recipe differs in {where})"
        raise StoreError(f"{text}: run it again, or name another with --run") from error
    with session(settings, mode="plan", recipe=recipe.model_dump(mode="json"), observer=observer) as here:
        here.record["replays"] = chosen.id
        build_everything(recipe, Watch())
        yield here


def chosen_run(store: Path, run_id: str | None) -> Run:
    """A run by its id, or the latest that has read documents; StoreError, which names those that there are, where there is none.

    One that failed at once, by a mistyped source, does not hide the run before it.
    """
    runs = runs_of(store)
    chosen = [run for run in runs if run_id in (None, run.id) and run.state != "damaged"]
    if not chosen and any(run_id in (None, run.id) for run in runs):
        names = ", ".join(run.id for run in runs if run_id in (None, run.id))
        raise StoreError(f"the record of {names} in {store / 'runs'} is damaged: run again, which finds what was built")
    if not chosen:
        known = ", ".join(run.id for run in runs) or "none: `polylm run sample` makes one"
        raise StoreError(f"no run{f' {run_id}' if run_id else ''} in {store}; there are {known}")
    return ([run for run in chosen if run.artifact("ingest")] or chosen)[-1]


def export_to(settings: Settings, what: str, folder: Path) -> str:
    """Write the corpus (kept documents as Parquet), the tokenizer or the model of the latest run that has one to a new folder."""
    if folder.exists() and (not folder.is_dir() or any(path.name != UNFINISHED for path in folder.iterdir())):
        raise StoreError(f"{folder} is not an empty folder: give a new one")
    if folder.resolve().is_relative_to(settings.store.resolve()):
        raise StoreError(
            f"{folder} is in the store {settings.store}, which has its own files only: give a folder elsewhere"
        )
    if (stage := {"corpus": "select", "tokenizer": "train_tokenizer", "model": "export"}.get(what)) is None:
        raise StoreError(f"export {what}: expected corpus, tokenizer or model")
    made = [run.id for run in runs_of(settings.store) if run.artifact(stage)]
    with replayed(settings, made[-1] if made else None) as here:
        if what == "corpus":
            rows = _whole(folder, lambda unfinished: _export_corpus(here, unfinished))
            return f"{rows:,} documents of the run {here.record['replays']} in {folder}"
        artifact = here.artifacts.get(stage)
        if artifact is None or not artifact.built:
            raise StoreError(_not_there(here, stage, what))
        source = here.store.folder_path(stage, str(artifact.parts[0].key))
        if problems := folder_problems(source):
            raise StoreError(problems[0])
        ignored = shutil.ignore_patterns(MANIFEST, "logs")
        _whole(folder, lambda unfinished: shutil.copytree(source, unfinished, ignore=ignored, dirs_exist_ok=True))
    return f"{what} of the run {here.record['replays']} ({stage}/{artifact.key[:16]}) in {folder}"


def _not_there(here: Session, stage: str, what: str) -> str:
    """Why what a stage made cannot be had: it was not made, or parts of it, or of what it stands on, are gone."""
    run = next(run for run in runs_of(here.store.root) if run.id == here.record["replays"])
    if not run.artifact(stage):
        return f"this store has no {what} yet: `polylm run` builds it"
    return f"the {what} of the run {run.id} is not whole: parts of it, or of what it stands on, are gone; run again, or `polylm verify` names them"


def _whole(folder: Path, write: Callable[[Path], T]) -> T:
    """Write in a folder of the folder, and move all up at the end: a killed export leaves nothing that looks finished."""
    unfinished = folder / UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        written = write(unfinished)
        for path in unfinished.iterdir():
            path.rename(folder / path.name)
        unfinished.rmdir()
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise StoreError(f"{folder} cannot be written ({error.strerror or error}): give another folder") from error
    return written


def _export_corpus(here: Session, folder: Path) -> int:
    """Selected documents, one Parquet file a part that has any, with language, cell, weight and split."""
    selected = here.artifacts.get("select")
    if selected is None or not selected.built:
        raise StoreError(_not_there(here, "select", "corpus"))
    rows = 0
    for index, part in enumerate(selected.parts):
        tables = [
            _read_part(here, stage, index)
            for stage in ("clean", "ingest", "identify_language", "assign_split", "select")
        ]
        columns = {name: table[name] for table in reversed(tables) for name in table.schema.names}
        kept = pa.table(columns).filter(pc.is_valid(columns["weight"]))
        rows += kept.num_rows
        if kept.num_rows:
            pq.write_table(kept.select(CORPUS_COLUMNS), folder / f"{part.label}.parquet", compression="zstd")
    return rows


def _read_part(here: Session, stage: str, index: int) -> pa.Table:
    return read_columns(here.store.part_path(stage, str(here.artifacts[stage].parts[index].key)))


def _existing(store: Path) -> Store:
    """A store to read; a slip in its name must not look like an empty one."""
    here = Store(store)
    if not (here.root / "parts").is_dir():
        raise StoreError(f"{here.root} is no store: give --store DIR, or make one with `polylm run`")
    return here


def _find(store: Store, what: str) -> Artifact:
    stage, slash, key = what.partition("/")
    if slash:
        return store.load_artifact(stage, key)
    for run in reversed(read_runs(store.root)):
        if ref := run.artifact(what):
            return store.load_artifact(*ref.split("/"))
    raise StoreError(f"no stage {what!r} in the runs of {store.root}: `polylm status` lists them")


def _locate(here: Session, raw: Artifact, doc: str) -> tuple[int, int]:
    """The index of a document's part, and its row."""
    sources = list(raw.sources)
    if not raw.built:
        raise ValueError(
            f"no document {doc} here: what this run read is not there (not read yet, or gone; `polylm verify` tells): run "
            "again, or name another run with --run"
        )
    if doc.count(".") >= 2 and doc.rsplit(".", 2)[0] in sources:
        source, number, row = keys.parse_address(doc, sources)
        label = f"{source}.{number}"
        for index, part in enumerate(raw.parts):
            if part.label == label and part.record and row < part.record.rows:
                return index, row
        raise ValueError(f"no document {doc}: {_extent(raw, source)}")
    for index, part in enumerate(raw.parts):
        ids = read_columns(here.store.part_path("ingest", str(part.key)), ["id"])["id"].to_pylist()
        if doc in ids:
            return index, ids.index(doc)
    raise ValueError(
        f"no document {doc!r} in the run {here.record['replays']}: give an id, or SOURCE.PART.ROW with SOURCE one of "
        f"{', '.join(sources)}; --run names another run, as `polylm status` lists them"
    )


def _extent(raw: Artifact, source: str) -> str:
    mine: list[Part] = [part for part in raw.parts if part.label.rpartition(".")[0] == source]
    if not mine:
        return f"{source} has none: all of its records are bad, `polylm show bad_records` lists them"
    last = mine[-1]
    return f"{source} has parts 0 to {len(mine) - 1}, the last with {last.record.rows if last.record else 0} documents"


def _about(here: Session, index: int, row: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for stage in _TOLD_BY:
        artifact = here.artifacts.get(stage)
        if artifact is None or artifact.parts[index].record is None:
            continue
        table = read_columns(here.store.part_path(stage, str(artifact.parts[index].key)))
        found |= {key: value for key, value in table.slice(row, 1).to_pylist()[0].items() if value is not None}
    return {"text": found.pop("text", None), **found}


def _kept_instead(here: Session, raw: Artifact, index: int, row: int) -> dict[str, Any]:
    """The duplicate that is kept in a document's place, where there is one."""
    keepers = here.artifacts.get("choose_keepers")
    if keepers is None or not keepers.built:
        return {}
    told = read_columns(here.store.part_path(keepers.stage, str(keepers.parts[0].key)))
    own = told.filter(pc.equal(told["doc"], int(raw.parts[index].number or 0) + row))["keeper"].to_pylist()
    return {"duplicate_of": keys.address(own[0], list(raw.sources))} if own else {}


def _bad_records(store: Store, count: int) -> list[dict[str, Any]]:
    """What the latest run could not parse: file, offset, reason and the first bytes."""
    refs = [ref for run in read_runs(store.root) if (ref := run.artifact("ingest"))]
    manifests = (store.root / "artifacts" / "ingest").glob(f"{refs[-1].partition('/')[2]}*.json") if refs else ()
    rows: list[dict[str, Any]] = []
    for key in [key for path in manifests for key in (read_json(path) or {}).get("jobs", ())]:
        rows += read_columns(store.part_path("ingest", key)).slice(0, count - len(rows)).to_pylist()
    return rows
