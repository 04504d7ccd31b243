"""What tells stages of one name in a run apart: the params in which they differ, else what they read; no name is known here."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from polylm.dashboard.links import stage_url
from polylm.dashboard.queries import Queries
from polylm.dashboard.recipe_fields import leaves
from polylm.dashboard.view import words
from polylm.tasks.maintenance.run_records import Entry, Run
from polylm.tasks.store import StoreError

MOST_CHARS = 40  # of what stands beside a stage's name


def apart(here: Queries, run: Run) -> dict[str, str]:
    """By artifact, what stands beside the name of a stage that a run has several times; the others are not in it."""
    by_stage: dict[str, dict[str, Entry]] = {}
    for entry in run.stages:
        by_stage.setdefault(entry.stage, {})[entry.artifact] = entry
    told: dict[str, str] = {}
    for entries in by_stage.values():
        if len(entries) > 1:
            told |= _told(here, list(entries.values()), told)
    return told


def titled(entry: Entry, told: Mapping[str, str]) -> str:
    """A stage's name as people read it, with what tells it apart."""
    which = told.get(entry.artifact)
    return f"{words(entry.stage)}: {words(which)}" if which else words(entry.stage)


def siblings(here: Queries, run: Run, entry: Entry) -> list[tuple[str, str, bool]]:
    """All stages of a name, where a run has several: what tells each apart, its page, and whether it is this one."""
    entries = list({one.artifact: one for one in run.entries(entry.stage)}.values())
    if len(entries) < 2:
        return []
    told = apart(here, run)
    return [(words(told[one.artifact]), stage_url(run, one), one.artifact == entry.artifact) for one in entries]


def _told(here: Queries, entries: Sequence[Entry], known: Mapping[str, str]) -> dict[str, str]:
    numbers = [str(number) for number in range(1, len(entries) + 1)]
    found = _by_params([_params(here, entry) for entry in entries]) or _by_reads(entries, known) or numbers
    return {entry.artifact: one for entry, one in zip(entries, found, strict=True)}


def _params(here: Queries, entry: Entry) -> Mapping[str, Any]:
    """By dotted path; none where the manifest is gone or damaged."""
    try:
        return dict(leaves(here.manifest(entry).params)) if here.has(entry) else {}
    except StoreError:
        return {}


def _by_params(params: Sequence[Mapping[str, Any]]) -> list[str]:
    """The value of a param that all of them have and no two alike: a name rather than a number, and the shortest."""
    shared = [path for path in params[0] if all(path in one for one in params)]
    ways = []
    for path in shared:
        values = [one[path] for one in params]
        if len({json.dumps(value, sort_keys=True) for value in values}) < len(values):
            continue
        names = [_name(value) for value in values]
        told = names if all(names) else [f"{path} {json.dumps(value, ensure_ascii=False)}" for value in values]
        if max(map(len, told)) <= MOST_CHARS:
            ways.append((not all(names), sum(map(len, told)), told))
    return min(ways)[2] if ways else []


def _name(value: Any) -> str:
    """A text, or a list of texts, as it is; "" of anything else."""
    several = value if isinstance(value, list) else [value]
    return ", ".join(several) if several and all(isinstance(one, str) for one in several) else ""


def _by_reads(entries: Sequence[Entry], known: Mapping[str, str]) -> list[str]:
    """The stages that one reads and not all of them do."""
    common = set(entries[0].reads).intersection(*(entry.reads for entry in entries))
    own = [", ".join(_read(ref, known) for ref in entry.reads if ref not in common) for entry in entries]
    told = [one and f"from {one}" for one in own]
    return told if all(told) and len(set(told)) == len(told) else []


def _read(ref: str, known: Mapping[str, str]) -> str:
    stage = ref.partition("/")[0]
    return f"{stage} {known[ref]}" if ref in known else stage
