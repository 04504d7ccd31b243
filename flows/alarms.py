"""Alarms: rules over counts that stop a run before a disaster, and what is done about one: fail, warn or ask.

They are looked at in the flow, right after the gates that they watch and before the costly stages behind those. What an
alarm was and who let it pass with which reason is in the run's record and in the manifest of the artifact that it is about.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from polylm.flows.history import Counts, artifact_of, previous_run, read_counts
from polylm.tasks import keys
from polylm.tasks.run import Session, current
from polylm.tasks.stage import Field, Params
from polylm.tasks.store import Artifact

Action = Literal["fail", "warn", "ask"]


class AlarmParams(Params):
    """No stage reads these, so a changed bound re-makes nothing."""

    action: Action = Field(
        "fail", description="What an alarm does: stop the run, only say so, or stop it until somebody approves."
    )
    max_source_loss: float = Field(
        0.95, gt=0, le=1, description="Share of a source's documents that one gate may reject.", source="ours"
    )
    max_label_shift: float = Field(
        0.10,
        gt=0,
        le=1,
        description="Change of a language's share of all documents against the last run of the same sources.",
        source="ours",
    )
    min_documents: int = Field(
        100,
        ge=1,
        description="Sources, languages and corpora with fewer are not watched: their shares say nothing.",
        source="ours",
    )


@dataclass(frozen=True)
class Alarm:
    """One bound that counts have passed; the numbers are those of its message."""

    rule: str
    artifact: str  # stage/key of what was counted
    subject: str  # the source or the language; empty for the corpus
    value: float
    bound: float
    message: str

    @property
    def id(self) -> str:
        """The same for the same counts in a later run, so that an approval holds there and nowhere else."""
        return keys.digest([self.rule, self.artifact, self.subject, self.value])[:16]


class AlarmsRaised(ValueError):
    """A run was stopped by alarms; `asked`: an approval starts it again from there."""

    def __init__(self, alarms: Sequence[Alarm], run: str, *, asked: bool) -> None:
        self.alarms, self.run, self.asked = tuple(alarms), run, asked
        self.run_state = "awaiting approval" if asked else "alarm"
        way_out = "waits for an approval" if asked else "--on-alarm warn goes on, --on-alarm ask waits for an approval"
        super().__init__(
            "\n".join([*(f"alarm: {alarm.message}" for alarm in alarms), f"the run stops here: {way_out}"])
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _raised, (self.alarms, self.run, self.asked)


def _raised(alarms: Sequence[Alarm], run: str, asked: bool) -> AlarmsRaised:
    return AlarmsRaised(alarms, run, asked=asked)


@dataclass(frozen=True)
class Watch:
    """What one run does about alarms. A plan, and a run past its `--until`, only note them."""

    action: Action | None = None  # whatever the recipe says
    approved: Mapping[str, str] = field(default_factory=dict)  # the reason by id of an alarm
    ask: Callable[[Sequence[Alarm]], str | None] | None = None  # a person at hand: the reason, None for no

    def gates(self, params: AlarmParams, gates: Iterable[Artifact]) -> None:
        """A source that loses more than its share at one gate."""
        self._found(params, [alarm for gate in gates if gate.built for alarm in _lost_sources(params, gate)])

    def labels(self, params: AlarmParams, labels: Artifact) -> None:
        """A language whose share of the documents is not what it was in the last run."""
        here = current()
        before = previous_run(here) if labels.built else None
        then = artifact_of(here.store, before, labels.stage) if before else None
        if then is not None:
            counts = read_counts(here.store, then), read_counts(here.store, labels)
            self._found(params, _shifts(params, labels.ref, *counts))

    def survivors(self, params: AlarmParams, wanted: Sequence[str], labels: Artifact, survivors: Artifact) -> None:
        """No document at all after the gates, or none of a wanted language that had some."""
        if not (labels.built and survivors.built):
            return
        store = current().store
        before, after = read_counts(store, labels), read_counts(store, survivors)
        self._found(params, _gone(params, survivors.ref, {name: before.get(name, 0) for name in wanted}, before, after))

    def _found(self, params: AlarmParams, alarms: Sequence[Alarm]) -> None:
        here = current()
        known = {entry["id"] for entry in here.record.setdefault("alarms", [])}
        alarms = [alarm for alarm in alarms if alarm.id not in known]
        action = self.action or params.action
        if not alarms or here.reached:
            return
        waiting = [alarm for alarm in alarms if alarm.id not in self.approved]
        reason = self.ask(waiting) if waiting and action == "ask" and self.ask and here.mode == "run" else None
        passed = {**self.approved, **{alarm.id: reason for alarm in waiting if reason}}
        for alarm in alarms:
            _note(here, alarm, action, passed.get(alarm.id))
        waiting = [alarm for alarm in waiting if alarm.id not in passed]
        if waiting and here.mode == "run" and action != "warn":
            raise AlarmsRaised(waiting, here.record["id"], asked=action == "ask")


def _note(here: Session, alarm: Alarm, action: Action, reason: str | None) -> None:
    """Say it, and write it into the run's record and the manifest of the artifact that it is about."""
    entry = {"id": alarm.id, **asdict(alarm), "action": action}
    entry["decision"] = {"approved": True, "reason": reason} if reason else None
    here.record["alarms"].append(entry)
    here.observer.notice(f"alarm: {alarm.message}{f' (approved: {reason})' if reason else ''}")
    if here.mode == "run":
        here.save()
    if entry["decision"]:
        here.store.annotate_manifest(alarm.artifact, {"alarms": [entry]})


def _lost_sources(params: AlarmParams, gate: Artifact) -> list[Alarm]:
    documents: Counts = {}
    rejected: Counts = {}
    for part in gate.parts:
        assert part.record is not None
        source = part.label.rpartition(".")[0]
        documents[source] = documents.get(source, 0) + part.record.rows
        rejected[source] = rejected.get(source, 0) + sum(part.record.reasons.values())
    return [
        Alarm(
            "source_lost",
            gate.ref,
            source,
            round(rejected[source] / count, 4),
            params.max_source_loss,
            f"{gate.stage} rejects {rejected[source]:,} of {count:,} documents of the source {source}, "
            f"more than {params.max_source_loss:.0%} (alarms.max_source_loss)",
        )
        for source, count in documents.items()
        if count >= params.min_documents and rejected[source] > params.max_source_loss * count
    ]


def _shifts(params: AlarmParams, ref: str, before: Counts, now: Counts) -> list[Alarm]:
    old, new = max(1, sum(before.values())), max(1, sum(now.values()))
    if min(old, new) < params.min_documents:
        return []
    shares = {name: (before.get(name, 0) / old, now.get(name, 0) / new) for name in sorted({*before, *now})}
    return [
        Alarm(
            "label_shift",
            ref,
            name,
            round(share - last, 4),
            params.max_label_shift,
            f"{share:.1%} of the documents are labelled {name}, {last:.1%} were in the last run: a shift of more than "
            f"{params.max_label_shift:.0%} (alarms.max_label_shift)",
        )
        for name, (last, share) in shares.items()
        if abs(share - last) > params.max_label_shift
    ]


def _gone(params: AlarmParams, ref: str, wanted: Counts, before: Counts, after: Counts) -> list[Alarm]:
    total = sum(before.values())
    if total >= params.min_documents and not sum(after.values()):
        return [Alarm("no_survivors", ref, "", 0, 1, f"the gates reject all {total:,} documents")]
    return [
        Alarm("language_gone", ref, name, 0, 1, f"the gates reject all {count:,} documents in {name}")
        for name, count in wanted.items()
        if count >= params.min_documents and not after.get(name)
    ]
