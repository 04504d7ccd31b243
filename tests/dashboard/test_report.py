"""A report is one file that needs nothing else and says nothing of the machine that made it."""

import os
import re
from functools import lru_cache
from html.parser import HTMLParser

import pytest
from asking import settled
from made_store import MadeStore, documents, evaluated, figure, instruction, instructions, trained

from polylm.dashboard.errors import Missing
from polylm.dashboard.report import write_report
from polylm.deployments.settings import Settings

HOSTILE = '"><script src=//evil.example/x.js></script><a href="https://evil.example">\u202e'


class Seen(HTMLParser):
    """Tags, ids, attributes and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.attributes, self.text = set(), [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_data(self, data):
        self.text += data


seen_in = lru_cache(Seen)  # a report of every language has megabytes


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A small run of everything with hostile names, whose instructions came from a server of this machine."""
    made = MadeStore(tmp_path_factory.mktemp("reported") / "store")
    entries = documents(
        made, [("filter_text", HOSTILE)] * 4 + [None] * 9, texts=[HOSTILE] * 13, languages=[HOSTILE] * 13
    )
    entries += trained(made)
    tasks = {"en": [instruction("en", 0, instruction=HOSTILE, model="http://127.0.0.1:8123/v1/" + HOSTILE)]}
    entries += [instructions(made, tasks), evaluated(made, [figure(HOSTILE, note=HOSTILE)])]
    return made, made.run("x", entries)


@pytest.fixture(scope="module")
def made_report(store, tmp_path_factory):
    made, run = store
    file = write_report(Settings(store=made.root), run, tmp_path_factory.mktemp("out") / "report.html")
    return file.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def report(settings, run, tmp_path_factory):
    """The report of the third of the sample."""
    return write_report(settings, run.id, tmp_path_factory.mktemp("out") / "third.html").read_text(encoding="utf-8")


@pytest.fixture(params=["made_report", "report"])
def either(request):
    return request.getfixturevalue(request.param)


def test_every_link_is_an_anchor_of_something_in_it(either):
    seen = seen_in(either)
    links = [value for _, name, value in seen.attributes if name == "href"]
    assert links
    assert all(link.startswith("#") for link in links)
    assert {link[1:] for link in links} <= set(seen.ids)
    assert len(seen.ids) == len(set(seen.ids))


def test_nothing_is_loaded_sent_or_run(either):
    seen = seen_in(either)
    assert not seen.tags & {"script", "link", "img", "iframe", "form", "input", "button", "base", "object", "embed"}
    names = {name for _, name, _ in seen.attributes}
    assert not names & {"src", "srcset", "action", "style", "ping"}
    assert not [name for name in names if name.startswith(("on", "hx-", "data-"))]
    style = re.search(r"<style>(.*?)</style>", either, re.S)[1]
    assert "url(" not in style
    assert "@import" not in style


def test_it_names_no_place_of_the_machine(store, made_report, report, settings):
    made, _ = store
    assert str(made.root) not in made_report
    assert str(settings.store) not in report
    assert "127.0.0.1" not in made_report + report
    assert "a server on the machine of the run" in made_report


def test_names_of_others_are_text(made_report):
    assert "evil.example/x.js" in seen_in(made_report).text
    assert "\u202e" not in made_report


def test_it_holds_the_pages_of_the_run(made_report):
    contents = re.findall(r'<a href="#page-\d+">([^<]*)</a>', made_report.partition("</p>")[0])
    assert contents == [
        "Run",
        "identify language",
        "drop empty",
        "filter text",
        "train tokenizer",
        "Training",
        "Instructions",
        "Evaluation",
    ]


def test_it_holds_the_same_numbers_as_the_pages(report, here, run, client):
    text = seen_in(report).text
    assert f"{here.survivors(run):,}" in text
    assert "drop duplicates" in text
    page = settled(lambda: client.get(f"/run/{run.id}/stage/filter_text?language=all"), 'http-equiv="refresh"')
    shown = re.findall(r'<span title="documents that break it">alone <b>([\d,]+)</b>', page)
    assert shown
    assert shown == re.findall(r'<span title="documents that break it">alone <b>([\d,]+)</b>', report.partition("filter text <span")[2])[: len(shown)]  # fmt: skip


def test_it_waits_for_what_is_made_in_the_background(either):
    assert 'class="pending"' not in either
    assert "…" not in seen_in(either).text or "Counting" not in seen_in(either).text


def test_a_gate_whose_thresholds_differ_is_there_in_every_language(report, client, run):
    page = settled(lambda: client.get(f"/run/{run.id}/stage/filter_text"), 'http-equiv="refresh"')
    languages = re.findall(
        r'documents"[^>]*><bdi>(\w+)</bdi>', page.partition('class="choice"')[2].partition("</nav>")[0]
    )
    assert len(languages) > 12
    titles = re.findall(r'<a href="#page-\d+-\d+">([^<]*)</a>', report.partition("</p>")[0])
    assert titles == ["filter text (all):", *languages]
    assert report.count("documents in this language") == len(languages)


def test_languages_past_the_largest_are_left_out_and_that_is_said(monkeypatch, settings, run, tmp_path):
    monkeypatch.setattr("polylm.dashboard.report.LANGUAGES", 2)
    text = write_report(settings, run.id, tmp_path / "x.html").read_text(encoding="utf-8")
    titles = re.findall(r'<a href="#page-\d+-\d+">([^<]*)</a>', text.partition("</p>")[0])
    assert len(titles) == 3
    assert re.fullmatch(r"filter text \(all and the largest 2 of \d+ languages\):", titles[0])


def test_what_needs_a_server_is_not_in_it(either):
    for told in ("Ask the gate", "as in the run", "Move a threshold", "choose one to move", "can be moved here"):
        assert told not in seen_in(either).text


def test_every_section_leads_back_to_the_contents(either):
    sections = re.findall(r'<section id="page-[\d-]+">(.*?)</section>', either, re.S)
    assert sections
    assert all('<a href="#contents">' in section[:80] for section in sections)


def test_no_word_is_left_of_a_link_that_leads_nowhere(either):
    """Names and numbers stand for themselves; words that only lead elsewhere go with their link."""
    for word in (">borderline<", ">its documents<", ">Its documents<", ">prompt<", ">its prompt<", "params, parts and rows", "All candidates", "each leads to"):  # fmt: skip
        assert word not in re.sub(r"\s*(<[^>]*>)\s*", r"\1", either), word


def test_an_unknown_run_is_named(settings, tmp_path):
    with pytest.raises(Missing, match="no-such-run"):
        write_report(settings, "no-such-run", tmp_path / "x.html")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(settings, run, tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        write_report(settings, run.id, tmp_path / "none" / "x.html")


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a link to a pipe", "the folder itself"])
def test_what_is_there_and_no_file_is_neither_replaced_nor_written(store, tmp_path, kind):
    made, run = store
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    where = {"a folder": "folder", "a pipe": "pipe", "a link to a pipe": "link", "the folder itself": ""}[kind]
    with pytest.raises(ValueError, match="it is there and no file; give another with --out"):
        write_report(Settings(store=made.root), run, tmp_path / where)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link", "pipe"]


def test_a_link_to_a_file_stays_a_link(store, tmp_path):
    made, run = store
    (tmp_path / "there.html").write_text("old")
    (tmp_path / "link").symlink_to("there.html")
    assert write_report(Settings(store=made.root), run, tmp_path / "link") == tmp_path / "there.html"
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there.html").read_text(encoding="utf-8").startswith("<!doctype html>")
