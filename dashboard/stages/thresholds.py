"""The page of `fit_thresholds`: every candidate of a language's rules with what it would remove, and what the gate took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel, Field

from polylm.dashboard.errors import Missing
from polylm.dashboard.gates import gate_jobs
from polylm.dashboard.links import stage_url
from polylm.dashboard.origins import Origin, origins_of
from polylm.dashboard.queries import Queries
from polylm.dashboard.recipe_fields import command_line, set_words
from polylm.dashboard.stages.frame import own_page
from polylm.tasks.corpus.text_rules import RULES
from polylm.tasks.maintenance.run_records import Entry, Run
from polylm.tasks.store import StoreError

FIXED = "fixed"  # the method of a rule that has one candidate alone
GATE = "filter_text"


@dataclass(frozen=True)
class Candidates:
    """The candidates of one rule by method, and where the gate has its threshold from (None: it has no such rule)."""

    rule: str
    side: str  # "max" or "min"
    says: str
    by_method: Mapping[str, Mapping[str, Any]]
    taken: Origin | None


class Asked(BaseModel):
    """What the page shows of the params."""

    min_references: int = Field(ge=0, lt=2**53)
    reference_kinds: tuple[str, ...]
    method: str


def view(request: Request, here: Queries, run: Run, entry: Entry) -> Response:
    """One language's candidates (`?language=`; that with most reference documents where none is named)."""
    rows = here.small_table(entry).to_pylist()
    numbers = {row["language"]: (row["references"], row["others"]) for row in rows}
    languages = sorted(numbers, key=lambda name: (-numbers[name][0], name))
    chosen = request.query_params.get("language", "") or next(iter(languages), "")
    if chosen and chosen not in numbers:
        known = ", ".join(languages[:40]) or "none"
        raise Missing(f"No threshold was derived in {chosen[:40]!r}; languages with derived ones: {known}.")
    own = [row for row in rows if row["language"] == chosen]
    methods = list(dict.fromkeys(row["method"] for row in own if row["method"] != FIXED))
    return own_page(
        request, here, "thresholds.html", run, entry, language=chosen, methods=methods, fixed=FIXED,
        languages=[(name, stage_url(run, entry, language=name)) for name in languages],
        numbers=numbers.get(chosen, (0, 0)), rules=_rules(own, _taken(here, run, entry, chosen)),
        params=here.params(entry, Asked), gate=_gate_url(run, chosen), words=_words(here, run, entry, methods),
    )  # fmt: skip


STAGES = {"fit_thresholds": view}
READS = ("language",)  # of an address


def _rules(rows: Sequence[Mapping[str, Any]], taken: Mapping[str, Origin]) -> list[Candidates]:
    by_rule: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        by_rule.setdefault(row["rule"], {})[row["method"]] = row
    known = [(rule, RULES[rule]) for rule in RULES if rule in by_rule]
    return [Candidates(rule, about.side, about.says, by_rule[rule], taken.get(rule)) for rule, about in known]


def _taken(here: Queries, run: Run, entry: Entry, language: str) -> dict[str, Origin]:
    """What the gate that reads these candidates judges by; nothing where it has not run, or cannot be asked any more."""
    readers = [gate for gate in run.entries(GATE) if here.has(gate) and entry.artifact in here.manifest(gate).reads]
    try:
        return origins_of(gate_jobs(here, readers[-1])[0], language) if readers else {}
    except StoreError:
        return {}


def _gate_url(run: Run, language: str) -> str:
    gates = run.entries(GATE)
    return stage_url(run, gates[-1], language=language) if gates else ""


def _words(here: Queries, run: Run, entry: Entry, methods: Sequence[str]) -> dict[str, str]:
    """By method the option that chooses it, where a field of the recipe has these params."""
    made = here.manifest(entry)
    words = {method: set_words(run, made, {"method": method}) for method in methods}
    return {method: command_line(found) for method, found in words.items() if found}
