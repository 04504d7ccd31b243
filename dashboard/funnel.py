"""What every gate of a run took, language by language: the first gate that rejects a document gives its reason."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from polylm.dashboard.gates import stage_of
from polylm.dashboard.queries import Queries
from polylm.tasks.maintenance.run_records import Entry, Run
from polylm.tasks.stage import REASON


@dataclass
class Tally:
    """Documents, characters as `clean` left them, and bytes where `measure_text` counted them."""

    documents: int = 0
    chars: int = 0
    bytes: int = 0

    def of(self, unit: str) -> int:
        """Documents, chars or bytes."""
        return {"documents": self.documents, "chars": self.chars, "bytes": self.bytes}[unit]

    def add(self, other: "Tally") -> None:
        self.documents += other.documents
        self.chars += other.chars
        self.bytes += other.bytes


@dataclass
class Funnel:
    """A run's documents by language, gate and first reason; the gate "" has those that none rejected."""

    gates: list[str]
    cells: dict[tuple[str, str, str], Tally] = field(default_factory=dict)

    def total(self, language: str | None = None, gate: str | None = None, reason: str | None = None) -> Tally:
        """The sum over all cells of a language, a gate and a reason; None is any."""
        summed = Tally()
        for (in_language, at_gate, for_reason), tally in self.cells.items():
            if language in (None, in_language) and gate in (None, at_gate) and reason in (None, for_reason):
                summed.add(tally)
        return summed

    @property
    def languages(self) -> list[str]:
        """Languages, those with most documents first; "" where there is no label."""
        counts: dict[str, int] = {}
        for (language, _, _), tally in self.cells.items():
            counts[language] = counts.get(language, 0) + tally.documents
        return sorted(counts, key=lambda name: (-counts[name], name))

    def reasons(self, gate: str, language: str | None = None, unit: str = "documents") -> dict[str, int]:
        """Documents, chars or bytes by reason at a gate, most first."""
        counts: dict[str, int] = {}
        for (in_language, at_gate, reason), tally in self.cells.items():
            if at_gate == gate and language in (None, in_language):
                counts[reason] = counts.get(reason, 0) + tally.of(unit)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def gates_of(here: Queries, run: Run) -> list[Entry]:
    """The gates of a run over its documents, in the order of the flow."""
    documents = run.entries("ingest")
    if not documents or not here.has(documents[-1]):
        return []
    parts = len(here.manifest(documents[-1]).parts)
    found = [entry for entry in run.stages if here.has(entry) and _is_gate(here, entry)]
    return [entry for entry in found if len(here.manifest(entry).parts) == parts]


def gone_gates(here: Queries, run: Run) -> list[str]:
    """The gates of a run whose artifacts are gone: what they said of a document is not known."""
    stages = [(entry, stage_of(entry.stage)) for entry in run.stages if not here.has(entry)]
    return [entry.stage for entry, stage in stages if stage is not None and stage.kind == "gate"]


def _is_gate(here: Queries, entry: Entry) -> bool:
    """By today's code, which opens no file; of a stage that it does not have, by the columns."""
    stage = stage_of(entry.stage)
    return stage.kind == "gate" if stage is not None else list(here.columns(entry)) == [REASON]


def funnel_of(here: Queries, run: Run) -> Funnel | None:
    """The funnel of a run as far as it is; None while it is being counted: a third of a second for ten million rows."""
    gates, language = gates_of(here, run), run.entries("identify_language")
    if not gates or not language:
        return Funnel([])
    beside = {f"gate_{i}": entry for i, entry in enumerate(gates)} | {"labels": language[-1]}
    for name, column in (("clean", "chars"), ("measure_text", "bytes")):
        if (entries := run.entries(name)) and column in here.columns(entries[-1]):
            beside[name] = entries[-1]
    rows = here.sql_soon(_statement(len(gates), beside), beside=beside)
    if rows is None:
        return None
    funnel = Funnel([gate.stage for gate in gates])
    for row in rows.to_pylist():
        gate = "" if row["gate"] is None else funnel.gates[row["gate"]]
        tally = Tally(row["documents"], int(row["chars"] or 0), int(row["bytes"] or 0))
        funnel.cells[(row["language"] or "", gate, row["reason"] or "")] = tally
    return funnel


def packed_tokens(here: Queries, run: Run) -> dict[str, int]:
    """Tokens that each language has for training, packed rows of the training split; none before they are planned."""
    plans = run.entries("plan_curriculum")
    if not plans or not here.has(plans[-1]):
        return {}
    rows = here.small_table(plans[-1]).to_pylist()
    tokens: dict[str, int] = {}
    for row in rows:
        if row["segment"] == rows[0]["segment"] and row["group"] != "pair":
            language = row["cell"].partition("/")[0]
            tokens[language] = tokens.get(language, 0) + row["tokens_available"]
    return tokens


def _statement(gates: int, beside: Mapping[str, Entry]) -> str:
    first = " ".join(f"WHEN gate_{i}.{REASON} IS NOT NULL THEN {i}" for i in range(gates))
    reason = ", ".join(f"gate_{i}.{REASON}" for i in range(gates))
    chars = "sum(clean.chars)" if "clean" in beside else "NULL"
    size = "sum(measure_text.bytes)" if "measure_text" in beside else "NULL"
    return (
        f"SELECT labels.language AS language, CASE {first} END AS gate, coalesce({reason}) AS reason, "
        f"count(*) AS documents, {chars} AS chars, {size} AS bytes FROM {{beside}} GROUP BY 1, 2, 3"
    )
