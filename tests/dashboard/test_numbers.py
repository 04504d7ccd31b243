"""Numbers on pages lead to the documents that they count."""

import random
import re
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest
from made_store import MadeStore, documents, opened
from samples import wait_until

from polylm.dashboard.links import NO_LABEL, documents_url
from polylm.dashboard.search import Question, search
from polylm.tasks.stage import REASON

LINKED = re.compile(r'<a href="([^"]*/search[^"]*)">(?:<text[^>]*>)?−?([\d,]+)(?:</text>)?</a>')


def whole(client, path, unlike="hx-get"):
    """A page once nothing on it is counted any more."""
    pages = [client.get(path).text]
    wait_until(lambda: unlike not in pages[-1] or pages.append(client.get(path).text), 60)
    return pages[-1]


def listed(here, run, address):
    """How many documents the search at an address lists, over all of its pages."""
    query = {name: values[0] for name, values in parse_qs(urlsplit(unescape(address)).query).items()}
    asked = {**query, "alone": query.get("alone") == "1"}
    count, after = 0, ""
    while True:
        found = search(here, run, Question(**asked, after=after))
        count += len(found.places)
        if found.after is None:
            return count
        after = here.address(run, *found.after)


def checked(here, run, page, some=40):
    links = LINKED.findall(page)
    for address, number in random.Random(7).sample(links, min(some, len(links))):
        assert listed(here, run, address) == int(number.replace(",", "")), address
    return [unescape(address) for address, _ in links]


def test_every_number_of_a_runs_tables_leads_to_its_documents(client, here, run):
    addresses = checked(here, run, whole(client, f"/run/{run.id}"))
    queries = [parse_qs(urlsplit(address).query) for address in addresses]
    gates = {gate for query in queries for gate in query.get("gate", ())}
    assert {"keep_sure", "filter_text", "filter_quality"} <= gates
    assert {"en", "th"} <= {name for query in queries for name in query.get("language", ())}
    assert any("alone" in query for query in queries)  # in the table of stages
    assert any(query.get("fate") == ["kept"] for query in queries)


@pytest.mark.parametrize("language", ["en", "all"])
def test_what_a_rule_rejects_first_is_listed_from_the_page_of_its_gate(client, here, run, language):
    page = whole(client, f"/run/{run.id}/stage/filter_text?language={language}", "a sample of")
    assert len(checked(here, run, page, 12)) > 4


def test_rows_of_a_table_are_linked_and_folders_have_none(client, run):
    page = client.get(f"/run/{run.id}").text
    assert f'href="/run/{run.id}/stage/clean?as=table#rows"' in page
    assert f"/run/{run.id}/stage/train_classifier?as=table" not in page


@pytest.fixture
def twice_rejected(tmp_path):
    """Thirty documents: the second gate rejects ten, of which the first has taken five; two have no label."""
    made = MadeStore(tmp_path / "store")
    first = [("drop_empty", "empty") if i < 5 else ("filter_text", "short") if i < 10 else None for i in range(30)]
    languages = [None if i in (4, 29) else ("en", "th")[i % 2] for i in range(30)]
    entries = documents(made, first, languages=languages)
    (text,) = [entry for entry in entries if entry["stage"] == "filter_text"]
    import pyarrow as pa

    verdicts = pa.array(["short" if i < 10 else None for i in range(30)]).cast(pa.dictionary(pa.int8(), pa.string()))
    table = pa.table({REASON: verdicts})
    own = made.rows("filter_text", [table.slice(start, 10) for start in (0, 10, 20)])
    entries = [own if entry is text else entry for entry in entries]
    site = opened(made)
    site.run = site.here.run(made.run("twice", entries))
    return site


@pytest.mark.parametrize("words", ["", "text of"])  # from labels, and reading texts
def test_a_gate_alone_and_a_gate_first_are_different_documents(twice_rejected, words):
    here, run = twice_rejected.here, twice_rejected.run

    def places(**asked):
        return [part * 10 + row for part, row in search(here, run, Question(q=words, **asked)).places]

    assert places(gate="filter_text") == [5, 6, 7, 8, 9]
    assert places(gate="filter_text", alone=True) == list(range(10))
    assert places(gate="filter_text", alone=True, reason="short") == list(range(10))
    assert places(gate="filter_text", reason="empty") == []
    assert places(reason="short") == [5, 6, 7, 8, 9]
    assert places(reason="short", alone=True) == list(range(10))
    assert places(gate="drop_empty", fate="kept") == []
    assert places(gate="no_such_gate") == []


@pytest.mark.parametrize("words", ["", "text of"])
def test_documents_without_a_label_can_be_asked_for(twice_rejected, words):
    found = search(twice_rejected.here, twice_rejected.run, Question(q=words, language=NO_LABEL)).places
    assert found == [(0, 4), (2, 9)]
    assert documents_url(twice_rejected.run, language="").endswith("language=no+label")


def test_the_form_holds_what_was_asked_for(twice_rejected):
    run = twice_rejected.run
    page = twice_rejected.client.get(documents_url(run, gate="filter_text", reason="short", alone=True)).text
    assert '<option value="filter_text" selected>' in page
    assert '<option value="short" selected>' in page
    assert '<option value="empty"' not in page  # of another gate
    assert 'name="alone" value="1" checked' in page
