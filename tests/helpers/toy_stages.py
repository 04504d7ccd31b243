"""Small stages of every kind and a flow of them, in a module that worker processes can import.

Stages that must be seen from outside (which worker had them, how often) leave marks in the folder `$TOY_FOLDER`.
"""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from polylm.tasks.rules import at_least, lookup, one_of
from polylm.tasks.run import run
from polylm.tasks.session import flow
from polylm.tasks.stage import Field, NoParams, Params, files, gate, measure

TEXTS = (
    *("one", "two words", "three short words", "", "bad: not a document", "día", "สวัสดี", "x" * 40),
    *("naïve café", "两个词", "ends\nhere", "a b c d e f g", "same", "same", "\u200b", "tail of the part"),
)


@dataclass(frozen=True)
class Piece:
    """What stands for an input file: a source's name, a file's name, and the texts in it."""

    source: str
    label: str
    texts: tuple

    @property
    def identity(self):
        return list(self.texts)


class Pieces:
    def __init__(self, *pieces):
        self._pieces = pieces

    def pieces(self, params, store):
        return self._pieces


def toy_pieces(count=3, source="toy"):
    """Files with the same kinds of text, no two alike."""
    return [Piece(source, f"{source}:{i}", tuple(f"{text}{' .' * i}" for text in TEXTS)) for i in range(count)]


class ReadParams(Params):
    part_rows: int = Field(5, ge=1, description="Most documents of a part.")


@files(reads=[], writes={"text": pa.string(), "label": pa.dictionary(pa.int8(), pa.string())}, each="file")
def read(piece: Piece, params: ReadParams):
    """Cut a piece into parts; a text that begins with "bad" is a bad record."""
    good = [text for text in piece.texts if not text.startswith("bad")]
    for start in range(0, len(good), params.part_rows):
        texts = good[start : start + params.part_rows]
        labels = ["short" if len(text) < 8 else "long" for text in texts]
        yield pa.table({"text": texts, "label": pa.array(labels).dictionary_encode()})
    bad = [text for text in piece.texts if text.startswith("bad")]
    return pa.table(
        {"reason": pa.array(["begins with bad"] * len(bad), pa.string()), "found": pa.array(bad, pa.string())}
    )


@measure(reads=["text"], writes={"chars": pa.uint32(), "vowels": pa.uint32()})
def count(rows, params: NoParams):
    """Count characters and vowels."""
    texts = rows["text"].to_pylist()
    return {"chars": [len(text) for text in texts], "vowels": [sum(text.count(v) for v in "aeiou") for text in texts]}


@measure(reads=["text", "chars"], writes={"words": pa.uint32(), "seen": pa.bool_()})
def count_words(rows, params: NoParams):
    """Count words, of the rows that are shown."""
    words = [len(text.split()) for text in rows["text"].to_pylist()]
    return {"words": words, "seen": [True] * len(words)}


class LabelParams(Params):
    labels: tuple[str, ...] = Field(("short", "long"), description="Labels that may stay.")


@gate(reads=["label"])
def keep_labels(rows, params: LabelParams):
    """Reject labels that are not wanted."""
    return {"unwanted_label": one_of(rows["label"], params.labels)}


class FloorParams(Params):
    lowest: float = Field(0.0, ge=0, description="No floor is below.")


@files(reads=["label", "chars"], writes={"label": pa.string(), "floor": pa.float64()}, cheap=True)
def fit_floors(corpus, params: FloorParams) -> pa.Table:
    """Fit each label's lowest number of characters: half of its mean."""
    sums = {}
    for rows in corpus:
        for label, chars in zip(rows["label"].to_pylist(), rows["chars"].to_pylist(), strict=True):
            count, total = sums.get(label, (0, 0))
            sums[label] = count + 1, total + chars
    floors = {label: max(params.lowest, total / count / 2) for label, (count, total) in sorted(sums.items())}
    return pa.table({"label": list(floors), "floor": list(floors.values())})


class KeepParams(Params):
    min_words: dict[str, float] = Field({"short": 0.0, "long": 1.0}, description="Fewest words by label.")


@gate(reads=["label", "chars", "words"])
def keep_long(rows, params: KeepParams, floors: pa.Table):
    """Reject texts that are short for their label."""
    fitted = dict(zip(floors["label"].to_pylist(), floors["floor"].to_pylist(), strict=True))
    return {
        "few_chars": at_least(rows["chars"], lookup(rows["label"], fitted)),
        "few_words": at_least(rows["words"], lookup(rows["label"], params.min_words)),
    }


@files(reads=["text"], writes={"weight": pa.uint8()}, each="part", aligned=True)
def choose(rows, params: NoParams) -> pa.Table:
    """Choose what no gate rejected."""
    return pa.table({"weight": pa.array(np.ones(len(rows["text"]), np.uint8))})


class BandParams(Params):
    bands: int = Field(3, ge=1, description="Bands.")

    def jobs(self):
        return [f"band-{i}" for i in range(self.bands)]


@files(reads=["chars", "doc"], writes={"doc": pa.int64()}, each="band")
def join(corpus, params: BandParams, job: str) -> pa.Table:
    """List the documents of one band."""
    band = params.jobs().index(job)
    docs = [doc for rows in corpus for doc in rows["doc"].to_pylist() if doc % params.bands == band]
    return pa.table({"doc": pa.array(docs, pa.int64())})


@files(reads=["text"], writes={"word": pa.string()})
def collect_words(corpus, params: NoParams) -> pa.Table:
    """Collect the words of the texts that are shown: costly, as training a tokenizer is."""
    words = {word for rows in corpus for text in rows["text"].to_pylist() for word in text.split()}
    return pa.table({"word": pa.array(sorted(words), pa.string())})


@measure(reads=["text"], writes={"ids": pa.list_(pa.uint32())})
def encode(rows, params: NoParams, words: pa.Table):
    """Give every word its number."""
    ids = {word: i for i, word in enumerate(words["word"].to_pylist())}
    return {"ids": [[ids.get(word, len(ids)) for word in text.split()] for text in rows["text"].to_pylist()]}


@files()
def write_model(params: NoParams, words: pa.Table, bands: dict, work):
    """Write a folder; goes on from what an earlier try left in scratch."""
    mark("write_model begins")
    (work.scratch / "half").write_text("half")
    time.sleep(float(os.environ.get("TOY_SLEEP", "0")))
    (work.out / "sub").mkdir()
    (work.out / "sub" / "words.txt").write_text("\n".join(words["word"].to_pylist()))
    (work.out / "bands.txt").write_text("\n".join(sorted(bands)))
    mark("write_model ends")
    return {"words": words.num_rows}


@files()
def tell_steps(params: NoParams, work):
    """Say how far it is, and end when that was heard."""
    work.tell(3, 10, "loss 2.500")
    heard = Path(os.environ["TOY_FOLDER"]) / "mark-heard"
    deadline = time.monotonic() + 60
    while not heard.exists():
        assert time.monotonic() < deadline, "nobody heard it"
        time.sleep(0.05)


@measure(reads=["text"], writes={"met": pa.uint8()})
def meet(rows, params: NoParams):
    """End only when `$TOY_MEET` worker processes have a job of this stage at once."""
    folder, wanted = Path(os.environ["TOY_FOLDER"]), int(os.environ.get("TOY_MEET", "2"))
    (folder / f"here-{os.getpid()}").touch()
    deadline = time.monotonic() + 60
    while len(list(folder.glob("here-*"))) < wanted:
        assert time.monotonic() < deadline, f"fewer than {wanted} workers came"
        time.sleep(0.01)
    return {"met": np.ones(len(rows["text"]), np.uint8)}


_held: list[bytes] = []


@measure(reads=["text"], writes={"held": pa.uint64()})
def hold(rows, params: NoParams):
    """Keep 300 MB for good, as a library keeps its dictionary."""
    _held.append(bytes(os.urandom(1) * (300 << 20)))
    return {"held": np.full(len(rows["text"]), len(_held[-1]), np.uint64)}


class FailParams(Params):
    mistakes: tuple[str, ...] = Field((), description="Texts that are a user's mistake.")
    crashes: tuple[str, ...] = Field((), description="Texts that are ours.")
    deaths: tuple[str, ...] = Field((), description="Texts that kill the process.")
    stumbles: tuple[str, ...] = Field((), description="Texts at which the machine fails.")
    times: int = Field(0, ge=0, description="How often it does.")


@measure(reads=["text"], writes={"well": pa.bool_()})
def fail(rows, params: FailParams):
    """Fail at some texts, in the ways that there are."""
    for text in rows["text"].to_pylist():
        mark("tried")
        if text in params.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        if text in params.mistakes:
            raise ValueError(f"{text!r} cannot be measured")
        if text in params.crashes:
            raise KeyError(text)
        if text in params.stumbles and mark(f"stumbled at {text}") <= params.times:
            raise OSError(5, "the disk went away")
    return {"well": [True] * len(rows["text"])}


@measure(reads=["text"], writes={"share": pa.float32(), "number": pa.float64()})
def thirds(rows, params: NoParams):
    """Floats with more digits than are kept."""
    share = np.arange(len(rows["text"])) / 3
    return {"share": share, "number": share}


@measure(reads=["text"], writes={"maybe": pa.float64(), "name": pa.string()})
def sometimes(rows, params: NoParams):
    """Measure only the texts with letters; the others are null."""
    known = [any(c.isalpha() for c in text) for text in rows["text"].to_pylist()]
    return {"maybe": [1.0 if k else None for k in known], "name": ["x" if k else None for k in known]}


class BoundParams(Params):
    floor: float = Field(0.5, description="Lowest value.")


@gate(reads=["maybe", "name"])
def judge_maybe(rows, params: BoundParams):
    """Judge what was measured."""
    return {"low": at_least(rows["maybe"], params.floor), "odd_name": one_of(rows["name"], ["x"])}


@gate(reads=["chars", "vowels"])
def divide(rows, params: NoParams):
    """Divide without a guard: an empty text gives NaN where no column is null."""
    with np.errstate(invalid="ignore"):
        return {"few_vowels": at_least(rows["vowels"] / rows["chars"], 0.0)}


@measure(reads=["text"], writes={"chars": pa.uint32()})
def too_few(rows, params: NoParams):
    """Return fewer values than rows."""
    return {"chars": [1] * (len(rows["text"]) - 1)}


@measure(reads=["text"], writes={"chars": pa.uint32()})
def wrong_columns(rows, params: NoParams):
    """Return a column that was not declared, and not the one that was."""
    return {"letters": [1] * len(rows["text"])}


@flow
def toy_flow(pieces, keep=None, labels=None):
    """Every kind of stage at every grain, up to a folder."""
    docs = run(read, ReadParams(), Pieces(*pieces))
    counts = run(count, NoParams(), docs)
    wanted = (run(keep_labels, labels or LabelParams(), docs),)
    words = run(count_words, NoParams(), docs, counts, where=wanted)
    floors = run(fit_floors, FloorParams(), docs, counts)
    gates = (*wanted, run(keep_long, keep or KeepParams(), docs, counts, words, floors))
    chosen = run(choose, NoParams(), docs, where=gates)
    vocabulary = run(collect_words, NoParams(), docs, where=gates)
    run(encode, NoParams(), docs, vocabulary, where=gates)
    run(write_model, NoParams(), vocabulary, run(join, BandParams(), docs, counts))
    return chosen


def mark(name):
    """Count something that happened in any process; returns how often it has."""
    if "TOY_FOLDER" not in os.environ:
        return 0
    path = Path(os.environ["TOY_FOLDER"]) / f"mark-{name}"
    with path.open("a") as file:
        file.write(".")
    return path.stat().st_size
