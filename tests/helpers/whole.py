"""The whole flow on a third of the sample's documents, small enough for tests; a scripted server writes the instructions."""

import fcntl
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from samples import HELPERS, call, command, environment, snapshot, third_options, wait_until, workers_of

from polylm.deployments.settings import Settings
from polylm.tasks.store import Store, read_columns

CONTEXT, BATCH, FINETUNE_STEPS = 256, 8, 6
STEPS = {"stage1": 20, "stage2": 10}
NON_ENGLISH = {"stage1": 0.30, "stage2": 0.60}
PAIRS = {"stage1": 0.05, "stage2": 0.10}
CHECKPOINT_EVERY = 4
GENERATED_IN = ("de", "en")
REQUESTS = 2  # a language
EVALUATED_PARAGRAPHS = 4
LASTING = ("parts", "folders", "artifacts", "runs", "checked", "seen")


def load_scripted():
    """The module of the stand-in server, which lies beside the tests and in no package."""
    if "scripted_server" not in sys.modules:
        spec = importlib.util.spec_from_file_location("scripted_server", HELPERS.parent / "scripted_server.py")
        sys.modules["scripted_server"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["scripted_server"])
    return sys.modules["scripted_server"]


def whole_options(file, server):
    """Options that run the recipe `sample` to its end on `file`, small; the server at this URL writes instructions."""
    segments = [
        {"name": name, "steps": steps, "non_english": NON_ENGLISH[name], "pairs": PAIRS[name]}
        for name, steps in STEPS.items()
    ]
    changes = {
        "flow": "everything",
        "tokenizer.vocabulary": 4_096,
        **{f"{stage}.context": CONTEXT for stage in ("pack", "pack_pairs", "pack_instructions", "model")},
        **{"model.layers": 2, "model.width": 64, "model.heads": 2, "model.feed_forward": 128},
        **{"curriculum.segments": segments, "curriculum.batch": BATCH},
        **{f"{name}.steps": steps for name, steps in (*STEPS.items(), ("finetune", FINETUNE_STEPS))},
        **{f"{stage}.batch": BATCH for stage in (*STEPS, "finetune")},
        **{f"{stage}.checkpoint_every": CHECKPOINT_EVERY for stage in (*STEPS, "finetune")},
        **{"instructions.server": server, "instructions.model": "scripted"},
        **{"instructions.languages": GENERATED_IN, "instructions.max_requests": REQUESTS},
        **{"evaluate.items": 2, "evaluate.continuations": 2, "evaluate.translations": 2, "evaluate.resamples": 10},
        **{"evaluate.max_new_tokens": 8, "evaluate.directions": ["en-de"]},
        **{f"{stage}.paragraphs": EVALUATED_PARAGRAPHS for stage in ("evaluate", "evaluate_untrained")},
        **{"samples.prompts": {"en": "The city is", "de": "Die Stadt ist"}, "samples.max_new_tokens": 8},
    }
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in changes.items()}
    return [*third_options(file), *(word for name, value in texts.items() for word in ("--set", f"{name}={value}"))]


@dataclass(frozen=True)
class Whole:
    """A store in which the whole flow ran, and what is needed to run it there again."""

    file: Path
    store: Path
    server: str  # was there when the instructions were generated

    def words(self, *more, server=None, store=None, workers=2):
        """The command that runs the flow in this store, or in another one."""
        options = whole_options(self.file, server or self.server)
        store = store or self.store
        return [*command("run", "sample", *options, "--store", store, "--workers", workers, "--no-prefect"), *more]

    def run(self, *more, server=None, store=None, workers=2, **variables):
        """Run it; the entries of the stages in the run's record."""
        call(self.words(*more, server=server, store=store, workers=workers), **variables)
        return json.loads(max(((store or self.store) / "runs").glob("*.json")).read_text())["stages"]

    def copy(self, store, *, without=()):
        """Copy the store by hard links, and leave out what some stages made; `pretrain:stage2` is one of two trainings."""
        copy_store(self.store, store)
        for name in without:
            stage, _, segment = name.partition(":")
            shutil.rmtree(store / "parts" / stage, ignore_errors=True)
            for folder in (store / "folders" / stage).glob("*"):
                if segment in ("", params_of(folder).get("segment", "")):
                    shutil.rmtree(folder)
        return Whole(self.file, store, self.server)

    @property
    def settings(self):
        """Settings to read the store with."""
        return Settings(store=self.store, workers=0)

    def entries(self, stage):
        """Entries of a stage in the records of runs, the oldest first."""
        records = [json.loads(path.read_text()) for path in sorted((self.store / "runs").glob("*.json"))]
        return [entry for record in records for entry in record["stages"] if entry["stage"] == stage]

    def artifact(self, stage, index=-1):
        """An artifact of a stage, of its last entry in the records of runs."""
        name, _, key = self.entries(stage)[index]["artifact"].partition("/")
        return Store(self.store).load_artifact(name, key)

    def tables(self, stage, index=-1):
        """The tables of all parts of an artifact, by label."""
        return {label: read_columns(path) for label, path in self.paths(stage, index).items()}

    def paths(self, stage, index=-1):
        """The files of all parts of an artifact, by label."""
        parts = self.artifact(stage, index).parts
        return {part.label: Store(self.store).part_path(stage, part.key) for part in parts}

    def table(self, stage, index=-1):
        """All parts as one table."""
        return pa.concat_tables(list(self.tables(stage, index).values()))

    def folder(self, stage, index=-1):
        """The folder of an artifact that has one."""
        return Store(self.store).folder_path(stage, self.artifact(stage, index).parts[0].key)

    def training(self, segment):
        """The folder of one of the trainings."""
        stage = "finetune" if segment == "finetune" else "pretrain"
        folders = (self.store / "folders" / stage).glob("*")
        return next(folder for folder in folders if params_of(folder).get("segment") == segment)


def made_once(folder, make):
    """A folder that one of several processes fills; the others wait until it is done."""
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            make(folder)
            (folder / "done").touch()
    return folder


def copy_store(source, target):
    """Copy a store by hard links, because what is in it is never changed in place."""
    for name in LASTING:
        shutil.copytree(source / name, target / name, copy_function=os.link)


ASKED_FOR = {  # stages that a recipe has only where it asks for them
    "check_declared",
    "count_lines",
    "filter_urls",
    "measure_line_languages",
    "measure_toxicity",
    "read_declared",
    "score_with_model",
    "set_aside_references",
    "train_score_head",
}


def contents(store, *, without=()):
    """Keys and digests of all that is in a store's files; logs, which say how it went, are left out."""
    return {
        name: {file: digest for file, digest in held.items() if not file.startswith("logs/")}
        for name, held in snapshot(store).items()
        if name.split("/")[1] not in without
    }


def params_of(folder):
    """The params of the job that made a folder, from its artifact's manifest."""
    manifests = (folder.parents[2] / "artifacts" / folder.parent.name).glob("*.json")
    read = [json.loads(path.read_text()) for path in manifests]
    return next(manifest["params"] for manifest in read if folder.name in {part["key"] for part in manifest["parts"]})


def events_of(folder):
    """What happened in a training, as (event, step)."""
    rows = pq.read_table(folder / "logs" / "events.parquet").to_pylist()
    return [(row["event"], row["step"]) for row in rows]


def end_in_training(words, store, signal, *, seed, steps):
    """Start the command, and send it a signal at a seeded step of a training; its exit code, and the processes it had.

    Returns when the command itself has ended, at most 15 s later. Asserts that a worker and both ranks were there.
    """
    step = random.Random(seed).choice(steps)
    with (store / "said").open("wb") as said:
        command = subprocess.Popen(words, env=environment(), stdout=said, stderr=said, cwd=HELPERS)
    try:
        wait_until(lambda: steps_done(store) >= 1 or command.poll() is not None, 120, pause=0.005)
        processes = {process: " ".join(process.cmdline()) for process in workers_of(command.pid)}  # some steps' time
        reached = wait_until(lambda: steps_done(store) >= step or command.poll() is not None, 120, pause=0.005)
    finally:
        command.send_signal(signal)
    code = command.wait(timeout=15)
    assert reached, (store / "said").read_text()
    assert sum("polylm.model.rank" in words for words in processes.values()) == 2 < len(processes), processes
    return code, list(processes)


def steps_done(store):
    """Steps of the training that runs in a store."""
    logs = list((store / "work").glob("*/scratch/training/metrics.jsonl"))
    return max((path.read_bytes().count(b"\n") for path in logs if path.exists()), default=0)
