"""A document's page shows what `clean` repaired, cut and masked, where it was; and its script, margin and declaration."""

import hashlib
import html
import json
import re
from types import SimpleNamespace

import pyarrow as pa
import pytest
import swedish
from fastapi.testclient import TestClient
from hypothesis import example, given
from hypothesis import strategies as st
from samples import MODEL, ODD_TEXTS, write_jsonl

from polylm.dashboard.app import create_app
from polylm.dashboard.cuts import agrees
from polylm.dashboard.shown_text import Record, in_place, record_of
from polylm.deployments.settings import Settings
from polylm.tasks.corpus.declared import CheckDeclaredParams, ReadDeclaredParams, check_declared, read_declared
from polylm.tasks.corpus.language import LanguageParams, identify_language
from polylm.tasks.documents.boilerplate import BoilerplateParams, count_lines
from polylm.tasks.documents.clean import CleanParams, clean, drop_empty
from polylm.tasks.documents.ingest import IngestParams, ingest
from polylm.tasks.documents.masks import KINDS
from polylm.tasks.documents.sources import Source, Sources
from polylm.tasks.run import File, adopt
from polylm.tasks.run import run as run_stage
from polylm.tasks.session import session
from polylm.tasks.stage import NoParams, Workspace

NAVIGATION = "Home | News | Contact us"
MAIL, PHONE, ADDRESS, ACCOUNT = "anna@berg.se", "+46 8 123 456 78", "8.8.8.8", "SE45 5000 0000 0583 9825 7466"
PERSONAL = f"Write to {MAIL} or ring {PHONE} today, please."
ALL = CleanParams(masks=KINDS, fix_mojibake=True, c4_lines=True)
LINES = (
    "This is a sentence of several words.", NAVIGATION, "", "http://only.an/address", PERSONAL, "no end", "{}", "\u200b ",
    f"The machine {ADDRESS} has the account {ACCOUNT} of {MAIL}.", "Det var inte fÃ¶r sent i kÃ¶ket, och det var kallt.",
    "w" * 1_200 + " stands before a sentence of words.", "Please enable javascript to see this page.",
    "  white   space\u00a0 is standardised,\tall of it. ", "漢字の文章です。", f"broken {MAIL[:4]}\u200b{MAIL[4:]} by nothing seen.",
)  # fmt: skip


def row_of_clean(text, params, folder, *, url="https://a.example/1", kind=None):
    """What `clean` makes of a text on a site that repeats its navigation."""
    pages = [text, *(f"{NAVIGATION}\nAnother page, number {n}." for n in range(3))]
    kinds = pa.array([kind] * 4, pa.string())
    rows = {"text": pa.array(pages), "url": pa.array([url, *(f"https://a.example/{n}" for n in "234")]), "kind": kinds}
    work = Workspace(folder, folder, folder)
    lines = count_lines([rows], BoilerplateParams(min_documents=3), work)
    return {name: pa.array(values)[0].as_py() for name, values in clean(rows, params, lines).items()}


def stays(shown):
    return "".join(piece.text for piece in shown if not piece.cut)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


@given(st.lists(st.sampled_from(LINES), max_size=9).map("\n".join))
@example("\n".join(LINES))
@example("\n".join(reversed(LINES)))
@pytest.mark.parametrize(
    "params", [ALL, CleanParams(masks=KINDS), CleanParams(c4_lines=True)], ids=["all", "masks", "c4"]
)
def test_what_stays_of_any_text_is_the_cleaned_text_with_its_stand_ins(scratch, params, text):
    row = row_of_clean(text, params, scratch)
    record = record_of(row)
    shown = in_place(text, params, record, row["text"] or "")
    assert agrees(shown, row["text"])
    assert sum("stands for" in piece.note for piece in shown) == row["masked"] == len(record.masks)
    gone = [one["text"] for one in record.lines if one["why"] in ("boilerplate", "c4")]
    cut = "".join("".join(piece.text for piece in shown if piece.cut).split())
    assert all("".join(line.split()) in cut for line in gone)


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_texts_are_shown_too(scratch, text):
    row = row_of_clean(text, ALL, scratch)
    assert agrees(in_place(text, ALL, record_of(row), row["text"] or ""), row["text"])


def test_every_kind_of_change_says_what_it_is(scratch):
    text = "\n".join(LINES[:10])
    row = row_of_clean(text, ALL, scratch)
    shown = in_place(text, ALL, record_of(row), row["text"])
    cuts = {piece.text.strip(): piece.cut for piece in shown if piece.cut}
    assert cuts["http://only.an/address"] == "a line of addresses only"
    assert cuts[NAVIGATION] == "a line that its site repeats"
    assert any("no end" in text for text, why in cuts.items() if why == "a line that C4 drops")
    notes = {piece.note: piece.text.strip() for piece in shown if piece.note}
    assert notes[f"stands for a phone number of {len(PHONE)} characters"] == "000-000-0000"
    assert notes[f"stands for an e-mail address of {len(MAIL)} characters"] == "email@example.com"
    assert notes[f"repaired; it read: {LINES[9]}"] == "Det var inte för sent i köket, och det var kallt."
    assert record_of(row).counts["masks"] == 5
    for secret in (MAIL, PHONE, ADDRESS, ACCOUNT):
        assert secret not in "".join(piece.text for piece in shown)


def test_a_record_without_all_lines_is_known_to_be_none(scratch):
    text = "\n".join(["A line that ends in nothing"] * 150)
    record = record_of(row_of_clean(text, CleanParams(c4_lines=True), scratch))
    assert record.more == 50
    assert not record.is_whole
    assert record_of({}) == Record()
    assert Record().is_whole


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A dashboard over Swedish pages of one site, one of them declared to be Danish, and one that is code."""
    if not MODEL.exists():
        pytest.skip(f"{MODEL} is not there: `make install` fetches it")
    folder = tmp_path_factory.mktemp("site")
    pages = [
        {"text": f"{NAVIGATION}\n{swedish.prose(n)}\nNummer {n}: {PERSONAL}", "url": f"https://a.example/{n}", "language": "sv"}
        for n in range(6)
    ]  # fmt: skip
    pages[1]["language"] = "da"
    pages.append({"text": f"def mail():\n    return '{MAIL}'", "kind": "code"})
    settings = Settings(store=folder / "store", workers=0, models=MODEL.parent)
    source = Sources({"site": Source(path=str(write_jsonl(folder / "site.jsonl", pages)))})
    with session(settings, name="site", recipe={}) as it:
        raw = run_stage(ingest, IngestParams(), source)
        lines = run_stage(count_lines, BoilerplateParams(min_documents=3), raw)
        docs = run_stage(clean, CleanParams(masks=KINDS), raw, lines)
        run_stage(drop_empty, NoParams(), docs)
        model = adopt(File(name=MODEL.name, sha256=hashlib.sha256(MODEL.read_bytes()).hexdigest()))
        language = run_stage(identify_language, LanguageParams(), docs, model)
        declared = run_stage(read_declared, ReadDeclaredParams(), raw, model)
        run_stage(check_declared, CheckDeclaredParams(), language, declared)
    app = create_app(settings)
    client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
    return SimpleNamespace(client=client, here=app.state.queries, id=it.record["id"])


def text_of(page):
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<.*?>", " ", page, flags=re.S)))


def test_the_page_shows_cuts_and_masks_in_place_and_in_a_table(site):
    page = site.client.get(f"/run/{site.id}/doc/site.0.0").text
    assert f'<del title="a line that its site repeats">{NAVIGATION}' in page
    assert f'<mark title="stands for an e-mail address of {len(MAIL)} characters">email@example.com</mark>' in page
    assert MAIL not in page
    assert PHONE not in page
    assert "lines that its site repeats 1, masks 2" in text_of(page)
    row = site.here.part("clean/" + site.here.run(site.id).entries("clean")[-1].artifact.partition("/")[2]).to_pylist()[
        0
    ]
    for mask in json.loads(row["cut"])[1:]:
        assert f"{mask['why']} {mask['start']:,} {mask['end']:,} {mask['was']}" in text_of(page)


def test_code_is_shown_as_it_stayed(site):
    page = site.client.get(f"/run/{site.id}/doc/site.0.6").text
    assert f"    return &#39;{MAIL}&#39;" in page
    assert "cannot be shown in place" not in page


def test_the_page_has_script_margin_and_declaration(site):
    text = text_of(site.client.get(f"/run/{site.id}/doc/site.0.1").text)
    table = site.here.part(site.here.run(site.id).entries("identify_language")[-1]).to_pylist()[1]
    margin = table["confidence"] - table["runner_up_confidence"]
    assert f"Margin {margin:.4g}" in text
    assert f"Runner-up {table['runner_up']} , confidence" in text
    assert "Script Latn , 100.0 % of its letters" in text
    assert "Declared da by its source, and found to be another" in text
    assert "Declared sv by its source" in text_of(site.client.get(f"/run/{site.id}/doc/site.0.0").text)


def test_the_page_of_languages_has_scripts_and_declarations_as_the_gate_has_them(site):
    while "Scripts" not in (page := site.client.get(f"/run/{site.id}/stage/identify_language").text):
        pass
    text = text_of(page)
    assert "83.3 % of 6 agree. check_declared rejects 1" in text
    assert "da sv 1" in text
    assert f'href="/run/{site.id}/search?gate=check_declared&amp;alone=1"' in page
    assert ">Latn<" in page
