"""The page of a gate: each rule's values and what it removes, what rules overlap, and sliders that ask the very gate."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from fastapi import Request, Response
from markupsafe import Markup

from polylm.dashboard import charts
from polylm.dashboard.alarms import Alarm, alarm_at
from polylm.dashboard.distinct import siblings
from polylm.dashboard.errors import Missing
from polylm.dashboard.links import documents_url, key_of, stage_url
from polylm.dashboard.origins import Origin, origins_of, summary
from polylm.dashboard.queries import Queries
from polylm.dashboard.recipe_fields import option_lines, set_words
from polylm.dashboard.stages.examples import Example, examples
from polylm.dashboard.stages.fits import Fit, fit_of
from polylm.dashboard.stages.knobs import PREFIX, Knob, changes_of, knobs_of, moved, read_moves
from polylm.dashboard.stages.rule_charts import RuleChart, rule_chart
from polylm.dashboard.stages.sampling import Ints, Sample, sample_soon
from polylm.dashboard.stages.tallies import Change, RuleTally, Tallies, WhatIf, nearest, reach, tally, what_if
from polylm.dashboard.view import number, page, short_count, size, url, words
from polylm.tasks.maintenance.run_records import Entry, Run
from polylm.tasks.rules import Rule, Rules

ALL = "all"  # of ?language=
CHART_ROWS = 50_000  # whose values are drawn, and among which documents near a threshold are looked for
SHOWN_OVERLAPS = 14
NEAREST = 4


@dataclass(frozen=True)
class Card:
    """One rule on the page; `knob` moves it, where a param of this language does."""

    rule: str
    chart: RuleChart
    tally: RuleTally
    knob: Knob | None
    value: float | None  # of the knob, as moved
    picture: Markup  # the chart, with the threshold where it was moved to
    href: str  # shows its borderline documents
    origin: Origin | None  # of its threshold, where thresholds differ by language and one was chosen


@dataclass(frozen=True)
class Answer:
    """What the gate says to moved thresholds. `of` is of the page's language, or of all where the move reaches others too."""

    what_if: WhatIf
    of: Change
    options: list[str]  # each as --set; none where no field of the recipe has these params
    moves: list[tuple[str, float | None, float | None]]  # name, from, to
    gained: list[Example]
    lost: list[Example]
    milliseconds: float


@dataclass(frozen=True)
class _Asked:
    """A gate's sample and one choice of language."""

    here: Queries
    run: Run
    entry: Entry
    sample: Sample
    language: str
    fit: Fit | None

    @property
    def labels(self) -> list[int]:
        names = self.sample.labels
        return list(range(len(names))) if self.language == ALL else [names.index(self.language)]

    @property
    def knobs(self) -> list[Knob]:
        label, labels = "" if self.language == ALL else self.language, self.sample.labels
        fitted = knobs_of(self.fit.params, labels, label, self.fit.stage.name) if self.fit else []
        own = [_as_judged(knob, self.origins) for knob in knobs_of(self.sample.job.params, labels, label)]
        return [*own, *fitted]

    @cached_property
    def origins(self) -> dict[str, Origin]:
        """Where the thresholds of this language come from; of other gates than that of texts none."""
        return origins_of(self.sample.job, "" if self.language == ALL else self.language)

    def key(self, name: str) -> tuple[str, ...]:
        """Of what this gate and language determine."""
        return name, self.here.manifest(self.entry).key, self.run.id, self.language

    def places(self, most: int = CHART_ROWS) -> Ints:
        """Some rows of these labels, as many of each as it has a share of the documents."""
        total = max(1, sum(int(self.sample.population[label]) for label in self.labels))
        some = [(label, -(-most * int(self.sample.population[label]) // total)) for label in self.labels]
        rows = [self.sample.of(label, share) for label, share in some if share]
        return np.concatenate([np.arange(one.start, one.stop) for one in rows] or [np.zeros(0, np.int64)])

    def href(self, **query: Any) -> str:
        return stage_url(self.run, self.entry, **query)


def view(request: Request, here: Queries, run: Run, entry: Entry) -> Response:
    """The page of a gate in one language (`?language=`; `all`), with thresholds moved (`?p.NAME=VALUE`).

    Without a language it opens on that which the gate rejects most of in a source (`?source=`, or that of an alarm about it).
    """
    sample = sample_soon(here, run, entry)
    alarm = alarm_at(run, entry)
    source = request.query_params.get("source", "") or (alarm.subject if alarm else "")
    again = f"{request.url.path}?{request.url.query}"
    common: dict[str, Any] = {"run": run, "entry": entry, "again": again, "all": ALL}
    if sample is None:
        return page(request, "gate.html", **common, sample=None)
    asked = _asked(here, run, entry, sample, request.query_params.get("language", ""), source)
    moves = read_moves(asked.knobs, request.query_params)
    if (drawn := _drawn_soon(asked)) is None:
        return page(request, "gate.html", **common, sample=None)
    tallies, cards = drawn.tallies, _cards(asked, drawn, moves)
    rule = _rule(asked, tallies, request.query_params.get("rule", ""))
    return page(
        request, "gate.html", **common, sample=sample, language=asked.language, tallies=tallies, cards=cards,
        loose=_loose(asked, cards, moves), languages=_languages(asked), rule=rule, borderline=_borderline(asked, rule),
        overlap=_overlap(asked, tallies), answer=_answer(asked, moves) if moves else None, stage=sample.job.stage,
        reset=asked.href(language=asked.language), form=FORMS[sample.unit], unit=sample.unit,
        origins=_origins(asked), ask=url("run", run.id, "stage", entry.stage, "what-if"), artifact=key_of(entry), alarm=alarm,
        alarm_href=_documents(run, entry, alarm), siblings=siblings(here, run, entry), found=partial(_found, asked),
        has_knobs=bool(asked.knobs), plain=_plain, has_fit=asked.fit is not None, by_language=_by_language(sample),
    )  # fmt: skip


def answer(request: Request, here: Queries, run: Run, entry: Entry) -> Response:
    """The answer to moved thresholds alone, for htmx."""
    sample = sample_soon(here, run, entry)
    if sample is None:
        raise Missing("The sample of this gate is being read: ask again.")
    asked = _asked(here, run, entry, sample, request.query_params.get("language", ""))
    moves = read_moves(asked.knobs, request.query_params)
    found = _answer(asked, moves) if moves else None
    return page(request, "gate_answer.html", answer=found, sample=sample, form=FORMS[sample.unit], unit=sample.unit)


KINDS = {"gate": view}
READS = ("language", "source", "rule", PREFIX)  # of an address
FORMS = {"bytes": size, "chars": short_count, "": short_count}


def _asked(here: Queries, run: Run, entry: Entry, sample: Sample, language: str, source: str = "") -> _Asked:
    """With no language named: the commonest, where thresholds differ by language; else all."""
    if not language and _by_language(sample):
        language = _lost_most(here, run, sample, source) or _commonest(sample)
    language = language or ALL
    if language not in (ALL, *sample.labels):
        raise Missing(f"No document is labelled {language[:40]!r}; there are {', '.join(sample.labels[:40])}.")
    fit = here.cache.get(("fit", here.manifest(entry).key), lambda: fit_of(here, entry, sample))
    return _Asked(here, run, entry, sample, language, fit)


def _commonest(sample: Sample) -> str:
    return next((label for label in sample.labels if label), "")


def _lost_most(here: Queries, run: Run, sample: Sample, source: str) -> str:
    """The label with most documents of a source that the gate rejects, among those that were looked at; "" for none."""
    parts = here.manifest(run.entries("ingest")[-1]).parts if source and run.entries("ingest") else ()
    own = [index for index, part in enumerate(parts) if part.label.rpartition(".")[0] == source]
    lost = np.flatnonzero(np.isin(sample.part, own) & (sample.bits != 0))
    counts = Counter(label for label in _labels(sample, lost) if label)
    return counts.most_common(1)[0][0] if counts else ""


def _documents(run: Run, entry: Entry, alarm: Alarm | None) -> str:
    return documents_url(run, gate=entry.stage, source=alarm.subject, alone=True) if alarm else ""


def _found(asked: _Asked, rule: str = "") -> str:
    """The documents of this language that the gate rejects, for one reason or any."""
    language = None if asked.language == ALL else asked.language
    return documents_url(asked.run, gate=asked.entry.stage, reason=rule, language=language, alone=True)


def _as_judged(knob: Knob, origins: Mapping[str, Origin]) -> Knob:
    """A threshold of a language as the gate has it: a derived one is in none of its params."""
    origin = origins.get(knob.path[-1]) if knob.path[0] == "thresholds" else None
    return replace(knob, value=origin.threshold, source=origin.told) if origin else knob


@dataclass(frozen=True)
class _Origins:
    """How many thresholds of a language are of each kind, and the page of the derived ones."""

    counts: list[tuple[str, int]]
    fit: str


def _origins(asked: _Asked) -> _Origins | None:
    if not asked.origins:
        return None
    fitted = [
        entry
        for entry in asked.run.entries("fit_thresholds")
        if entry.artifact in asked.here.manifest(asked.entry).reads
    ]
    fit = stage_url(asked.run, fitted[-1], language=asked.language) if fitted else ""
    return _Origins(summary(asked.origins), fit)


def _by_language(sample: Sample) -> bool:
    """Whether the gate has numbers that differ by language."""
    params, labels = sample.job.params, sample.labels
    return len(knobs_of(params, labels, _commonest(sample))) > len(knobs_of(params, labels, ""))


@dataclass(frozen=True)
class _Drawn:
    """What is made once for a gate and a language: half a second for a million rows."""

    tallies: Tallies
    charts: dict[str, RuleChart]
    knobs: dict[str, Knob]


def _drawn_soon(asked: _Asked) -> _Drawn | None:
    def draw() -> _Drawn:
        return _Drawn(tally(asked.sample, asked.labels), _charts(asked), _knobs_by_rule(asked))

    return asked.here.cache.soon(asked.key("drawn"), draw)


def _cards(asked: _Asked, drawn: _Drawn, moves: Mapping[Knob, float | None]) -> list[Card]:
    cards = []
    for one in drawn.tallies.rules:
        knob = drawn.knobs.get(one.rule)
        value = moves.get(knob, knob.value) if knob else None
        chart = drawn.charts[one.rule]
        picture = chart.moved_to(value) if knob in moves else chart.chart
        href = asked.href(language=asked.language, rule=one.rule) + "#borderline"
        cards.append(Card(one.rule, chart, one, knob, value, picture, href, asked.origins.get(one.rule)))
    return cards


def _charts(asked: _Asked) -> dict[str, RuleChart]:
    rules = asked.sample.ask(asked.sample.job.params, asked.places())
    return {name: rule_chart(words(name), rule) for name, rule in rules.items()}


def _knobs_by_rule(asked: _Asked) -> dict[str, Knob]:
    """Which number moves which rule alone: found by moving it."""
    found: dict[str, Knob] = {}
    for knob in asked.knobs:
        rules = [] if knob.owner else _reached(asked, knob)
        if len(rules) == 1:
            found.setdefault(asked.sample.rules[rules[0]], knob)
    return found


def _reached(asked: _Asked, knob: Knob) -> list[int]:
    """The rules that a number reaches, by trying others in its place that the params allow."""
    value = knob.value or 0.0
    for other in (value + 1.0, value * 2 + 1, value / 2, value / 2 + 0.25, 0.0):
        try:
            params = moved(asked.sample.job.params, {knob: float(int(other)) if knob.is_whole else other})
        except ValueError:
            continue
        if rules := reach(asked.sample, params, asked.labels[0] if len(asked.labels) == 1 else None)[0]:
            return rules
    return []


def _loose(asked: _Asked, cards: Sequence[Card], moves: Mapping[Knob, float | None]) -> list[tuple[Knob, float | None]]:
    """Numbers that move several rules, none here, or what is fitted: they stand above the rules."""
    taken = {card.knob for card in cards}
    return [(knob, moves.get(knob, knob.value)) for knob in asked.knobs if knob not in taken]


def _languages(asked: _Asked) -> list[tuple[str, int, str]]:
    """Labels with their documents and the address of their page."""
    counts = zip(asked.sample.labels, asked.sample.population, strict=True)
    return [(label, int(n), asked.href(language=label)) for label, n in counts if label]


def _overlap(asked: _Asked, tallies: Tallies) -> object:
    """Of the documents that a rule removes, the share that another removes too."""
    ranked = sorted(range(len(tallies.rules)), key=lambda i: -tallies.rules[i].alone.value)[:SHOWN_OVERLAPS]
    shown = [i for i in sorted(ranked) if tallies.both[i, i] > 0]
    if len(shown) < 2:
        return None
    names = [words(tallies.rules[i].rule) for i in shown]
    shares = [[float(tallies.both[i, j] / tallies.both[i, i]) if i != j else None for j in shown] for i in shown]
    return charts.heat(names, names, shares, title="Overlap of rules", form=lambda share: f"{share or 0:.0%}", most=1.0)


def _rule(asked: _Asked, tallies: Tallies, rule: str) -> str:
    if rule and rule not in asked.sample.rules:
        raise Missing(f"{asked.entry.stage} has no rule {rule[:60]!r}; there are {', '.join(asked.sample.rules)}.")
    return rule or max(tallies.rules, key=lambda one: one.alone.value).rule


def _borderline(asked: _Asked, rule: str) -> tuple[list[Example], list[Example]]:
    """Documents on both sides of a rule's threshold, the nearest first."""
    found = asked.here.cache.get(asked.key(f"near {rule}"), lambda: _near(asked, rule))
    listed = examples(
        asked.here, asked.run, [*found[0][0], *found[1][0]], [*found[0][1], *found[1][1]], [*found[0][2], *found[1][2]]
    )
    return listed[: len(found[0][0])], listed[len(found[0][0]) :]


def _near(asked: _Asked, rule: str) -> tuple[Any, Any]:
    places = asked.places()
    rules = asked.sample.ask(asked.sample.job.params, places)
    rejected, kept = nearest(rules[rule], NEAREST)
    return _told(asked, rules, rule, places, rejected), _told(asked, rules, rule, places, kept)


def _told(asked: _Asked, rules: Rules, rule: str, places: Ints, chosen: Ints) -> tuple[list[Any], list[str], list[Any]]:
    """Of some rows: where they are, their labels, and what the rules say of them."""
    notes = []
    for at in chosen:
        one = rules[rule].at(int(at))
        others = [words(name) for name, other in rules.items() if name != rule and other.at(int(at)).broken[0]]
        notes.append((*_value(one), *((("also breaks", ", ".join(others)),) if others else ())))
    return _where(asked.sample, places[chosen]), _labels(asked.sample, places[chosen]), notes


def _value(one: Rule) -> tuple[tuple[str, str], ...]:
    """The value of a rule's only row and, of numbers, its bound."""
    if not isinstance(one.value, np.ndarray):
        return (("value", str(one.value[0].as_py())),)
    return ("value", number(float(one.value[0]))), ("against", number(float(np.ravel(one.bound)[0])))


def _answer(asked: _Asked, moves: Mapping[Knob, float | None]) -> Answer:
    began = time.perf_counter()
    own, fitted = ({k: v for k, v in moves.items() if bool(k.owner) == of_fit} for of_fit in (False, True))
    params = moved(asked.sample.job.params, own)
    found = what_if(asked.sample, params, asked.fit.tables(asked.sample, fitted) if asked.fit and fitted else None)
    milliseconds = (time.perf_counter() - began) * 1000
    options = set_words(asked.run, asked.here.manifest(asked.entry), changes_of(own))
    options += set_words(asked.run, asked.fit.made, changes_of(fitted)) if asked.fit else []
    told = [(knob.name.removeprefix(PREFIX), knob.value, value) for knob, value in moves.items()]
    both = np.concatenate([found.gained, found.lost])
    listed = examples(asked.here, asked.run, _where(asked.sample, both), _labels(asked.sample, both), patience=0.02)
    cut = len(found.gained)
    (only,) = found.by_label if len(found.by_label) == 1 else (None,)
    of = only if only and only.label == asked.language else found.total
    return Answer(found, of, option_lines(options), told, listed[:cut], listed[cut:], milliseconds)


def _plain(value: float | None) -> str:
    """A number as a field of a form holds it; nothing where it is off."""
    return "" if value is None else f"{value:.12g}"


def _where(sample: Sample, places: Ints) -> list[tuple[int, int]]:
    return [(int(sample.part[i]), int(sample.row[i])) for i in places]


def _labels(sample: Sample, places: Ints) -> list[str]:
    return [sample.labels[i] for i in np.searchsorted(sample.starts, places, side="right") - 1]
