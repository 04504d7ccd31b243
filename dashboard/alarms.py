"""The alarms of a run as they are shown: what was decided about each, and where its evidence is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polylm.dashboard.funnel import Funnel, gates_of
from polylm.dashboard.links import documents_url, stage_url
from polylm.dashboard.queries import Queries
from polylm.tasks.maintenance.run_records import Entry, Run

SHIFT = "label_shift"  # the rule that is about labels as they were found, not about what gates left of them


@dataclass(frozen=True)
class Alarm:
    """An alarm of a run's record; `decision` is approved, refused, waiting (for one), or "" where none was asked for."""

    rule: str
    subject: str  # a source, where a gate alarmed, else a language; "" for the corpus
    message: str
    value: float | None
    bound: float | None
    action: str
    artifact: str  # stage/key of what was counted
    decision: str
    reason: str  # of the decision

    @property
    def stage(self) -> str:
        return self.artifact.partition("/")[0]

    @property
    def is_share(self) -> bool:
        """Whether its numbers are shares, as all are but those of what is gone, where none is left of at least one."""
        return self.value is not None and self.bound is not None and self.bound < 1


@dataclass(frozen=True)
class Evidence:
    """Where an alarm can be looked into: the page of a stage, and the documents; "" where there is none."""

    alarm: Alarm
    stage: str
    stage_href: str
    documents_href: str
    is_of_gate: bool  # it counts what one gate alone rejects


def alarms_of(run: Run) -> list[Alarm]:
    """The alarms of a run, whatever its record lacks."""
    return [_alarm(told, run.state) for told in run.alarms]


def without_evidence(run: Run) -> list[Evidence]:
    """Every alarm, where nothing that it counts can be read."""
    return [Evidence(alarm, "", "", "", False) for alarm in alarms_of(run)]


def evidence_of(here: Queries, run: Run, funnel: Funnel | None) -> list[Evidence]:
    """Every alarm with links to a stage, opened at its subject, and to the documents that it counts."""
    gates = gates_of(here, run)
    return [_evidence(run, gates, funnel, alarm) for alarm in alarms_of(run)]


def alarm_at(run: Run, entry: Entry) -> Alarm | None:
    """The first alarm about what a stage made."""
    return next((alarm for alarm in alarms_of(run) if alarm.artifact == entry.artifact), None)


def other_errors(run: Run) -> str:
    """A run's error without the lines that its alarms say already; none once it was decided, which they say too."""
    if run.state in ("approved", "refused"):
        return ""
    said = {f"alarm: {alarm.message}" for alarm in alarms_of(run)}
    return "\n".join(line for line in run.error.splitlines() if line not in said)


def _alarm(told: Mapping[str, Any], state: str) -> Alarm:
    given = told.get("decision")
    waits = "waiting" if told.get("action") == "ask" and state == "awaiting approval" else ""
    decided = given if isinstance(given, Mapping) else {}
    return Alarm(
        **{name: str(told.get(name) or "") for name in ("rule", "subject", "message", "action", "artifact")},
        value=_number(told.get("value")),
        bound=_number(told.get("bound")),
        decision=("approved" if decided.get("approved") else "refused") if decided else waits,
        reason=str(decided.get("reason") or ""),
    )


def _number(value: Any) -> float | None:
    try:
        known = isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        known = False
    return float(value) if known else None


def _evidence(run: Run, gates: Sequence[Entry], funnel: Funnel | None, alarm: Alarm) -> Evidence:
    gate = next((one for one in gates if one.artifact == alarm.artifact), None)
    if gate is not None:
        documents = documents_url(run, gate=gate.stage, source=alarm.subject, alone=True)
        return Evidence(alarm, gate.stage, stage_url(run, gate, source=alarm.subject), documents, True)
    if alarm.rule == SHIFT:
        found = run.entries("identify_language")
        stage_href = stage_url(run, found[-1], language=alarm.subject) if found else ""
        documents = documents_url(run, language=alarm.subject) if alarm.subject else ""
        return Evidence(alarm, "identify_language", stage_href, documents, False)
    named = alarm.subject or None
    documents = documents_url(run, language=named, fate="rejected")
    worst = _worst(gates, funnel, named)
    if worst is None:
        return Evidence(alarm, "", "", documents if gates else "", False)
    return Evidence(alarm, worst.stage, stage_url(run, worst, language=named), documents, False)


def _worst(gates: Sequence[Entry], funnel: Funnel | None, language: str | None) -> Entry | None:
    """The gate that took most of a language, or of all."""
    lost = [(funnel.total(language, gate=gate.stage).documents, gate) for gate in gates] if funnel else []
    most = max(lost, key=lambda one: one[0], default=None)
    return most[1] if most and most[0] else None
