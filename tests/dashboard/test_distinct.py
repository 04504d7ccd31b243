"""Stages that a run has several times: what tells them apart comes from their params, else from what they read."""

import re
from types import SimpleNamespace

import pytest
from made_store import MadeStore, opened

from polylm.dashboard.distinct import apart


@pytest.fixture
def made(tmp_path):
    return MadeStore(tmp_path / "store")


def folder(made, stage, content, *, params=None, reads=()):
    return made.folder(stage, lambda work: (work / "file").write_text(content), params=params, reads=[one["artifact"] for one in reads])  # fmt: skip


def told(made, entries):
    """What stands beside each stage, in the order of the run."""
    site = opened(made)
    run = site.here.run(made.run("run", entries))
    return SimpleNamespace(run=run, names=[apart(site.here, run).get(entry.artifact) for entry in run.stages], **vars(site))  # fmt: skip


def test_a_text_that_differs_is_the_name(made):
    """Rather than a number, and the shortest of several."""
    params = [{"segment": f"s{n}", "steps": n, "note": f"a longer text {n}", "same": "x"} for n in (1, 2)]
    assert told(made, [folder(made, "anything", str(n), params=one) for n, one in enumerate(params)]).names == ["s1", "s2"]  # fmt: skip


def test_a_list_of_texts_is_a_name_too(made):
    params = [{"models": ["untrained"]}, {"models": ["base", "tuned"]}]
    assert told(made, [folder(made, "anything", "", params=one) for one in params]).names == ["untrained", "base, tuned"]  # fmt: skip


def test_a_number_is_told_with_its_name(made):
    params = [{"at": {"steps": n}} for n in (5, 7)]
    assert told(made, [folder(made, "anything", "", params=one) for one in params]).names == ["at.steps 5", "at.steps 7"]  # fmt: skip


def test_equal_params_are_told_apart_by_what_was_read(made):
    first = folder(made, "begin", "")
    trained = [folder(made, "train", str(n), params={"segment": f"stage{n}"}, reads=[first]) for n in (1, 2)]
    written = [folder(made, "write", str(n), params={"title": "x"}, reads=[one, first]) for n, one in enumerate([first, *trained[1:]])]  # fmt: skip
    assert told(made, [first, *trained, *written[1:], folder(made, "write", "last", params={"title": "x"}, reads=[trained[0], first])]).names == [None, "stage1", "stage2", "from train stage2", "from train stage1"]  # fmt: skip


def test_what_nothing_tells_apart_is_numbered(made):
    assert told(made, [folder(made, "write", str(n)) for n in range(3)]).names == ["1", "2", "3"]


def test_the_page_of_a_run_and_of_a_stage_say_which_it_is(made):
    site = told(made, [folder(made, "write", str(n), params={"segment": f"stage{n}"}) for n in (1, 2)])
    page = site.client.get(f"/run/{site.run.id}").text
    for n in (1, 2):
        assert re.search(rf"<title>write: stage{n}: built", page)  # in the graph
        assert f"<bdi>write: stage{n}</bdi></a></th>" in page  # in the table
    page = site.client.get(f"/run/{site.run.id}/stage/write").text
    assert re.search(
        r"This run has 2 of it:\s+<a href=\"[^\"]*\"><bdi>stage1</bdi></a> · <b><bdi>stage2</bdi></b>", page
    )


def test_a_damaged_manifest_leaves_the_others_their_pages(made):
    entries = [folder(made, "write", str(n), params={"segment": f"stage{n}"}) for n in (1, 2)]
    (path, _) = sorted((made.root / "artifacts/write").glob("*.json"))
    path.write_text("[]")
    assert told(made, entries).names == ["1", "2"]
