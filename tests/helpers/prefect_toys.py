"""Toy stages and flows for the Prefect tests, in a module that workers and ranks can import.

Every job notes that it ran in the folder `TOY_FOLDER`, and asks there how often it ran before.
"""

import os
import sys
from pathlib import Path

import pyarrow as pa

from polylm.model import launch
from polylm.tasks.rules import at_most
from polylm.tasks.run import Artifact, run
from polylm.tasks.session import flow
from polylm.tasks.stage import Columns, Corpus, NoParams, Rows, Workspace, files, gate, measure

OWN_TRIES = 4  # of a per-part job within one attempt of its stage: `tasks.pool.RETRY_DELAYS` and the first


def note(name: str) -> int:
    """Write down that `name` ran; returns how often it did before."""
    path = Path(os.environ["TOY_FOLDER"]) / name
    with path.open("a") as file:
        file.write("ran\n")
    return times(path) - 1


def times(path: Path) -> int:
    """How often what has this file ran."""
    return len(path.read_text().splitlines()) if path.exists() else 0


@measure(reads=["text"], writes={"words": pa.uint32()}, version=1)
def count_words(rows: Rows, params: NoParams) -> Columns:
    """Count words; a part with the word "unsteady" meets a bad disk for longer than a job's own tries."""
    texts = rows["text"].to_pylist()
    before = note(f"count_words-{texts[0].split()[0]}")
    if "unsteady" in " ".join(texts) and before < OWN_TRIES:
        raise OSError("the disk did not answer")
    return {"words": [len(text.split()) for text in texts]}


@measure(reads=["text"], writes={"imported": pa.bool_()}, version=1)
def look_for_prefect(rows: Rows, params: NoParams) -> Columns:
    """Say whether this worker has imported Prefect."""
    return {"imported": ["prefect" in sys.modules] * len(rows["text"])}


@measure(reads=["text"], writes={"number": pa.uint32()}, version=1)
def read_number(rows: Rows, params: NoParams) -> Columns:
    """Fail as a user's mistake makes a stage fail."""
    note("read_number")
    raise ValueError(f"found {rows['text'][0].as_py().split()[0]!r}, expected a number: mend the file")


@gate(reads=["words"])
def filter_short(rows: Rows, params: NoParams) -> dict[str, object]:
    """Keep short texts."""
    return {"too_long": at_most(rows["words"], 4.0)}


@files(reads=["words"], writes={"total": pa.uint64()})
def total(corpus: Corpus, params: NoParams) -> pa.Table:
    """Add up the words of the whole corpus."""
    return pa.table({"total": pa.array([sum(sum(rows["words"].to_pylist()) for rows in corpus)], pa.uint64())})


@files()
def train_toy(params: NoParams, totals: pa.Table, *, work: Workspace) -> None:
    """Train with one rank, which is preempted the first time."""
    note("train_toy")
    job = work.scratch / "job.json"
    job.write_text("{}")
    launch.launch(job, ranks=1, logs=work.scratch / "logs", module="prefect_toy_rank")
    (work.out / "model.txt").write_text(f"trained on {totals['total'][0].as_py()} words\n")


@flow
def build_words(docs: Artifact) -> Artifact:
    """From documents to words."""
    words = run(count_words, NoParams(), docs)
    short = run(filter_short, NoParams(), words)
    run(look_for_prefect, NoParams(), docs, where=[short])
    return words


@flow
def train_on_words(words: Artifact) -> Artifact:
    """From words to a model."""
    return run(train_toy, NoParams(), run(total, NoParams(), words))


@flow
def build_numbers(docs: Artifact) -> Artifact:
    """From documents to numbers, which they do not hold."""
    return run(read_number, NoParams(), docs)
