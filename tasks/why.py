"""Why a document was kept or rejected: the gates themselves, asked about one row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from polylm.tasks import build
from polylm.tasks.build import Job
from polylm.tasks.rules import Rule, Rules
from polylm.tasks.stage import Rows, Stage
from polylm.tasks.store import Store


@dataclass(frozen=True)
class Answer:
    """What one rule of one gate says of one document."""

    gate: str
    rule: str
    side: str
    value: float | str | None
    bound: float | list[str] | None
    margin: float | None  # negative where broken
    verdict: str  # "holds", "broken", "off" (no bound in this language), or "not judged: COLUMN is null", the columns that it lacks


def why(jobs: list[Job], row: int, store: Store) -> list[Answer]:
    """The answers of all rules of these gates' jobs on one row of their part, in the order of the flow.

    A document's reason is the first broken rule of the first gate that has one.
    """
    return [answer for job in jobs for answer in _ask(job, row, store)]


def _ask(job: Job, row: int, store: Store) -> list[Answer]:
    stage: Stage = job.stage
    shown = build.Shown.of(job.parts[0], store)
    columns = {name: values.slice(row, 1) for name, values in shown.columns.items()}
    # One row alone: a gate judges every row by itself, so it need not see the others.
    one = build.Shown(columns, np.ones(1, np.bool_))
    extras = [build.load(extra) for extra in job.extras]
    seen = one.for_gate()
    rules = stage(seen, job.params, *extras)
    nulls = [name for name, values in columns.items() if pc.is_null(values)[0].as_py()]
    missing = {}
    if not all(rule.judged[0] for rule in rules.values()):
        missing = _missing(lambda rows: stage(rows, job.params, *extras), seen, nulls)
    return [_answer(stage.name, name, rule, missing.get(name, nulls)) for name, rule in rules.items()]


def _missing(gate: Callable[[Rows], Rules], seen: Rows, nulls: list[str]) -> dict[str, list[str]]:
    """Of each rule the null columns without which it has no value: the gate is asked with ones in all others."""
    counted = [name for name in nulls if isinstance(seen[name], np.ndarray)]

    def unjudged(left: str | None) -> set[str]:
        rules = gate({**seen, **{name: np.ones(1) for name in counted if name != left}})
        return {name for name, rule in rules.items() if not rule.judged[0]}

    lack_a_label = unjudged(None)
    found = {name: [null for null in nulls if null not in counted] for name in lack_a_label}
    for left in counted:
        for name in unjudged(left) - lack_a_label:
            found.setdefault(name, []).append(left)
    return found


def _answer(gate: str, name: str, rule: Rule, nulls: list[str]) -> Answer:
    judged, bound = bool(rule.judged[0]), _bound(rule)
    more = f" and {len(nulls) - 3} more" if len(nulls) > 3 else ""
    holds = "off" if bound is None else "holds"
    unjudged = f"not judged: {', '.join(nulls[:3])}{more} {'is' if len(nulls) == 1 else 'are'} null"
    verdict = "broken" if rule.broken[0] else holds if judged else unjudged
    margin = float(rule.margin[0]) + 0.0 if judged and np.isfinite(rule.margin[0]) else None  # no -0
    return Answer(gate, name, rule.side, _plain(rule.value), bound, margin, verdict)


def _plain(value: Any) -> float | str | None:
    if isinstance(value, np.ndarray):
        return None if np.isnan(value[0]) else float(value[0])
    text = value[0].as_py()
    return None if text is None else str(text)


def _bound(rule: Rule) -> float | list[str] | None:
    if rule.side == "one_of":
        return list(rule.bound)
    bound = float(np.ravel(rule.bound)[0])
    return bound if np.isfinite(bound) else None  # a rule that is off in this language
