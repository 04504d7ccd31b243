"""The page of training: its numbers are those of the tables, whether a training is finished or still at work."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from made_store import (
    SKIPPED,
    STEPS,
    MadeStore,
    at_work,
    key_of,
    opened,
    reference_bits,
    rows_of,
    step_metrics,
    train_params,
    trained,
    training_folder,
)

from polylm.dashboard.trainings import outliers, rows_by_cell, trainings_of
from polylm.dashboard.trainings import steps as steps_of
from polylm.model.metrics import RunLog

TOTAL = sum(STEPS.values())
SPIKE = SKIPPED[1]  # in the first segment, so counted as over all of them


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = MadeStore(tmp_path_factory.mktemp("trained") / "store")
    run = made.run("all", trained(made))
    return SimpleNamespace(made=made, path=f"/run/{run}/training", id=run, **vars(opened(made)))


@pytest.fixture
def live(tmp_path):
    """A run that is in its first segment, and the journal that the trainer writes."""
    made = MadeStore(tmp_path / "store")
    entries = trained(made, segments=())
    run = made.run("live", entries, state="running")
    log = RunLog(at_work(made, key_of(made, entries[-1])))
    return SimpleNamespace(made=made, log=log, path=f"/run/{run}/training", id=run, **vars(opened(made)))


def test_every_segment_has_its_line(site):
    rows = {row[0]: row for row in rows_of(site.client.get(site.path).text) if row[0] in STEPS}
    assert list(rows) == list(STEPS)
    for segment, steps in STEPS.items():
        assert rows[segment][2] == f"{steps} of {steps}"
        assert rows[segment][4] == f"{steps * 100:,}"
        assert rows[segment][5] == ("1" if segment == SKIPPED[0] else "0")
        assert rows[segment][7] == "200"


def test_a_skipped_step_is_listed_and_marked_in_the_curves(site):
    page = site.client.get(site.path).text
    (row,) = [row for row in rows_of(page) if row[0] == str(SPIKE)]
    assert row[1] == f"stage1 {SPIKE}"
    assert row[2] == "50"
    assert "loss spike" in row[4]
    assert page.count(f'class="threshold-label">{SPIKE}<') == 2  # loss and gradient norm


def test_steps_are_counted_over_all_segments(site):
    page = site.client.get(f"{site.path}?from=45&to=55").text
    assert f"Steps 45 to 55 of {TOTAL}" in page
    assert f'<td class="n">{SPIKE}</td>' not in page
    assert 'aria-label="Loss"' in page
    assert "<title>stage2</title>" in page  # its curve
    assert "<title>stage1</title>" not in page


def test_a_zoom_is_a_link(site):
    page = site.client.get(site.path).text
    link = re.search(r'href="([^"]*)"><bdi>stage2<', page.partition("</form>")[0])[1].replace("&amp;", "&")
    assert f"from={STEPS['stage1'] + 1}&to={STEPS['stage1'] + STEPS['stage2']}" in link
    assert "Steps 41 to 60" in site.client.get(link).text


def test_no_zoom_leads_past_the_ends(site):
    zooms = re.findall(r"<bdi>([^<]*)</bdi></a>", site.client.get(site.path).text.partition("</form>")[0])
    assert zooms[-2:] == ["first half of these", "last half of these"]
    for href, name in re.findall(
        r'href="([^"]*)"><bdi>([^<]*)</bdi>', site.client.get(f"{site.path}?from=30&to=50").text
    ):
        assert site.client.get(href.replace("&amp;", "&")).status_code == 200, name


@pytest.mark.parametrize("query", ["from=9&to=3", "from=-1", "to=1e3", "from=x", "to=99999999999999", "from=٣"])
def test_a_stretch_that_cannot_be_is_refused(site, query):
    assert site.client.get(f"{site.path}?{query}").status_code == 400


@pytest.mark.parametrize("query", ["from=&to=", "from=500&to=900", "log=1", "to=999999"])
def test_a_stretch_past_the_end_shows_the_end(site, query):
    assert site.client.get(f"{site.path}?{query}").status_code == 200


@pytest.mark.parametrize(("language", "ratio"), [("en", 3.0), ("th", 5.0)])
def test_bits_per_byte_are_nats_over_the_bytes_of_a_token(site, language, ratio):
    while 'class="pending"' in (page := site.client.get(f"{site.path}?from=41&to=60").text):
        pass
    first, last = reference_bits("stage2", language, ratio)
    shown = re.search(rf"<bdi>{language}</bdi></b> <small>(\S+) → (\S+) ", page)
    assert (float(shown[1]), float(shown[2])) == (pytest.approx(first, rel=1e-3), pytest.approx(last, rel=1e-3))


def test_a_name_of_a_segment_is_text(tmp_path):
    made = MadeStore(tmp_path / "store")
    name = '<img src=x onerror="alert(1)">\u202e'
    params = train_params(name, 5)
    run = made.run("x", [made.folder("pretrain", training_folder("stage1", 5, name=name), params=params)])
    page = opened(made).client.get(f"/run/{run}/training").text
    assert "<img" not in page
    assert "\u202e" not in page
    assert "&lt;img src=x" in page


def test_a_training_at_work_shows_the_steps_it_has_done(live):
    for step in range(1, 6):
        live.log.step(step_metrics("stage1", step))
    live.log.event("checkpoint", 4)
    page = live.client.get(live.path).text
    assert "5 of 40" in page
    assert "checkpoint" in page
    assert 'hx-trigger="every 5s"' in page


def test_what_it_writes_meanwhile_is_seen_at_the_next_look(live):
    live.log.step(step_metrics("stage1", 1))
    assert "1 of 40" in live.client.get(live.path).text
    live.log.step(step_metrics("stage1", 2, rows={"en/web": 4}))
    assert "2 of 40" in live.client.get(live.path).text
    (training,) = trainings_of(live.here, live.here.run(live.id))
    assert rows_by_cell(live.here, training) == {"en/web": 7, "th/web": 1}


def test_a_line_that_is_being_written_waits(live):
    live.log.step(step_metrics("stage1", 1))
    journal = live.made.root / "work" / ("a" * 64) / "scratch" / "training" / "metrics.jsonl"
    with journal.open("a") as file:
        file.write('{"step": 2, "loss": ')
    assert "1 of 40" in live.client.get(live.path).text


def test_a_journal_that_went_back_to_a_checkpoint_is_read_again(live):
    for step in range(1, 9):
        live.log.step(step_metrics("stage1", step))
    assert "8 of 40" in live.client.get(live.path).text
    live.log.rewind(3)
    live.log.step(step_metrics("stage1", 4, loss=1.0))
    assert "4 of 40" in live.client.get(live.path).text
    (training,) = trainings_of(live.here, live.here.run(live.id))
    assert steps_of(training)["loss"].to_pylist()[-1] == 1.0
    assert steps_of(training)["step"].to_pylist() == [1, 2, 3, 4]


def test_the_training_of_another_run_is_not_shown(tmp_path):
    made = MadeStore(tmp_path / "store")
    run = made.run("other", trained(made, segments=()), state="running")
    RunLog(at_work(made, "b" * 64)).step(step_metrics("stage1", 1))
    assert "has not come as far as training yet" in opened(made).client.get(f"/run/{run}/training").text


def test_a_run_without_training_says_so(tmp_path):
    made = MadeStore(tmp_path / "store")
    run = made.run("none", [], recipe={"flow": "corpus"})
    assert "it ends with the data stages" in opened(made).client.get(f"/run/{run}/training").text


def test_outliers_are_found_as_the_guard_would():
    generator = np.random.default_rng(1)
    values = generator.normal(3, 0.1, 400)
    values[[50, 200, 399]] = (5, 4.5, 4)
    values[120] = np.nan
    found = np.flatnonzero(outliers(values, deviations=6.0, window=64))
    expected = [i for i in range(16, 400) if _stands_out(values, i)]
    assert list(found) == sorted({*expected, 120})
    assert {50, 200, 399} <= set(found)


def _stands_out(values, i):
    """The same, slowly, with an unknown value counted as nothing."""
    before = np.nan_to_num(values[max(0, i - 64) : i])
    return values[i] > before.mean() + 6 * before.std(ddof=1)
