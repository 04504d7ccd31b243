"""The search: by address, id, address on the web, words and filters, all of them in the page's address."""

import html
import re
from urllib.parse import urlencode

import pytest

from polylm.dashboard import search as searching
from polylm.dashboard.document import row_of
from polylm.dashboard.errors import BadRequest
from polylm.dashboard.pages.search import snippet
from polylm.dashboard.search import PAGE, Question, labels_of, search
from polylm.flows.reading import explain


def find(client, run, **asked):
    """The addresses that a search shows, its text, and where it goes on."""
    answer = client.get(f"/run/{run.id}/search?{urlencode(asked)}")
    assert answer.status_code == 200
    page = answer.text
    following = re.search(r'<a href="([^"]*)" rel="next">', page)
    addresses = re.findall(rf'<a href="/run/{run.id}/doc/([^"]*)"><b>', page)
    return addresses, page, html.unescape(following[1]) if following else None


def all_places(here, run, **asked):
    """Every document that is asked for, page after page."""
    places, after = [], ""
    while True:
        found = search(here, run, Question(**asked, after=after))
        places += found.places
        if found.after is None:
            return places
        after = here.address(run, *found.after)


def texts(here, run):
    """Every document's place and cleaned text."""
    entry = here.entry(run, "clean")
    for part, told in enumerate(here.manifest(entry).parts):
        for row, text in enumerate(here.part(entry, part, ["text"])["text"].to_pylist()):
            yield (part, row), text or ""
        assert row + 1 == told.rows


def test_words_are_found_whatever_their_case(here, run):
    expected = [place for place, text in texts(here, run) if "document" in text.lower()]
    assert len(expected) > 2 * PAGE
    assert all_places(here, run, q="DOCument") == expected


@pytest.mark.parametrize("words", ["ไม่", "的", "של", "في"])
def test_words_of_any_script_are_found(here, run, words):
    expected = [place for place, text in texts(here, run) if words in text]
    assert expected
    assert all_places(here, run, q=words) == expected


def test_nothing_asked_for_lists_all_documents(here, run):
    assert all_places(here, run) == [place for place, _ in texts(here, run)]


def test_an_id_and_an_address_on_the_web_find_their_document(client, here, run):
    place = here.place(run, "sample.1.3")
    known = row_of(here, run, "ingest", place, ["id", "url"])
    assert find(client, run, q=known["id"], by="id")[0] == ["sample.1.3"]
    assert find(client, run, q=known["id"][:-1], by="id")[0] == []
    assert "sample.1.3" in find(client, run, q=known["url"], by="url")[0]


def test_an_address_finds_its_document_whatever_it_is_searched_in(client, run):
    for by in ("words", "id", "url"):
        addresses, page, _ = find(client, run, q="sample.2.5", by=by)
        assert addresses[0] == "sample.2.5"
        assert "At this address" in page


@pytest.mark.parametrize(
    "asked", [{"language": "th"}, {"fate": "kept"}, {"fate": "rejected", "language": "en"}, {"reason": "gopher_short_doc"}, {"source": "sample", "language": "he"}, {"source": "other"}]
)  # fmt: skip
@pytest.mark.parametrize("words", ["", "e"])
def test_filters_are_those_of_the_gates(here, run, asked, words):
    expected = []
    for (part, row), text in texts(here, run):
        language, rejected = labels_of(here, run, part).told(row)
        fits = (
            asked.get("language") in (None, language)
            and asked.get("fate") in (None, "rejected" if rejected else "kept")
            and asked.get("reason") in (None, rejected and rejected[1])
            and asked.get("source") in (None, "sample")
        )
        if fits and words in text.lower():
            expected.append((part, row))
    assert all_places(here, run, q=words, **asked) == expected


def test_verdicts_are_those_of_polylm_why(here, run, settings):
    for part, row in [(0, 0), (0, 5), (3, 7), (5, 1)]:
        rejected = labels_of(here, run, part).told(row)[1]
        verdict = explain(settings, here.address(run, part, row), run.id)["verdict"]
        assert verdict == ("kept" if rejected is None else f"rejected by {rejected[0]}: {rejected[1]}")


def test_more_goes_on_behind_the_last_one_with_the_same_filters(client, here, run):
    addresses, _, following = find(client, run, q="the", fate="rejected", language="en")
    assert len(addresses) == PAGE
    assert f"after={addresses[-1]}" in following
    assert all(f"{name}=" in following for name in ("q", "fate", "language"))
    again = re.findall(rf'<a href="/run/{run.id}/doc/([^"]*)"><b>', client.get(following).text)
    assert again
    assert not set(again) & set(addresses)


def test_a_long_search_stops_and_goes_on_where_it_was(client, here, run, monkeypatch):
    monkeypatch.setattr(searching, "SCAN_SECONDS", 0.0)
    monkeypatch.setattr(searching, "BATCH_ROWS", 7)
    _, page, following = find(client, run, q="no text has this")
    assert "Stopped after 7 documents without a match" in page
    assert "Go on searching" in page
    assert "after=sample.0.6" in following
    expected = [place for place, text in texts(here, run) if "document" in text.lower()]
    assert all_places(here, run, q="document") == expected


def test_a_snippet_marks_the_match_and_escapes_the_rest():
    told = snippet("before <b> " + "x " * 200 + "The WORD <script>", "word")
    assert "<mark>WORD</mark> &lt;script&gt;" in told
    assert told.startswith("…")
    assert "<b>" not in told
    assert snippet("a (b", "(B") == "a <mark>(b</mark>"
    assert snippet("\u202eabc", "") == snippet("\u202eabc", "zz")
    assert "U+202E" in snippet("\u202eabc", "")


@pytest.mark.parametrize(
    "value", ["<script>alert(1)</script>", "' OR 1=1 --", "\u202e", "%", "\\", "(", "\x00", "../../etc/passwd", '"><img src=x>']
)  # fmt: skip
@pytest.mark.parametrize("name", ["q", "language", "reason", "source"])
def test_whatever_is_asked_for_is_text(client, run, name, value):
    for by in ("words", "id", "url"):
        addresses, page, _ = find(client, run, **{name: value, "by": by})
        assert "<script>alert" not in page
        assert "<img" not in page
        assert not addresses or value in ("%", "\\", "(", "../../etc/passwd")


@pytest.mark.parametrize(
    ("asked", "told"), [({"by": "sql"}, "words"), ({"fate": "maybe"}, "rejected"), ({"after": "x"}, "after"), ({"q": "x" * 201}, "200")]
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_with_what_can(client, run, asked, told):
    answer = client.get(f"/run/{run.id}/search", params=asked)
    assert answer.status_code == 400
    assert told in answer.text


def test_an_unknown_place_to_go_on_is_refused(here, run):
    with pytest.raises(BadRequest, match=r"after: .*sample\.0\.99999"):
        search(here, run, Question(after="sample.0.99999"))


def test_a_run_of_other_stages_can_be_searched_too(toy_store):
    toys = toy_store()
    answer = toys.client.get(f"/run/{toys.id}/search?q=x")
    assert answer.status_code == 200
    assert "Nothing was found" in answer.text
