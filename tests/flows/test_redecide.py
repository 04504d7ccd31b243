"""After a change of thresholds a plan says exactly what is kept, and the run that follows judges again and measures nothing."""

import json
import random
import shutil

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from samples import third_options

from polylm.deployments.settings import Settings
from polylm.flows.everything import start
from polylm.flows.reading import kept_by_language
from polylm.tasks.corpus.language import LANGUAGES
from polylm.tasks.corpus.rule_sets import DEFAULT, SETS, rule_set
from polylm.tasks.corpus.text_rules import RULES
from polylm.tasks.stage import all_stages
from polylm.tasks.store import read_columns

CASES = range(8)
JUDGING = {stage.name for stage in all_stages() if stage.runs_in_plan} | {"select"}


@pytest.fixture(scope="module")
def again(third, third_store, tmp_path_factory):
    """The same recipe with changes, planned or run in a copy of the store; nobody asks about alarms."""
    store = tmp_path_factory.mktemp("again") / "store"
    for name in ("parts", "folders", "artifacts", "runs", "checked", "seen"):
        shutil.copytree(third_store / name, store / name)
    before = [word for word in third_options(third) if word != "--set"] + ["alarms.action=warn"]
    return lambda mode, *changes: start(
        "sample", Settings(store=store, workers=0), changes=[*before, *changes], mode=mode
    )


def random_changes(seed):
    """A rule set, a floor or a cut-off, and thresholds of eight rules, as `--set` takes them."""
    draw = random.Random(seed)
    first = (_rule_sets, _floor, _cutoff)[seed % 3](draw)
    return [first, *(_threshold(draw) for _ in range(8))]


def _threshold(draw):
    language = draw.choice(LANGUAGES)
    rule, value = draw.choice(sorted((k, v) for k, v in rule_set(DEFAULT, language).thresholds.items() if v))
    moved = draw.choice([None, *(min(RULES[rule].most, round(value * draw.uniform(0.3, 3), 4)) for _ in range(4))])
    return f"text.thresholds.{language}.{rule}={json.dumps(moved)}"


def _rule_sets(draw):
    return f"text.rules={','.join([DEFAULT, *draw.sample([name for name in SETS if name != DEFAULT], 2)])}"


def _floor(draw):
    return draw.choice(
        [
            f"floors.lowest={draw.uniform(0.1, 0.9):.2f}",
            f'floors.own={{"{draw.choice(LANGUAGES)}": {draw.uniform(0.5, 1):.2f}}}',
            "floors.kind=fixed",
        ]
    )


def _cutoff(draw):
    return draw.choice(
        [f"cutoffs.ceiling={draw.uniform(0.5, 1):.2f}", f"cutoffs.classifier_floor={draw.uniform(0, 0.5):.2f}"]
    )


def selected(here):
    """Documents with a weight and their bytes, by language: counted from the texts themselves."""
    tables = []
    for index in range(len(here.artifacts["select"].parts)):
        stages = {"clean": "text", "identify_language": "language", "select": "weight"}
        paths = {name: here.store.part_path(name, here.artifacts[name].parts[index].key) for name in stages}
        columns = {column: read_columns(paths[name], [column])[column] for name, column in stages.items()}
        rows = pa.table(columns).filter(pc.is_valid(columns["weight"]))
        tables.append(rows.set_column(1, "language", rows["language"].cast(pa.string())))
    found = {}
    for row in pa.concat_tables(tables).to_pylist():
        documents, size = found.get(row["language"], (0, 0))
        found[row["language"]] = (documents + 1, size + len(row["text"].encode()))
    return found


def kept(here):
    rows = kept_by_language(here)
    return {row["language"]: (row["documents"], row["bytes"]) for row in rows}


@pytest.mark.parametrize("seed", CASES)
def test_a_plan_says_exactly_what_the_run_then_keeps_and_builds(again, seed):
    planned = again("plan", *random_changes(seed))
    assert all(report.exact for report in planned.reports)
    promised = {report.stage: report.built for report in planned.reports if report.built}
    assert promised.keys() <= JUDGING  # no measure, join or model
    ran = again("run", *random_changes(seed))
    assert kept(planned) == kept(ran) == selected(ran)
    # What judges, the plan has made already.
    left = {report.stage: report.built for report in ran.reports if report.built}
    assert left == {stage: built for stage, built in promised.items() if stage == "select"}


def test_most_of_the_random_changes_change_what_is_kept(again):
    """Else the test above would compare one number with itself."""
    found = {json.dumps(kept(again("plan", *random_changes(seed)))) for seed in CASES}
    assert len(found - {json.dumps(kept(again("plan")))}) >= 6


def test_the_command_prints_it(polylm, third, third_copy):
    words = ["plan", "sample", *third_options(third), "--set", "cutoffs.ceiling=0.8", "--store", third_copy]
    told = json.loads(polylm(*words, "--json")[1])["kept"]
    assert [set(row) for row in told] == [{"language", "documents", "bytes"}] * len(told)
    lines = polylm(*words)[1].partition("\nkept:\n")[2].splitlines()[: len(told) + 1]
    expected = [[row["language"], f"{row['documents']:,}", "documents", f"{row['bytes']:,}", "bytes"] for row in told]
    assert [line.split() for line in lines[:-1]] == expected
    assert lines[-1].split()[:2] == ["all", f"{sum(row['documents'] for row in told):,}"]


def test_before_anything_is_measured_a_plan_says_that_it_cannot_know(polylm, third):
    words = ["plan", "sample", *third_options(third), "--store", "store"]
    assert "\nkept: known as soon as what gates read is built\n" in polylm(*words)[1]
    assert json.loads(polylm(*words, "--json")[1])["kept"] is None
