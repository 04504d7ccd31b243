"""A store whose every text of others attacks: a real run over hostile documents, and runs by hand of all that follows them."""

import json
from itertools import cycle

import pyarrow as pa
import pyarrow.parquet as pq
from attacks import MARKUP, SECRET, STORED, sql
from made_store import (
    MadeStore,
    curriculum,
    evaluated,
    evaluation,
    figure,
    instruction,
    instructions,
    journal,
    plan_row,
    trained,
)
from samples import ODD_TEXTS, call, command, third_records

from polylm.tasks.corpus.language import want_languages
from polylm.tasks.maintenance.files import read_json, write_json
from polylm.tasks.stage import REASON

LINE = 1_000_000  # characters of one line
ORDINARY = 60  # documents of the sample among the hostile ones, so that gates have something to keep
NAMES = ("id", "url", "date", "licence", "kind", "lang_declared", "title")
EVERYTHING = "".join(MARKUP)


def make_hostile_store(folder):
    """The store; beside it lies a secret in three formats that no answer may hold."""
    (folder / "canary.txt").write_text(f"root:x:{SECRET}\n")
    (folder / "canary.json").write_text(json.dumps({"state": SECRET, "id": SECRET}))
    pq.write_table(pa.table({"text": [SECRET], "id": [SECRET]}), folder / "canary.parquet")
    file = folder / '"><pwned src=x onerror=pwned()>{{1337*1009}}.jsonl'
    file.write_bytes(b"".join(_lines()))
    words = command("run", "corpus", "--set", _source(file), "--store", folder / "store", "--workers", 0)
    more = ["--set", "quality_models.min_reference_bytes=10000", "--set", "ingest.part_rows=60"]
    call([*words, *more, "--on-alarm", "warn", "--no-prefect", "--json"])
    _by_hand(MadeStore(folder / "store"))
    return folder / "store"


def _source(file):
    return "sources=" + json.dumps({"hostile": {"path": str(file)}})


def _lines():
    texts = [*STORED, *sql("/elsewhere"), *ODD_TEXTS, "\ud800 alone", "x" * LINE, "<pwned>" * (LINE // 7), "ا" * LINE]
    for number, (text, other) in enumerate(zip(texts, cycle(STORED), strict=False)):
        for copy in ("", " and once more"):  # near duplicates: clusters have members
            long = f"{text} {_plain(number)}{copy}"
            record = {"text": long, **dict.fromkeys(NAMES, other), other: other, "id": f"{number}{copy}{other}"}
            yield json.dumps(record).encode() + b"\n"
    for record in third_records()[:ORDINARY]:
        yield json.dumps(record).encode() + b"\n"
    yield b'{"text": "\xff\xfe<pwned>"}\n{"text": <pwned>}\n\x00\n["<pwned>"]\n'


def _plain(number):
    """A paragraph that the gates let pass, of its own in every document."""
    words = f"This is an ordinary sentence of document number {number}, and it has the words that a language needs. "
    return words * (2 + number % 3)


def _by_hand(made):
    """Training, instructions, evaluation and documents whose names, labels and notes are hostile."""
    names = list(STORED)
    bad = names[1]
    recipe = {"sources": {bad: EVERYTHING}, bad: {bad: bad}}
    entries = _judged(made, names)
    entries += trained(made)
    plan = [plan_row("stage1", f"{name}/web", 10, warning=name) for name in names[:6]]
    entries.append(curriculum(made, plan))
    tasks = {"en": [instruction("en", i, name if i % 2 else None, instruction=name, input=name, output=name, evidence=name, model=name, text=name) for i, name in enumerate(names)]}  # fmt: skip
    entries.append(instructions(made, tasks))
    journal(made, "en", names)
    export = made.folder("export", lambda work: (work / "config.json").write_text(json.dumps({"a": EVERYTHING})), reads=[entries[-3]["artifact"]])  # fmt: skip
    figures = [figure(name, task=name, language=name, note=name, metric=name) for name in names[:8]]
    entries += [export, evaluation(made, [bad], [export["artifact"]]), evaluated(made, [*figures, figure("base")])]
    alarm = {"rule": bad, "subject": EVERYTHING, "message": EVERYTHING, "value": 1.0, "bound": 0.5, "action": "ask", "artifact": "filter_text/0"}  # fmt: skip
    alarms = [alarm | {"decision": None}, alarm | {"decision": {"approved": True, "reason": EVERYTHING}}]
    made.run(f"by-hand{bad}", entries, recipe=recipe, alarms=alarms)
    made.run("by-hand", entries, recipe={"sources": {}}, alarms=alarms, state=bad, time="20261127T130000000")


def _judged(made, names):
    """Documents whose every column is hostile, with two gates whose reasons are."""
    alone = {name: pa.array(names, pa.string()) for name in ("text", "id", "url", "date", "licence", "kind", "extra")}
    ingest = made.rows("ingest", [pa.table(alone)], source="web")
    chars = pa.array([len(name) for name in names], pa.uint32())
    clean = made.rows(
        "clean", [pa.table({"text": alone["text"], "chars": chars})], reads=[ingest["artifact"]], source="web"
    )
    label, sure = alone["text"].dictionary_encode(), pa.array([0.5] * len(names), pa.float32())
    found = {"language": label, "confidence": sure, "runner_up": label, "runner_up_confidence": sure}
    language = made.rows("identify_language", [pa.table(found)], reads=[clean["artifact"]], source="web")
    gates = {"drop_empty": clean, "want_languages": language}
    verdicts = pa.array([name if i % 2 else None for i, name in enumerate(names)], pa.string())
    verdict = pa.table({REASON: verdicts.cast(pa.dictionary(pa.int8(), pa.string()))})
    judged = [made.rows(gate, [verdict], reads=[of["artifact"]], source="web") for gate, of in gates.items()]
    _write_params(made, judged[1], want_languages.params().model_dump(mode="json"))
    chosen = made.rows("select", [pa.table({"weight": pa.array([1] * len(names), pa.uint8())})], source="web")
    return [ingest, clean, language, *judged, chosen]


def _write_params(made, entry, params):
    (path,) = (made.root / "artifacts" / entry["stage"]).glob(f"{entry['artifact'].partition('/')[2]}*.json")
    write_json(path, read_json(path) | {"params": params})
