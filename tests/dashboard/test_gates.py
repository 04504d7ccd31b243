"""The page of a gate: what it counts, and sliders that ask the very gate."""

import html
import re
import shlex

import numpy as np
import pytest
from asking import settled
from fastapi.testclient import TestClient
from samples import write_jsonl

from polylm.dashboard.app import create_app
from polylm.dashboard.gates import extras_of, gate_jobs, stage_of
from polylm.dashboard.stages.knobs import knobs_of, moved, read_moves
from polylm.dashboard.stages.sampling import draw
from polylm.dashboard.stages.tallies import reach, tally, what_if
from polylm.deployments.settings import Settings
from polylm.flows.recipe_options import resolve
from polylm.tasks import build
from polylm.tasks.documents.clean import CleanParams, clean, drop_empty
from polylm.tasks.documents.ingest import IngestParams, ingest
from polylm.tasks.documents.sources import Source, Sources
from polylm.tasks.run import run as run_stage
from polylm.tasks.session import session
from polylm.tasks.stage import NoParams
from polylm.tasks.store import read_columns

GATES = ("drop_empty", "want_languages", "keep_sure", "filter_text", "filter_quality", "drop_duplicates")


def broken_by_row(here, entry, params=None):
    """The gate asked about its parts one by one: for every document the rules that it breaks, in order."""
    found = []
    for job in gate_jobs(here, entry):
        rows = build.Shown.of(job.parts[0], here.store).for_gate()
        rules = job.stage(rows, params or job.params, *extras_of(job))
        masks = [(name, rule.broken) for name, rule in rules.items()]
        found += [[name for name, mask in masks if mask[row]] for row in range(job.parts[0].rows)]
    return found


def column(here, run, stage, name):
    return [v for path in here.paths(here.entry(run, stage)) for v in read_columns(path)[name].to_pylist()]


def shown(client, address, query=None):
    """The text of a page once its sample was read."""
    return settled(lambda: client.get(address, params=query), "a sample of")


@pytest.fixture(scope="module")
def languages(here, run):
    return column(here, run, "identify_language", "language")


@pytest.fixture(scope="module")
def text_gate(here, run):
    return here.entry(run, "filter_text")


@pytest.fixture(scope="module")
def sample(here, run, text_gate):
    return draw(here, run, text_gate)


def moves_of(sample, language, **values):
    knobs = knobs_of(sample.job.params, sample.labels, language)
    return read_moves(knobs, {f"p.thresholds.{language}.{rule}": str(value) for rule, value in values.items()})


@pytest.mark.parametrize("gate", GATES)
def test_rules_are_counted_as_a_slow_reference_does(here, run, gate):
    entry = here.entry(run, gate)
    sample = draw(here, run, entry)
    broken = broken_by_row(here, entry)
    found = tally(sample, range(len(sample.labels)))
    for one in found.rules:
        assert one.alone.value == pytest.approx(sum(one.rule in names for names in broken))
        assert one.first.value == pytest.approx(sum(names[:1] == [one.rule] for names in broken))
        assert one.only.value == pytest.approx(sum(names == [one.rule] for names in broken))
        assert one.alone.error == one.first.error == one.only.error == 0
    assert found.rejected.value == pytest.approx(entry.rejected)
    assert {one.rule: round(one.first.value) for one in found.rules if one.first.value} == dict(entry.reasons)


def test_one_language_is_counted_by_itself_and_overlaps_in_pairs(here, text_gate, sample, languages):
    broken = [names for names, label in zip(broken_by_row(here, text_gate), languages, strict=True) if label == "en"]
    found = tally(sample, [sample.labels.index("en")])
    assert found.documents == len(broken)
    for i, one in enumerate(sample.rules):
        for j, other in enumerate(sample.rules):
            assert found.both[i, j] == pytest.approx(sum(one in names and other in names for names in broken))


@pytest.mark.parametrize(
    ("language", "values"),
    [
        ("en", {"gopher_short_doc": 200}),
        ("en", {"gopher_short_doc": 0, "duplicated_5_n_grams": 0.9, "char_dup_ratio": 0.5}),
        ("ja", {"gopher_short_doc": 5_000, "list_ratio": "off"}),
        ("zh", {"line_punct_ratio": 0.9}),
    ],
)
def test_a_slider_says_what_the_gate_itself_says(here, run, text_gate, sample, languages, language, values):
    params = moved(sample.job.params, moves_of(sample, language, **values))
    before, after = broken_by_row(here, text_gate), broken_by_row(here, text_gate, params)
    sizes = [size or 0 for size in column(here, run, "measure_text", "bytes")]
    step = [int(not b) - int(not a) for a, b in zip(before, after, strict=True)]
    assert any(step)
    found = what_if(sample, params)
    assert found.is_exact
    assert found.total.kept.value == pytest.approx(sum(not names for names in before))
    assert found.total.change.value == pytest.approx(sum(step))
    assert found.total.change.error == 0
    assert found.total.amount_change.value == pytest.approx(sum(s * size for s, size in zip(step, sizes, strict=True)))
    assert [change.label for change in found.by_label] == [language]
    assert set(found.touched) == set(values)
    for name, then, now in found.alone:
        of = [i for i, label in enumerate(languages) if label == language]
        assert then.value == pytest.approx(sum(name in before[i] for i in of))
        assert now.value == pytest.approx(sum(name in after[i] for i in of))
    starts = np.concatenate([[0], np.cumsum([job.parts[0].rows for job in gate_jobs(here, text_gate)])])
    for flipped, sign in ((found.gained, 1), (found.lost, -1)):
        assert all(step[starts[sample.part[i]] + sample.row[i]] == sign for i in flipped)
        assert len(flipped) == min(4, step.count(sign))


@pytest.mark.parametrize(
    ("gate", "fitted", "changes"),
    [
        ("keep_sure", "fit_language_floors", {"highest": 0.6, "lowest": 0.5}),
        ("keep_sure", "fit_language_floors", {"lowest": 0.9}),
        ("filter_quality", "fit_quality_cutoffs", {"ceiling": 0.5, "classifier_floor": 0.3}),
    ],
)
def test_a_slider_of_a_fit_fits_again_as_the_stage_does(client, here, run, gate, fitted, changes):
    entry, made = here.entry(run, gate), here.entry(run, fitted)
    stage, corpus = stage_of(fitted), []
    for index in range(len(here.paths(entry))):
        tables = [here.part(read.ref, index) for read in here.reads(made).values()]
        columns = {name: table[name].combine_chunks() for table in tables for name in table.schema.names}
        corpus.append({name: columns[name] for name in stage.reads})
    values = stage.params.model_validate({**here.manifest(made).params, **changes})
    extras = [stage(corpus, values)]
    step = 0
    for job in gate_jobs(here, entry):
        rows = build.Shown.of(job.parts[0], here.store).for_gate()
        sides = [job.stage(rows, job.params, *tables) for tables in (extras_of(job), extras)]
        kept = [~np.logical_or.reduce([rule.broken for rule in rules.values()]) for rules in sides]
        step += int(kept[1].sum()) - int(kept[0].sum())
    assert step != 0
    address = f"/run/{run.id}/stage/{gate}"
    shown(client, address)
    query = {f"p.{fitted}.{name}": value for name, value in changes.items()}
    page = client.get(f"{address}/what-if", params=query).text
    told = re.sub(r"<.*?>", " ", page)
    assert f"{'+' if step > 0 else '−'}{abs(step):,}" in told
    field = {"fit_language_floors": "floors", "fit_quality_cutoffs": "cutoffs"}[fitted]
    for name, value in changes.items():
        assert f"--set {field}.{name}={value}" in page


def test_a_move_that_changes_nothing_reaches_no_rule(sample):
    assert reach(sample, sample.job.params) == ([], [])
    assert what_if(sample, sample.job.params).judged == 0


def test_a_part_of_the_rows_gives_an_estimate_whose_error_covers_the_truth(here, run, text_gate, sample):
    params = moved(sample.job.params, moves_of(sample, "en", gopher_short_doc=200))
    truth = what_if(sample, params).total.change.value
    inside = []
    for seed in range(20):
        some = draw(here, run, text_gate, rows=150, seed=seed)
        assert some.rows < sample.rows
        assert some.documents == sample.documents
        found = what_if(some, params)
        assert not found.is_exact
        assert found.total.change.error > 0
        inside.append(abs(found.total.change.value - truth) <= found.total.change.error)
    assert sum(inside) >= 17  # of 20; 19 are expected


def test_the_words_to_copy_make_the_recipe_that_was_asked_about(client, run, sample):
    query = {"language": "th", "p.thresholds.th.dup_line_frac": "0.25", "p.thresholds.th.gopher_long_doc": "off"}
    page = shown(client, f"/run/{run.id}/stage/filter_text", query)
    told = re.search(r'class="copied"><pre tabindex="0">(.*?)</pre>', page, re.S)[1]
    words = shlex.split(html.unescape(told).replace("\\\n", " "))
    assert words[::2] == ["--set", "--set"]
    params = moved(sample.job.params, moves_of(sample, "th", dup_line_frac=0.25, gopher_long_doc="off"))
    assert resolve("sample", changes=words[1::2]).text == params


def test_the_page_without_a_script_has_the_answer_of_the_slider(client, run):
    query = {"language": "en", "p.thresholds.en.gopher_short_doc": "200"}
    page = shown(client, f"/run/{run.id}/stage/filter_text", query)
    part = client.get(f"/run/{run.id}/stage/filter_text/what-if", params=query)
    row = re.search(r"<tr><th>gopher short doc</th>(<td.*?)</tr>", part.text)[1]
    assert row in page
    assert "<html" not in part.text
    assert 'name="p.thresholds.en.gopher_short_doc" value="200" placeholder="off" data-was="50"' in page


def test_a_moved_threshold_is_drawn_where_it_was_moved_to_without_a_script_too(client, run):
    where = f"/run/{run.id}/stage/filter_text"
    was, moved = (
        re.search(r'id="rule-gopher_short_doc">.*?</section>', shown(client, where, query), re.S)[0]
        for query in ({"language": "en"}, {"language": "en", "p.thresholds.en.gopher_short_doc": "200"})
    )
    assert 'class="threshold moved"' not in was
    assert "min 50" in was
    assert 'class="threshold was"' in moved
    assert "→ 200" in moved


def test_numbers_of_a_what_if_say_their_language(client, run, here):
    query = {"language": "en", "p.thresholds.en.gopher_short_doc": "200"}
    shown(client, f"/run/{run.id}/stage/filter_text", query)
    part = re.sub(r"<.*?>", "", client.get(f"/run/{run.id}/stage/filter_text/what-if", params=query).text)
    beside = {"l": here.entry(run, "identify_language"), "v": here.entry(run, "filter_text")}
    (counted,) = here.sql(
        "SELECT count(*) AS n, count(*) - count(v.rejected_because) AS kept FROM {beside} WHERE l.language = 'en'",
        beside,
    ).to_pylist()
    assert f"Of the {counted['n']} documents in en:" in part
    assert f"this gate keeps {counted['kept']} now" in part


def test_every_rule_of_a_language_has_a_slider(client, run, sample):
    page = shown(client, f"/run/{run.id}/stage/filter_text?language=de")
    assert len(re.findall(r'data-low="', page)) == len(sample.rules)
    assert page.count('name="p.thresholds.de.') == len(sample.rules)
    assert "p.thresholds.en" not in page


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("language=xx", 404, "No document is labelled"),
        ("language='%3B%20DROP", 404, "No document is labelled"),
        ("rule=none", 404, "has no rule"),
        ("language=en&p.thresholds.en.nothing=1", 400, "no threshold of this gate"),
        ("language=en&p.thresholds.de.list_ratio=1", 400, "no threshold of this gate"),
        ("language=en&p.thresholds.en.list_ratio=nan", 400, "expected a number"),
        ("language=en&p.thresholds.en.list_ratio=1e999", 400, "expected a number"),
        ("language=en&p.thresholds.en.list_ratio=<script>", 400, "expected a number"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_there_is(client, run, query, status, said):
    shown(client, f"/run/{run.id}/stage/filter_text")
    for path in ("filter_text", "filter_text/what-if"):
        if "rule=" in query and "what-if" in path:
            continue
        answer = client.get(f"/run/{run.id}/stage/{path}?{query}")
        assert answer.status_code == status
        assert said in answer.text
        assert "<script>" not in answer.text.replace('<script src="', "")


def test_only_gates_can_be_asked(client, run):
    answer = client.get(f"/run/{run.id}/stage/clean/what-if")
    assert answer.status_code == 404
    assert "no gate" in answer.text


@pytest.mark.parametrize("gate", GATES)
def test_every_gate_has_a_page_with_its_rules(client, here, run, gate):
    page = shown(client, f"/run/{run.id}/stage/{gate}")
    assert "Rules in their order" in page
    for rule in here.entry(run, gate).reasons:
        assert f'id="rule-{rule}"' in page


def test_borderline_documents_stand_on_both_sides_nearest_first(client, here, run, sample):
    page = shown(client, f"/run/{run.id}/stage/filter_text?language=en&rule=gopher_short_doc")
    rejected, kept = page.split("Just rejected by it")[1].split("Just kept by it")
    values = [[float(v) for v in re.findall(r"value <bdi>([\d.]+)</bdi>", side)] for side in (rejected, kept)]
    assert values[0] == sorted(values[0], reverse=True)
    assert values[1] == sorted(values[1])
    assert max(values[0]) < 50 <= min(values[1])
    address = re.search(r'/doc/([^"]+)"', kept)[1]
    place = here.place(run, address)
    text = here.part(here.entry(run, "clean"), place.part, ["text"])["text"][place.row].as_py()
    words = text.split("\n")[0][:40]
    assert re.sub(r"<.*?>", "", kept).replace("&#39;", "'").replace("&#34;", '"').find(words) > 0


def test_hostile_text_is_escaped_in_the_list_of_borderline_documents(tmp_path):
    texts = ["</div><script>alert(1)</script>", "\u202eevil <img src=x onerror=alert(2)>", '"><svg onload=alert(3)>']
    write_jsonl(tmp_path / "bad.jsonl", [{"text": text, "id": text} for text in texts])
    settings = Settings(store=tmp_path / "store", workers=0)
    with session(settings, name="bad", recipe={}) as it:
        raw = run_stage(ingest, IngestParams(), Sources({"bad": Source(path=str(tmp_path / "bad.jsonl"))}))
        run_stage(drop_empty, NoParams(), run_stage(clean, CleanParams(), raw))
    client = TestClient(create_app(settings), base_url="http://127.0.0.1:8000")
    address = f"/run/{it.record['id']}/stage/drop_empty"
    page = settled(lambda: client.get(address), "Reading a sample", "hx-get")
    for said in (
        page,
        client.get(f"/run/{it.record['id']}/beginning/bad.0.0").text,
        client.get(address[:-10] + "ingest").text,
    ):
        assert "alert(1)" in said
        assert not re.search(r"<script>|<img|<svg onload|\u202e", said)
