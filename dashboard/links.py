"""Addresses that several pages lead to: a stage of a run, and the documents behind a number."""

from typing import Any

from polylm.dashboard.view import url
from polylm.tasks.maintenance.run_records import Entry, Run

NO_LABEL = "no label"  # of ?language=: documents that have none


def stage_url(run: Run, entry: Entry, **query: Any) -> str:
    """The page of a stage; its artifact is in the address only where the run has several of the stage."""
    several = len(run.entries(entry.stage)) > 1
    return url("run", run.id, "stage", entry.stage, artifact=key_of(entry) if several else "", **query)


def key_of(entry: Entry) -> str:
    """The beginning of the key of what a stage made, as `?artifact=` has it."""
    return entry.artifact.partition("/")[2]


def documents_url(
    run: Run, *, language: str | None = None, gate: str = "", reason: str = "", source: str = "", fate: str = "",
    alone: bool = False,
) -> str:  # fmt: skip
    """The search for the documents that a number counts.

    `language` "" is of those without a label, None of any. `gate` and `reason` are the first that reject a document; with
    `alone` those that reject it whatever others say.
    """
    named = NO_LABEL if language == "" else language
    told = {"language": named, "gate": gate, "alone": "1" if alone else "", "reason": reason, "source": source}
    return url("run", run.id, "search", fate=fate, **told)
