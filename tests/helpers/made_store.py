"""A store made by hand through the store's own writers: every number on a page can be told from here, without training."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fastapi.testclient import TestClient
from tokenizers import pre_tokenizers, trainers

from polylm.dashboard.app import create_app
from polylm.deployments.settings import Settings
from polylm.model.metrics import RunLog, StepMetrics
from polylm.tasks import keys
from polylm.tasks.evaluation.table import EVALUATION, make_rows
from polylm.tasks.instructions.generate import INSTRUCTION
from polylm.tasks.instructions.journal import Answer, Journal
from polylm.tasks.maintenance.files import write_json
from polylm.tasks.stage import REASON
from polylm.tasks.store import Artifact, Part, Record, Store
from polylm.tasks.tokens.curriculum import CURRICULUM
from polylm.tasks.tokens.tokenizer import STATISTICS, new_tokenizer
from polylm.tasks.training.train import EXECUTION

GATES = ("drop_empty", "filter_text")
STEPS = {"stage1": 40, "stage2": 20, "finetune": 10}
SKIPPED = ("stage1", 33)  # a step that the guard skipped
PART_ROWS = 10


def opened(made):
    """A client of the dashboard of a store, and what its pages ask."""
    app = create_app(Settings(store=made.root))
    client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
    return SimpleNamespace(client=client, here=app.state.queries)


def rows_of(page):
    """The text of every row of every table of a page, cells apart."""
    rows = re.findall(r"<tr.*?>(.*?)</tr>", page, re.S)
    cells = [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.S) for row in rows]
    return [[re.sub(r"<.*?>", "", cell).strip() for cell in row] for row in cells]


class MadeStore:
    """Writes artifacts of any content, and records of runs that have them."""

    def __init__(self, root):
        self.root = Path(root)
        self.store = Store(self.root).open()

    def rows(self, stage, tables, *, reads=(), source="web", reasons=()):
        """A table a part; of a gate its `reasons`, counted from the tables."""
        parts = []
        for index, table in enumerate(tables):
            record = self._record(stage, f"{source}.{index}", table)
            counted = (
                table[REASON].drop_null().value_counts().to_pylist() if list(table.column_names) == [REASON] else []
            )
            record.reasons.update({entry["values"]: entry["counts"] for entry in counted})
            self.store.commit_table(table, record)
            parts.append(Part(record.key, record.label, record, keys.number(0, index)))
        return self._entry(Artifact(stage, "rows", tuple(parts), (), (source,)), reads, {}, parts)

    def table(self, stage, table, *, reads=(), params=None):
        return self.tables(stage, {"": table}, reads=reads, params=params, shape="table")

    def tables(self, stage, tables, *, reads=(), params=None, shape="tables"):
        """A table a job."""
        parts = []
        for label, table in tables.items():
            record = self._record(stage, label, table, params)
            self.store.commit_table(table, record)
            parts.append(Part(record.key, label, record))
        return self._entry(Artifact(stage, shape, tuple(parts)), reads, params or {}, parts)

    def folder(self, stage, fill, *, reads=(), params=None):
        """A folder that `fill` writes into."""
        work = self.root / "tmp" / stage
        work.mkdir(parents=True)
        fill(work)
        files = {
            str(path.relative_to(work)): keys.file_digest(path) for path in sorted(work.rglob("*")) if path.is_file()
        }
        record = Record(stage, 1, keys.digest([stage, files, params or {}, list(reads)]), "", {}, files, 0)
        self.store.commit_folder(work, record)
        part = Part(record.key, "", record)
        return self._entry(Artifact(stage, "folder", (part,)), reads, params or {}, [part])

    def run(self, name, entries, *, recipe=None, state="completed", alarms=(), time="20261127T120000000"):
        """The record of a run; its id."""
        run_id = f"{time}-{name}"
        record = {"id": run_id, "name": name, "state": state, "recipe": recipe or {}, "stages": entries}
        record |= {"alarms": list(alarms), "seconds": 60.0, "host": "elsewhere", "pid": 1, "started_by": "test"}
        write_json(self.root / "runs" / f"{run_id}.json", record)
        return run_id

    def _record(self, stage, label, table, params=None):
        columns = keys.contents(table)
        return Record(stage, 1, keys.digest([stage, label, columns, params or {}]), label, {}, columns, table.num_rows)

    def _entry(self, artifact, reads, params, parts):
        self.store.write_manifest(artifact, {"params": params, "version": 1, "reads": list(reads)})
        reasons = {}
        for part in parts:
            for reason, n in part.record.reasons.items():
                reasons[reason] = reasons.get(reason, 0) + n
        rows = sum(part.record.rows for part in parts)
        told = {"jobs": len(parts), "reused": 0, "built": len(parts), "exact": True, "seconds": 1.5}
        return {"stage": artifact.stage, **told, "rows": rows, "reasons": reasons, "artifact": artifact.ref, "reads": list(reads)}  # fmt: skip


def step_metrics(segment, step, **changes):
    """What rank 0 notes of a step: a loss that falls, two languages, rows of two cells."""
    told = {
        "loss": 9.0 - step / 10,
        "z_loss": 0.0,
        "tokens": 100,
        "grad_norm": 1.0 + step % 3 / 100,
        "rate": 1e-3,
        "seconds": 0.5,
        "tokens_per_second": 200.0,
        "skipped": None,
        "languages": {"en": (400.0 - step, 60), "th": (300.0 - step, 40)},
        "rows": {"en/web": 3, "th/web": 1},
    }
    return StepMetrics(step=step, segment=segment, **(told | changes))


def training_folder(segment, steps, *, name=None):
    """A function that fills a folder as a finished training leaves it, through the trainer's own journals."""

    def fill(folder):
        log = RunLog(folder)
        log.event("start", 0, torch="2")
        for step in range(1, steps + 1):
            spike = {"loss": 50.0, "skipped": "loss spike"} if (segment, step) == SKIPPED else {}
            log.step(step_metrics(name or segment, step, **spike))
        log.event("end", steps)
        log.write_tables()
        (folder / "logs").mkdir()
        (folder / "events.parquet").rename(folder / "logs" / "events.parquet")
        metrics = pq.read_table(folder / "metrics.parquet")
        pq.write_table(metrics.select(["step", *EXECUTION]), folder / "logs" / "speed.parquet")
        pq.write_table(metrics.drop_columns(list(EXECUTION)), folder / "metrics.parquet")
        for journal in ("metrics.jsonl", "events.jsonl"):
            (folder / journal).unlink()

    return fill


def train_params(segment, steps):
    guard = {"window": 128, "minimum": 64, "deviations": 6.0}
    return {"segment": segment, "steps": steps, "batch": 4, "seed": 0, "guard": guard}


def tokenizer_folder(folder):
    """A small tokenizer, with statistics of two languages."""
    tokenizer = new_tokenizer(24)
    texts = ["the cat sat on the mat and the dog", "ภาษาไทย ภาษาไทย", "héllo wörld, the words are words"] * 20
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["</s>"], initial_alphabet=sorted(alphabet), show_progress=False)  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    rows = [{"language": "en", "bytes": 300, "tokens": 100, "bytes_per_token": 3.0, "sample_bytes": 3_000, "repeats": 1.0}, {"language": "th", "bytes": 500, "tokens": 100, "bytes_per_token": 5.0, "sample_bytes": 1_000, "repeats": 2.0}]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, STATISTICS), folder / "statistics.parquet")


def trained(made, *, segments=("stage1", "stage2", "finetune")):
    """Entries of a tokenizer, first weights and trainings, each from the one before."""
    entries = [made.folder("train_tokenizer", tokenizer_folder, params={"vocabulary": 300, "alpha": 0.3})]
    entries.append(made.folder("initialize", lambda folder: (folder / "config.json").write_text("{}")))
    for segment in segments:
        stage, steps = ("finetune" if segment == "finetune" else "pretrain"), STEPS[segment]
        fill = training_folder(segment, steps)
        entries.append(made.folder(stage, fill, reads=[entries[-1]["artifact"]], params=train_params(segment, steps)))
    return entries


def plan_row(segment, cell, planned, *, warning=None, available=10):
    group = "pair" if cell.endswith("/pair") else "english" if cell.startswith("en/") else "other"
    return {"segment": segment, "cell": cell, "group": group, "rows_available": available, "tokens_available": available * 50, "share": 0.5, "rows_planned": planned, "tokens_planned": planned * 50, "epochs": planned / available, "epochs_so_far": planned / available, "warning": warning}  # fmt: skip


def curriculum(made, rows):
    return made.table("plan_curriculum", pa.Table.from_pylist(rows, CURRICULUM), params={"alpha": 0.3})


def instruction(language, number, reason=None, **changes):
    told = {"id": f"{language}-0.{number}.0", "language": language, "instruction": f"Task {number} in {language}", "input": "", "output": f"Answer {number}", "rejected_because": reason, "evidence": "", "text": "", "model": "a-model", "round": 0, "prompt_sha256": "0" * 64, "example_ids": []}  # fmt: skip
    return told | changes


def instructions(made, by_language):
    tables = {language: pa.Table.from_pylist(rows, INSTRUCTION) for language, rows in by_language.items()}
    params = {"languages": list(by_language), "server": "local", "rounds": 2}
    return made.tables("generate_instructions", tables, params=params)


def journal(made, language, prompts):
    """The journal of a language, an answer a prompt, through its own writer."""
    path = made.root / "work" / "generate_instructions" / f"{language}.jsonl"
    with Journal(path) as file:
        for number, prompt in enumerate(prompts):
            end = "length" if number % 2 else "stop"
            file.append(str(number), prompt, Answer(f"answer {number}", end, prompt_tokens=10, completion_tokens=5))
    return path


def figure(model, task="XCOPA", language="mean", metric="acc", value=0.5, **changes):
    told = {"model": model, "category": "understanding", "task": task, "language": language, "metric": metric, "value": value, "stderr": 0.01, "chance": 0.5, "n": 100, "note": "zero-shot"}  # fmt: skip
    return told | changes


def evaluated(made, rows, *, reads=()):
    return made.table("tabulate", make_rows(rows), reads=reads)


def evaluation(made, models, exports):
    """An `evaluate` whose models are these exports; its own table is empty."""
    return made.tables("evaluate", {"bits": EVALUATION.empty_table()}, reads=exports, params={"models": list(models)})


def documents(made, verdicts, *, ids=None, texts=None, source="web", languages=None):
    """Entries of the data stages of documents; `verdicts` has a (gate, reason) a document, or None for kept."""
    count = len(verdicts)
    ids = ids or [f"id-{i}" for i in range(count)]
    texts = texts or [f"text of {one}" for one in ids]
    languages = languages or [("en", "th")[i % 2] for i in range(count)]
    cuts = range(0, count, PART_ROWS)

    def parts(table):
        return [table.slice(start, PART_ROWS) for start in cuts]

    def add(stage, table, reads=()):
        return made.rows(stage, parts(table), reads=reads, source=source)

    entries = [add("ingest", pa.table({"text": texts, "id": ids}))]
    entries.append(add("clean", pa.table({"text": texts, "chars": pa.array(map(len, texts), pa.uint32())}), [entries[0]["artifact"]]))  # fmt: skip
    entries.append(add("identify_language", pa.table({"language": pa.array(languages).dictionary_encode()})))
    for gate in GATES:
        reasons = [one[1] if one and one[0] == gate else None for one in verdicts]
        entries.append(add(gate, pa.table({REASON: pa.array(reasons, pa.string()).cast(pa.dictionary(pa.int8(), pa.string()))})))  # fmt: skip
    return entries


def at_work(made, weights, segment="stage1", steps=40, key="a" * 64):
    """The folder of a training in progress that begins with these weights, as `_train` lays it out."""
    scratch = made.root / "work" / key / "scratch"
    (scratch / "training").mkdir(parents=True)
    told = train_params(segment, steps)
    job = {"segments": [{"name": segment, "steps": steps}], "initial_weights": f"/elsewhere/{weights}"}
    (scratch / "job.json").write_text(json.dumps(job | {name: told[name] for name in ("batch", "seed", "guard")}))
    return scratch / "training"


def key_of(made, entry):
    """The key of the first part of an entry's artifact."""
    stage, _, key = entry["artifact"].partition("/")
    return made.store.load_artifact(stage, key).parts[0].key


def reference_bits(segment, language, bytes_per_token):
    """Bits per byte of a language in the first and the last step of a segment, computed from what was noted."""
    steps = [step_metrics(segment, step) for step in (1, STEPS[segment])]
    return [nll / tokens / np.log(2) / bytes_per_token for nll, tokens in (one.languages[language] for one in steps)]
