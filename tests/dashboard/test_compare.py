"""Two runs compared: what differs is found, and what does not is not shown."""

import re
from types import SimpleNamespace

import pytest
from made_store import (
    MadeStore,
    documents,
    evaluated,
    figure,
    opened,
    rows_of,
)

from polylm.dashboard.comparison import flips
from polylm.tasks.maintenance.files import read_json, write_json

COUNT = 34  # documents, in four parts
HOSTILE = "<script>alert(1)</script>"
EMPTY, SHORT = ("drop_empty", "empty"), ("filter_text", "too_short")
FIRST = {2: EMPTY, 7: SHORT, 20: SHORT}
SECOND = {2: EMPTY, 7: EMPTY, 11: SHORT, 33: SHORT}  # 7 goes for another reason, 20 comes back, 11 and 33 go
LOST, GAINED = ["web.1.1", "web.3.3"], ["web.2.0"]


def verdicts(of):
    return [of.get(i) for i in range(COUNT)]


def waited(site, path):
    """The page once nothing is counted any more."""
    while 'class="pending"' in (page := site.client.get(path).text):
        pass
    return page


def flipped(page):
    """Addresses of shown documents in the first run, and which way they went."""
    return re.findall(r"state-\w+\">(lost|gained)</span>.*?<bdi>([a-z]+\.\d+\.\d+)</bdi></a> →", page)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Runs a and b over the same documents, and c over other files that hold most of them in another order."""
    made = MadeStore(tmp_path_factory.mktemp("compared") / "store")
    texts = [HOSTILE if i == 11 else f"text {i}" for i in range(COUNT)]
    figures = [
        figure("base", value=0.50),
        figure("base", language="th", value=0.50),
        figure("base", language="en", value=0.50),
    ]
    better = [
        figure("base", value=0.49),
        figure("base", language="th", value=0.60),
        figure("base", language="en", value=0.51),
    ]
    alarm = {"rule": "source_lost", "subject": "web", "message": "web lost <i>99 %</i>", "action": "ask"}
    alarm |= {"decision": {"approved": True, "reason": "known to be <i>bad</i>"}}
    recipe = {"sources": {"web": "a"}, "cutoffs": {"ceiling": 0.9, "head": 0.3}}
    other = {"sources": {"web": "a"}, "cutoffs": {"ceiling": 0.5, "head": 0.3}, "new": True}
    a = made.run("a", [*documents(made, verdicts(FIRST), texts=texts), evaluated(made, figures)], recipe=recipe)
    b = made.run("b", [*documents(made, verdicts(SECOND), texts=texts), evaluated(made, better)], recipe=other, alarms=[alarm])  # fmt: skip
    order = [33, 20, 7, 2, 11, 5]
    c = made.run("c", documents(made, [SECOND.get(i) for i in order], ids=[f"id-{i}" for i in order], source="files"))
    return SimpleNamespace(a=a, b=b, c=c, **vars(opened(made)))


@pytest.fixture(scope="module")
def page(site):
    return waited(site, f"/compare/{site.a}/{site.b}")


def test_only_params_that_differ_are_shown(page):
    rows = {row[0]: row[1:3] for row in rows_of(page.partition('id="documents"')[0].partition('id="params"')[2])}
    assert rows == {"Field": ["First", "Second"], "cutoffs.ceiling": ["0.9", "0.5"], "new": ["–", "True"]}


def test_params_have_the_description_that_their_stage_gives(tmp_path):
    made = MadeStore(tmp_path / "store")
    ran = [made.table("fit_quality_cutoffs", evaluation_like(), params={"ceiling": c}) for c in (0.9, 0.5)]
    a, b = (made.run(name, [entry], recipe={"cutoffs": {"ceiling": c}}) for name, entry, c in zip("ab", ran, (0.9, 0.5), strict=True))  # fmt: skip
    shown = waited(opened(made), f"/compare/{a}/{b}")
    assert "Share that stays; the worst of the tail go." in shown


def evaluation_like():
    import pyarrow as pa

    return pa.table({"language": ["en"], "ceiling": [1.0]})


def test_documents_are_counted_by_language_and_gate(page):
    rows = {row[0]: row for row in rows_of(page.partition('id="stages"')[0]) if row and row[0]}
    assert rows["all"] == ["all", "34", "34", "31", "30", "−1 −3.2 %"]
    assert rows["en"] == ["en", "17", "17", "15", "16", "+1 +6.7 %"]
    assert rows["th"] == ["th", "17", "17", "16", "14", "−2 −12.5 %"]
    assert rows["drop empty"][2:] == ["1", "2", "+1 +100.0 %"]
    assert rows["filter text"][2:] == ["2", "2", "·"]


def test_flipped_documents_of_the_same_files_are_found_by_their_place(page):
    assert "2 that the first kept are rejected in the second; 1 that it rejected is kept; of 34" in page
    assert flipped(page) == [("lost", "web.1.1"), ("gained", "web.2.0"), ("lost", "web.3.3")]


@pytest.mark.parametrize(("way", "expected"), [("lost", LOST), ("gained", GAINED)])
def test_flipped_documents_can_be_chosen_by_their_way(site, page, way, expected):
    assert [one for _, one in flipped(site.client.get(f"/compare/{site.a}/{site.b}?way={way}").text)] == expected


def test_the_reason_of_a_flip_is_that_of_the_run_that_rejects(site, page):
    found = flips(site.here, site.here.run(site.a), site.here.run(site.b), 0, 10)
    assert [(one.a, one.gate_a, one.gate_b, one.reason) for one in found.shown] == [
        ((1, 1), "", "filter_text", "too_short"),
        ((2, 0), "filter_text", "", "too_short"),
        ((3, 3), "", "filter_text", "too_short"),
    ]


def test_flipped_documents_are_paged(site, page):
    run_a, run_b = site.here.run(site.a), site.here.run(site.b)
    assert [flips(site.here, run_a, run_b, offset, 1).shown[0].a for offset in range(3)] == [(1, 1), (2, 0), (3, 3)]
    assert flips(site.here, run_a, run_b, 3, 1).shown == ()


def test_documents_of_other_files_are_matched_by_their_id(site):
    shown = waited(site, f"/compare/{site.a}/{site.c}")
    assert "of 6 documents that both have" in shown
    assert "matched by their id" in shown
    assert flipped(shown) == [("lost", "web.1.1"), ("gained", "web.2.0"), ("lost", "web.3.3")]
    assert re.search(r"web\.1\.1</bdi></a> → <a[^>]*><bdi>files\.0\.4<", shown)
    assert re.search(r"web\.3\.3</bdi></a> → <a[^>]*><bdi>files\.0\.0<", shown)


def test_stages_say_whether_their_content_is_the_same(page):
    rows = {row[0]: row[1] for row in rows_of(page.partition('id="stages"')[2])}
    assert {name: rows[name] for name in ("ingest", "clean", "drop empty", "filter text")} == {
        "ingest": "same",
        "clean": "same",
        "drop empty": "differs",
        "filter text": "differs",
    }


def test_figures_that_changed_are_means_and_sure_ones(page):
    rows = [row[3:] for row in rows_of(page.partition('id="evaluation"')[2]) if row[0] == "base"]
    assert rows == [["mean", "0.500", "0.490", "−0.010 ± 0.014"], ["th", "0.500", "0.600", "+0.100 ± 0.014"]]


def test_an_alarm_says_what_was_decided_about_it(page):
    alarm = page[page.index('id="alarms"') :]
    assert 'Second run: <span class="state state-approved">approved</span>' in alarm
    assert "<p>Approved: <bdi>known to be &lt;i&gt;bad&lt;/i&gt;</bdi></p>" in alarm
    assert ">ask<" not in alarm


def test_alarms_and_texts_are_escaped(page):
    assert "web lost &lt;i&gt;99 %&lt;/i&gt;" in page
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_run_is_the_same_as_itself(site):
    shown = waited(site, f"/compare/{site.a}/{site.a}")
    assert "both recipes are the same" in shown
    assert "0 that the first kept are rejected in the second; 0 that it rejected are kept" in shown
    assert "differs" not in shown


@pytest.mark.parametrize(("path", "status"), [("/compare/{a}/none", 404), ("/compare/none/{b}", 404), ("/compare/{a}/{b}?way=x", 400), ("/compare/{a}/{b}?page=0", 400)])  # fmt: skip
def test_what_there_is_not_is_refused(site, path, status):
    assert site.client.get(path.format(a=site.a, b=site.b)).status_code == status


def test_runs_that_have_judged_nothing_can_be_compared(tmp_path):
    made = MadeStore(tmp_path / "store")
    a, b = made.run("a", []), made.run("b", [], recipe={"x": 1})
    assert "Neither has judged documents yet" in waited(opened(made), f"/compare/{a}/{b}")


def named(site):
    """Runs of two recipes, the oldest first; what they are compared with is told from their names and times."""
    made = MadeStore(site)
    names = [("sample", "20261101"), ("corpus", "20261102"), ("sample", "20261103"), ("corpus", "20261104")]
    return [made.run(name, [], time=f"{day}T120000000") for name, day in names], opened(made).client


def chosen(page):
    return re.findall(r'<option value="([^"]*)" selected>', page)


def test_a_run_is_compared_with_the_one_of_its_recipe_before_it(tmp_path):
    """Whatever other recipes ran in between."""
    (first, corpus, third, last), client = named(tmp_path / "store")
    for second, before in ((third, first), (last, corpus)):
        answer = client.get(f"/compare?b={second}", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/compare/{before}/{second}")
        assert f'href="/compare?b={second}"' in client.get("/").text
    assert client.get("/compare", follow_redirects=False).headers["location"] == f"/compare/{corpus}/{last}"


def test_a_night_is_compared_with_the_run_that_it_tells_its_news_against(tmp_path):
    """And not with one over other sources that ran in between."""
    (night, _, between, last), client = named(tmp_path / "store")
    assert client.get(f"/compare?b={last}", follow_redirects=False).headers["location"].startswith("/compare/")
    path = tmp_path / "store" / "runs" / f"{between}.json"
    record = read_json(path)
    again = path.with_name(f"20991231T000000000-{record['name']}.json")
    write_json(again, {**record, "id": again.stem, "new": {"since": night, "sources": {}, "parts_gone": 0}})
    answer = client.get(f"/compare?b={again.stem}", follow_redirects=False)
    assert answer.headers["location"] == f"/compare/{night}/{again.stem}"


def test_both_runs_can_be_chosen_from_all_without_a_script(tmp_path):
    runs, client = named(tmp_path / "store")
    page = client.get(f"/compare/{runs[0]}/{runs[3]}").text
    assert chosen(page) == [runs[0], runs[3]]
    assert re.findall(r'<option value="([^"]*)"', page) == [*reversed(runs)] * 2
    assert '<form class="line compared" method="get" action="/compare">' in page
    answer = client.get(f"/compare?a={runs[2]}&b={runs[1]}")
    assert str(answer.url.path) == f"/compare/{runs[2]}/{runs[1]}"
    assert chosen(answer.text) == [runs[2], runs[1]]


def test_a_run_with_none_of_its_recipe_before_it_says_so_and_offers_the_others(tmp_path):
    runs, client = named(tmp_path / "store")
    answer = client.get(f"/compare?b={runs[1]}")
    assert answer.status_code == 200
    assert "No completed run of the recipe <bdi>corpus</bdi> is older" in answer.text
    assert chosen(answer.text) == [runs[1]]
    assert client.get("/compare?a=20200101T000000000-other").status_code == 404
    assert "no run yet" in opened(MadeStore(tmp_path / "empty")).client.get("/compare").text


def test_stages_of_one_name_are_told_apart(tmp_path):
    made = MadeStore(tmp_path / "store")
    entries = [made.folder("pretrain", fill(n), params={"segment": f"stage{n}"}) for n in (1, 2)]
    a, b = (made.run("a", entries, time=f"2026110{n}T120000000") for n in (1, 2))
    rows = [row[0] for row in rows_of(waited(opened(made), f"/compare/{a}/{b}").partition('id="stages"')[2])]
    assert rows == ["Stage", "pretrain: stage1", "pretrain: stage2"]


def fill(number):
    return lambda folder: (folder / "weights").write_text(str(number))
