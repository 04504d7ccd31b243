"""The page of one document: it says what the gates say, and shows any text."""

import html
import re
from dataclasses import replace

import pyarrow as pa
import pytest
from asking import first, text_of
from fastapi.testclient import TestClient
from samples import ODD_TEXTS, write_jsonl

from polylm.dashboard.app import create_app
from polylm.dashboard.cuts import agrees, counted_lines, marked, pieces
from polylm.dashboard.document import Verdict, is_off, jobs_of, judge, ordered, script_of
from polylm.dashboard.training_trace import packed_rows
from polylm.dashboard.word_diff import word_diff
from polylm.deployments.settings import Settings
from polylm.flows.everything import start
from polylm.flows.reading import explain
from polylm.kernels import clean_text
from polylm.tasks.documents.clean import CleanParams

HOSTILE = (
    "<script>alert(1)</script> & \"quotes' <img src=x onerror=alert(2)>\nan innocent line\n",
    "left to right \u202eevil\u202c and \u2066isolated\u2069, a\x00b, \ufeffmark",
    "x" * 1_000_000,
    "http://only.an/address\nkept https://with.words/ here\n" + "w" * 1_500 + " after it",
    *ODD_TEXTS,
)


@pytest.mark.parametrize(
    "asked", [{"fate": "kept"}, {"reason": "short_line_ratio"}, {"reason": "unsure_language"}, {"language": "th"}, {"language": "ar"}]
)  # fmt: skip
def test_the_page_says_what_polylm_why_says(client, here, run, settings, asked):
    place = first(here, run, **asked)
    told = explain(settings, place.address, run.id)
    page = client.get(f"/run/{run.id}/doc/{place.address}").text
    rows = re.findall(r"<tr><td class=\"side\">.*?</tr>", page, re.S)
    assert len(rows) == len(told["rules"])
    assert [len(re.findall("state-failed", row)) for row in rows].count(1) == sum(
        rule["verdict"] == "broken" for rule in told["rules"]
    )
    broken = [rule for rule in told["rules"] if rule["verdict"] == "broken"]
    sentence = text_of(page[page.index('class="verdict"') :])
    if broken:
        gate, rule = (broken[0][name].replace("_", " ") for name in ("gate", "rule"))
        assert told["verdict"] == f"rejected by {broken[0]['gate']}: {broken[0]['rule']}"
        assert f"Rejected by {gate} because of {rule}" in sentence
    else:
        assert "Kept: none of the" in sentence


def test_a_rule_that_is_switched_off_says_so_and_not_that_it_holds(client, here, run):
    place = first(here, run, fate="kept", language="en")
    jobs, _ = jobs_of(here, run, place)
    verdict = judge(here, jobs, place)
    off = Verdict([replace(verdict.answers[-1], bound=None, margin=None, verdict="off"), *verdict.answers[:-1]])
    assert off.off == off.answers[:1]
    ranks = ["off" if is_off(one) else one.verdict[:5] for one in ordered(off.answers)]
    assert ranks == sorted(ranks, key=["broke", "holds", "off", "not j"].index)
    assert not is_off(replace(off.answers[0], verdict="not judged: x is null"))


def test_the_page_counts_rules_that_are_off_by_themselves(client, here, run):
    """In a language without derived or published thresholds of its own some are."""
    for language in ("th", "ja", "zh", "he", "ar"):
        place = first(here, run, language=language)
        page = client.get(f"/run/{run.id}/doc/{place.address}").text
        rows = re.findall(r"<tr><td class=\"side\">.*?</tr>", page, re.S)
        told = [row for row in rows if ">off</bdi>" in row]
        holds = sum(">holds</bdi>" in row for row in rows)
        said = text_of(page[page.index('id="rules"') :])
        assert f" {holds} hold, " in said
        assert (f"{len(told)} {'is' if len(told) == 1 else 'are'} off in {language}" in said) == bool(told)
        assert not [
            row for row in rows if ">holds</bdi>" in row and '<td class="n">–</td>\n<td class="n">–</td>' in row
        ]


def test_facts_are_text_and_no_link_leaves_the_machine(client, here, run):
    place = first(here, run, fate="kept")
    page = client.get(f"/run/{run.id}/doc/{place.address}").text
    assert "deb://" in page or "pip://" in page
    assert {link for link in re.findall(r'(?:href|src|action)="(.*?)"', page) if not re.match("/|#|$", link)} == set()


def test_wrong_addresses_are_a_page_that_says_so(client, run):
    for address in (
        "nothing",
        "sample.0",
        "sample.999999.0",
        "sample.0.999999",
        "other.0.0",
        "sample.-1.0",
        "%00",
        "'.0.0",
    ):
        answer = client.get(f"/run/{run.id}/doc/{address}")
        assert answer.status_code == 404
        assert "document" in answer.text
    for rest in ("let-in/99", "let-in/-1", "refit/99"):
        place = "sample.0.0"
        assert client.get(f"/run/{run.id}/doc/{place}/{rest}").status_code == 404
    assert client.get(f"/run/{run.id}/doc/sample.0.0?beside=nothing.0.0").status_code == 404
    assert client.get(f"/run/{run.id}/doc/sample.0.00").status_code == 404, "a document has one address"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A client of a run over texts that attack or are odd, and the run's id."""
    folder = tmp_path_factory.mktemp("hostile")
    records = [
        {"text": text, "id": f"<i>{n}</i>\u202e", "url": "javascript:alert(3)"} for n, text in enumerate(HOSTILE)
    ]
    file = write_jsonl(folder / "hostile.jsonl", records)
    settings = Settings(store=folder / "store", workers=0)
    changes = ['wanted.languages=["en", "und"]']
    start("corpus", settings, sources=[f"bad={file}"], changes=changes, until="drop_duplicates")
    app = create_app(settings)
    client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
    return client, app.state.queries.runs()[0].id


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_text_is_escaped_and_shown(hostile, number):
    client, run = hostile
    answer = client.get(f"/run/{run}/doc/bad.0.{number}")
    assert answer.status_code == 200
    page = answer.text
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "<i>" not in page
    assert "\u202e" not in page
    assert "\x00" not in page
    assert not re.search('href="javascript', page)
    shown = page[page.index('class="prose doc-text"') :]
    for word in HOSTILE[number][:10_000].split():
        if word.isalnum() and len(word) < 50:
            assert html.escape(word) in shown


def test_a_long_text_is_cut_until_all_of_it_is_asked_for(hostile):
    client, run = hostile
    short = client.get(f"/run/{run}/doc/bad.0.2").text
    assert len(short) < 100_000
    assert "Show all 1,000,000" in short
    assert len(client.get(f"/run/{run}/doc/bad.0.2?text=whole").text) > 1_000_000
    assert client.get(f"/run/{run}/doc/bad.0.2?text=x").status_code == 400


def test_what_clean_cut_is_struck_out(hostile):
    client, run = hostile
    page = client.get(f"/run/{run}/doc/bad.0.3").text
    cut = re.findall(r'<del title="(.*?)">(.*?)</del>', page)
    assert ("a line of addresses only", "http://only.an/address") in cut
    assert ("an over-long word", "w" * 1_500) in cut
    assert "https://with.words/" not in "".join(text for _, text in cut)


@pytest.mark.parametrize(
    "text", [*HOSTILE, "漢字" + "x" * 1_100 + "漢字 z", "a\u200bb\n\n\n\nhttp://a.b http://c.d\nc", "\n \n"]
)
def test_what_stays_of_a_text_is_the_cleaned_text(text):
    shown = pieces(text, CleanParams())
    cleaned = clean_text.clean(pa.array([text]), max_word_chars=1_000, drop_url_lines=True).texts[0].as_py()
    assert agrees(shown, cleaned)
    assert "".join("".join(piece.text for piece in shown).split()) == "".join(text.split())


def test_lines_that_a_rule_counts_are_marked():
    text = "a line of words\nother\na line of words\n- bullet\n\nother"
    counted = counted_lines(text, "en", [], ["dup_line_frac", "gopher_too_many_bullets", "unknown"])
    assert counted == {2: ["dup_line_frac"], 3: ["gopher_too_many_bullets"], 5: ["dup_line_frac"]}
    shown = marked(pieces("http://cut.me/\n" + text, CleanParams()), text, counted)
    assert [piece.text.strip() for piece in shown if piece.marks] == ["a line of words", "- bullet", "other"]


def test_a_diff_has_all_words_and_marks_those_of_one_side():
    found = word_diff("the same one here", "the same two here")
    assert [piece.text for piece in found.left if piece.kind == "only"] == ["one"]
    assert [piece.text for piece in found.right if piece.kind == "only"] == ["two"]
    thai = word_diff("ภาษาไทยดี", "ภาษาจีนดี")
    assert "".join(piece.text for piece in thai.right) == "ภาษาจีนดี"
    assert any(piece.kind == "same" for piece in thai.left)


def test_long_stretches_that_are_equal_are_cut_short():
    found = word_diff("word " * 500 + "one", "word " * 500 + "two")
    same = found.left[0]
    assert same.left_out == 500 * 5 - len(same.text) - len(same.end)


@pytest.mark.parametrize(
    ("text", "script"), [("Hello", "Latin"), ("שלום", "Hebrew"), ("漢字です", "CJK"), ("1, 2", ""), (None, "")]
)
def test_names_the_script_of_most_letters(text, script):
    assert script_of(text) == script


def test_a_run_without_packed_rows_says_so(client, here, run):
    place = first(here, run, fate="kept")
    assert packed_rows(here, run, place) == []
    assert "packed no rows" in client.get(f"/run/{run.id}/doc/{place.address}").text
