"""Alarms: rules over counts that stop a run before a disaster, and what is done about one: fail, warn or ask.

They are looked at in the flow, right after the gates that they watch and before the costly stages behind those. What an
alarm was and who let it pass with which reason is in the run's record and in the manifest of the artifact that it is about.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from polylm.flows.history import Counts, artifact_of, previous_run, read_counts
from polylm.tasks import keys
from polylm.tasks.corpus.reference import set_aside_references
from polylm.tasks.maintenance.files import read_json
from polylm.tasks.session import Session, current
from polylm.tasks.stage import Field, Params
from polylm.tasks.store import Artifact, Store

Action = Literal["fail", "warn", "ask"]
_AT_EACH_GATE = "source_lost"  # the one rule that may raise an alarm about the same thing again and again in a run


class AlarmParams(Params):
    """No stage reads these, so a changed bound re-makes nothing."""

    action: Action = Field(
        "fail", description="What an alarm does: stop the run, only say so, or stop it until somebody approves."
    )
    max_bad_records: float = Field(
        0.5, gt=0, le=1, description="Share of a source's records that may be no documents.", source="ours"
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


@dataclass(frozen=True)
class Decision:
    """Why somebody let an alarm pass; `later_gates`: also for what later gates of the run reject of the same source."""

    reason: str
    later_gates: bool = True

    def recorded(self, rule: str) -> dict[str, Any]:
        """As it stands in records and manifests."""
        wide = {"later_gates": self.later_gates} if rule == _AT_EACH_GATE else {}
        return {"approved": True, "reason": self.reason, **wide}

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> "Decision":
        return cls(told["reason"], later_gates=told.get("later_gates", False))


class AlarmsRaised(ValueError):
    """A run was stopped by alarms; `waits`: it goes on from there as soon as somebody approves."""

    def __init__(self, alarms: Sequence[Alarm], run: str, way_out: str, *, waits: bool = False) -> None:
        self.alarms, self.run, self.way_out, self.waits = tuple(alarms), run, way_out, waits
        self.run_state = "awaiting approval" if waits else "alarm"
        super().__init__("\n".join([*(f"alarm: {alarm.message}" for alarm in alarms), way_out]))

    def __reduce__(self) -> tuple[Any, ...]:
        return _raised, (self.alarms, self.run, self.way_out, self.waits)


def _raised(alarms: Sequence[Alarm], run: str, way_out: str, waits: bool) -> AlarmsRaised:
    return AlarmsRaised(alarms, run, way_out, waits=waits)


@dataclass(frozen=True)
class Watch:
    """What one run does about alarms. A plan, and a run past its `--until`, only note them."""

    action: Action | None = None  # whatever the recipe says
    approved: Mapping[str, Decision] = field(default_factory=dict)  # by id of an alarm
    ask: Callable[[], str | None] | None = None  # a person at hand, who was told: the reason for going on, None for no
    can_wait: bool = False  # somebody will be asked later, and the run started again with the answer

    def records(self, params: AlarmParams, raw: Artifact) -> None:
        """A source of whose records too many are bad: a wrong field, encoding or format. A run knows, a plan does not."""
        here = current()
        if raw.built and here.mode == "run" and not here.reached:
            self._found(params, _bad_sources(params, raw, here.store))

    def gates(self, params: AlarmParams, gates: Iterable[Artifact], references: Collection[str] = ()) -> None:
        """A source that loses more than its share at one gate; `references` are sources that are set aside, as asked for."""
        judging = [gate for gate in gates if gate.built and gate.stage != set_aside_references.name]
        alarms = [alarm for gate in judging for alarm in _lost_sources(params, gate)]
        self._found(params, [alarm for alarm in alarms if alarm.subject not in references])

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
        decisions = {alarm.id: found for alarm in alarms if (found := self._decision(here, alarm))}
        for alarm in alarms:
            here.observer.alarm(f"{alarm.message}{_told(decisions.get(alarm.id))}")
        for alarm in alarms:
            _note(here, alarm, action)
        _decide(here, decisions)
        waiting = [alarm for alarm in alarms if alarm.id not in decisions]
        asks = bool(waiting) and action == "ask" and here.mode == "run"
        if asks and self.ask and (reason := self._asked(here, waiting)):
            _decide(here, {alarm.id: Decision(reason).recorded(alarm.rule) for alarm in waiting})
            return
        if waiting and here.mode == "run" and action != "warn":
            raise AlarmsRaised(waiting, here.record["id"], self._way_out(asks=asks), waits=asks and self.can_wait)

    def _decision(self, here: Session, alarm: Alarm) -> dict[str, Any] | None:
        """One about this very alarm, or one about the same source at an earlier gate of this run that holds for later ones."""
        if alarm.id in self.approved:
            return self.approved[alarm.id].recorded(alarm.rule)
        if alarm.rule == _AT_EACH_GATE:
            for entry in here.record["alarms"]:
                decision = entry["decision"] or {}
                if (entry["rule"], entry["subject"]) == (alarm.rule, alarm.subject) and decision.get("later_gates"):
                    return {"approved": True, "reason": decision["reason"], "of": entry["artifact"]}
        return None

    def _asked(self, here: Session, waiting: Sequence[Alarm]) -> str | None:
        assert self.ask is not None
        if lost := sorted({alarm.subject for alarm in waiting if alarm.rule == _AT_EACH_GATE}):
            here.observer.notice(f"going on holds for what later gates of this run reject of {', '.join(lost)}, too")
        return self.ask()

    def _way_out(self, *, asks: bool) -> str:
        if asks and self.can_wait:
            return "the run waits for an approval"
        if asks and self.ask:
            return "the run stops here: it was not approved"
        nobody = "nobody is at hand who could approve; " if asks else ""
        return f"the run stops here: {nobody}--on-alarm warn goes on, a run of a deployment waits for an approval in Prefect"


def _note(here: Session, alarm: Alarm, action: Action) -> None:
    """Write it into the run's record, before anybody is asked about it."""
    here.record["alarms"].append({"id": alarm.id, **asdict(alarm), "action": action, "decision": None})
    if here.mode == "run":
        here.save()


def _told(decision: Mapping[str, Any] | None) -> str:
    if decision is None:
        return ""
    where = f" at {decision['of'].partition('/')[0]}" if "of" in decision else ""
    return f" (approved{where}: {decision['reason']})"


def _decide(here: Session, decisions: Mapping[str, dict[str, Any]]) -> None:
    """Write down why alarms were passed: in the run's record, and in the manifests of the artifacts that they are about."""
    for entry in here.record["alarms"]:
        if entry["id"] in decisions and not entry["decision"]:
            entry["decision"] = decisions[entry["id"]]
            here.store.annotate_manifest(entry["artifact"], {"alarms": [entry]})
    if here.mode == "run":
        here.save()


def _bad_sources(params: AlarmParams, raw: Artifact, store: Store) -> list[Alarm]:
    good: Counts = {}
    bad: dict[str, Counter[str]] = {}
    for key in read_json(store.manifest_path(raw.stage, raw.key))["jobs"]:
        record = store.record(raw.shape, raw.stage, key)
        assert record is not None, "it was built"
        source = record.label.partition(":")[0]
        good[source] = good.get(source, 0) + sum(part["rows"] for part in record.parts)
        bad.setdefault(source, Counter()).update(record.reasons)
    return [
        Alarm(
            "bad_records",
            raw.ref,
            source,
            round(found.total() / (found.total() + good[source]), 4),
            params.max_bad_records,
            f"{found.total():,} of {found.total() + good[source]:,} records of the source {source} are no documents "
            f"(the commonest reason: {found.most_common(1)[0][0]}), more than {params.max_bad_records:.0%} "
            "(alarms.max_bad_records)",
        )
        for source, found in bad.items()
        if found.total() + good[source] >= params.min_documents
        and found.total() > params.max_bad_records * (found.total() + good[source])
    ]


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
            f"{100 * params.max_label_shift:g} points (alarms.max_label_shift)",
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
