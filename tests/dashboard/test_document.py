"""The page of one document: it says what the gates say, shows any text, and what it suggests does keep the document."""

import html
import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pyarrow as pa
import pytest
from asking import settled
from fastapi.testclient import TestClient
from samples import ODD_TEXTS, write_jsonl

from polylm.dashboard.app import create_app
from polylm.dashboard.consequences import alike_with, let_in
from polylm.dashboard.cuts import agrees, counted_lines, marked, pieces
from polylm.dashboard.document import Verdict, cluster_of, is_off, jobs_of, judge, ordered, row_of, script_of
from polylm.dashboard.keeping import advice_on, outward
from polylm.dashboard.recipe_fields import changed, set_words
from polylm.dashboard.refit import can_refit, refit
from polylm.dashboard.search import Question, search
from polylm.dashboard.training_trace import packed_rows
from polylm.dashboard.word_diff import word_diff
from polylm.deployments.settings import Settings
from polylm.flows.everything import start
from polylm.flows.reading import explain
from polylm.flows.recipe_options import resolve
from polylm.kernels import clean_text
from polylm.tasks.documents.clean import CleanParams
from polylm.tasks.stage import REASON
from polylm.tasks.why import why

HOSTILE = (
    "<script>alert(1)</script> & \"quotes' <img src=x onerror=alert(2)>\nan innocent line\n",
    "left to right \u202eevil\u202c and \u2066isolated\u2069, a\x00b, \ufeffmark",
    "x" * 1_000_000,
    "http://only.an/address\nkept https://with.words/ here\n" + "w" * 1_500 + " after it",
    *ODD_TEXTS,
)


def first(here, run, **asked):
    """The first document that is asked for."""
    places = search(here, run, Question(**asked)).places
    assert places, f"the sample has none of {asked}"
    return here.place(run, here.address(run, *places[0]))


def text_of(page):
    """What a reader sees of a page, on one line."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<.*?>", "", page, flags=re.S)))


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


def test_every_suggested_change_keeps_the_document(here, run):
    seen, whole = set(), 0
    for reason in {reason for gate in run.stages for reason in gate.reasons}:
        for part, row in search(here, run, Question(reason=reason)).places[:3]:
            place = here.place(run, here.address(run, part, row))
            jobs, _ = jobs_of(here, run, place)
            advice = advised(here, run, place)
            assert [change.rule for change in advice.changes] == [a.rule for a in judge(here, jobs, place).broken]
            again = [replace(job, params=moved(job, entry, advice)) for entry, job in jobs]
            broken = {answer.rule for answer in why(again, place.row, here.store) if answer.verdict == "broken"}
            assert broken == {change.rule for change in advice.changes if not change.changes}
            assert advice.is_kept == (not broken)
            seen |= {change.rule for change in advice.changes if change.changes}
            whole += advice.is_kept
    assert len(seen) > 5
    assert whole > 5


def test_the_words_say_to_a_recipe_what_the_gates_were_asked(here, run):
    place = first(here, run, reason="gopher_short_doc")
    jobs, _ = jobs_of(here, run, place)
    advice = advised(here, run, place)
    recipe = resolve("sample", changes=advice.words)
    (text,) = [moved(job, entry, advice) for entry, job in jobs if entry.stage == "filter_text"]
    assert recipe.text == text


def test_an_unwanted_language_is_added_to_the_list(twins):
    here, run = twins.here, twins.run
    place = first(here, run, reason="unwanted_language")
    advice = advised(here, run, place)
    (change,) = [change for change in advice.changes if change.rule == "unwanted_language"]
    assert resolve("sample", changes=change.words).wanted.languages[-1] == change.value
    assert "filter_text" in advice.unseen  # it was never measured, so nobody can promise
    asked = f"/run/{run.id}/doc/{place.address}"
    page = text_of(settled(lambda: twins.client.get(asked), "Reading the verdicts"))
    assert "none of those that have judged it rejects it" in page
    assert "or find that it is a duplicate: it was compared with no other document" in page
    assert "It was not compared with others" in page
    assert "at most 0, which filter text, filter quality have not judged" in page


def test_how_many_others_a_change_lets_in_is_what_the_gates_say(here, run):
    place = first(here, run, reason="gopher_below_alpha_threshold")
    jobs, _ = jobs_of(here, run, place)
    change = advised(here, run, place).changes[0]
    found = let_in(here, [entry for entry, _ in jobs], [change], place)
    passing = kept = 0
    for part in range(len(here.manifest(change.entry).parts)):
        own, _ = jobs_of(here, run, here.place(run, here.address(run, part, 0)))
        (job,) = [job for entry, job in own if entry == change.entry]
        params = type(job.params).model_validate(changed(job.params.model_dump(mode="json"), change.changes))
        others = [job for entry, job in own if entry != change.entry]
        for row, reason in enumerate(here.part(change.entry, part, [REASON])[REASON].to_pylist()):
            if reason is None or (part, row) == (place.part, place.row):
                continue
            if not any(a.verdict == "broken" for a in why([replace(job, params=params)], row, here.store)):
                passing += 1
                kept += not any(a.verdict == "broken" for a in why(others, row, here.store))
    assert (found.passing, found.kept) == (passing, kept)
    assert found.judged == found.documents == here.documents(run)


def test_how_many_others_all_changes_let_in_is_what_the_gates_say_with_all_of_them(here, run):
    places = [here.place(run, here.address(run, *at)) for at in search(here, run, Question(fate="rejected")).places]
    all_advice = ((place, advised(here, run, place)) for place in places)
    place, advice = next(
        (place, one) for place, one in all_advice if sum(map(bool, (c.changes for c in one.changes))) > 1
    )
    jobs, _ = jobs_of(here, run, place)
    found = let_in(here, [entry for entry, _ in jobs], advice.changes, place)
    moving = {change.entry.artifact for change in advice.changes if change.changes}
    kept = 0
    for part in range(len(here.manifest(jobs[0][0]).parts)):
        own, _ = jobs_of(here, run, here.place(run, here.address(run, part, 0)))
        before = [job for entry, job in own if entry.artifact in moving]
        after = [replace(job, params=moved(job, entry, advice)) for entry, job in own]
        for row in range(here.manifest(jobs[0][0]).parts[part].rows):
            if (part, row) != (place.part, place.row) and is_broken(before, row, here):
                kept += not is_broken(after, row, here)
    assert found.kept == kept
    alone = [let_in(here, [e for e, _ in jobs], [one], place).kept for one in advice.changes if one.changes]
    assert found.kept >= max(alone)


def test_a_fitted_bound_is_moved_by_fitting_again(here, run):
    place = first(here, run, reason="unsure_language")
    (change,) = [c for c in advised(here, run, place).changes if c.rule == "unsure_language"]
    assert not change.changes
    assert can_refit(here, change)
    found = {one.path: one for one in refit(here, run, change, place)}
    assert found["highest"].value <= change.value < found["highest"].before
    assert found["highest"].words == (f"floors.highest={found['highest'].value}",)
    language = row_of(here, run, "identify_language", place, ["language"])["language"]
    own = found[f"own.{language}"]
    assert own.words == (f"floors.own.{language}={own.value}",)
    assert own.value <= change.value < own.before
    assert own.others <= found["highest"].others, "it moves the bound of one language"


def test_the_fragments_say_how_far_they_are(client, here, run):
    place = first(here, run, reason="gopher_short_doc")
    where = f"/run/{run.id}/doc/{place.address}/let-in/0"
    part = settled(lambda: client.get(where, headers={"HX-Request": "true"}), "Reading")
    assert re.search(r"\d+ that no gate rejects then", part)
    assert "<html" not in part
    assert "<html" in client.get(where).text


SWEDISH = "Det var en gång en liten flicka som bodde i ett hus långt inne i skogen, och hon var alltid glad. " * 3


@pytest.fixture(scope="module")
def twins(here, run, tmp_path_factory):
    """A run over documents that the sample keeps, one of them with a longer and an equal twin, and a Swedish one."""
    folder = tmp_path_factory.mktemp("twins")
    kept = [
        here.place(run, here.address(run, *place))
        for place in search(here, run, Question(fate="kept", language="en")).places[:8]
    ]
    texts = [row_of(here, run, "ingest", place, ["text"])["text"] for place in kept]
    long = max(texts, key=len)
    told = [*texts, f"{long}\nThis was added later, and nobody knows why.", long, SWEDISH]
    file = write_jsonl(folder / "twins.jsonl", [{"text": text} for text in told])
    settings = Settings(store=folder / "store", workers=0)
    start("corpus", settings, sources=[f"twins={file}"], until="drop_duplicates")
    app = create_app(settings)
    client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
    queries = app.state.queries
    return SimpleNamespace(
        client=client, here=queries, run=queries.runs()[0], settings=queries.settings, long=texts.index(long)
    )


def test_a_duplicate_shows_its_keeper_and_what_differs(twins):
    here, run = twins.here, twins.run
    for place in (here.place(run, f"twins.0.{twins.long}"), here.place(run, "twins.0.9")):
        cluster = cluster_of(here, run, place)
        assert (cluster.size, cluster.keeper) == (3, "twins.0.8")
        assert [member.address for member in cluster.members] == sorted(
            [f"twins.0.{twins.long}", "twins.0.8", "twins.0.9"]
        )
        page = twins.client.get(f"/run/{run.id}/doc/{place.address}").text
        assert "Rejected by drop duplicates" in page
        assert explain(twins.settings, place.address, run.id)["verdict"] == "rejected by drop_duplicates: duplicate"
        assert f'href="/run/{run.id}/doc/twins.0.8"' in page
        assert "Beside twins.0.8" in page
        assert "<ins>" in page
        assert "clusters.min_similarity=" in page
    page = twins.client.get(f"/run/{run.id}/doc/twins.0.8").text
    assert "Kept: none of the" in page
    assert "this one is kept" in page
    assert f"Beside twins.0.{twins.long}" in page


def too_short(words, lines):
    """Two texts that are alike, both too short, the first with fewer words."""
    return [" ".join(words[:count]).rstrip(".,") + "." for count in (44, 48)], (0, 1)


def repeating(words, lines):
    """A text that is kept, and the same with one line again and again at its end."""
    return ["\n".join(lines), "\n".join([*lines, *4 * [max(lines, key=len)]])], (1,)


@pytest.fixture(scope="module")
def alike(here, run, tmp_path_factory):
    """A run over two documents that are alike, of which options would keep those that are rejected: makes one."""

    def make(texts_of):
        folder = tmp_path_factory.mktemp("alike")
        for at in search(here, run, Question(fate="kept", language="en")).places:
            place = here.place(run, here.address(run, *at))
            text = row_of(here, run, "ingest", place, ["text"])["text"]
            told, rejected = texts_of(text.split(), text.splitlines())
            file = write_jsonl(folder / "alike.jsonl", [{"text": text} for text in told])
            settings = Settings(store=folder / f"store{place.number}", workers=0)
            start("corpus", settings, sources=[f"alike={file}"], until="drop_duplicates")
            app = create_app(settings)
            queries = app.state.queries
            own = queries.runs()[0]
            both = [queries.place(own, f"alike.0.{row}") for row in (0, 1)]
            advice = [advised(queries, own, one) for one in both]
            if all(advice[row].changes and advice[row].is_whole and advice[row].is_kept for row in rejected):
                assert cluster_of(queries, own, both[0]).size == len(told)
                client = TestClient(app, base_url="http://127.0.0.1:8000")
                return SimpleNamespace(
                    here=queries, run=own, settings=settings, file=file, both=both, advice=advice, client=client
                )
        pytest.fail("no English text of the sample would do")

    return make


@pytest.mark.parametrize(
    ("texts_of", "asked", "keeper", "remaining", "told"),
    [
        (too_short, 0, 1, 2, "so this one goes as a duplicate. The two are in one cluster up to a similarity of 0."),
        (too_short, 1, 1, 1, "gates reject all of them but this one, so it is kept."),
        (repeating, 1, 1, 2, "this one is kept, and alike.0.0, which is kept now, goes in its place."),
    ],
)
def test_the_document_that_is_kept_by_the_options_is_the_one_that_the_page_names(
    alike, texts_of, asked, keeper, remaining, told
):
    made = alike(texts_of)
    here, run, place, advice = made.here, made.run, made.both[asked], made.advice[asked]
    gates = [entry for entry, _ in jobs_of(here, run, place)[0]]
    found = alike_with(here, run, gates, advice.changes, place, cluster_of(here, run, place))
    assert (found.keeper, found.remaining, found.asked) == (made.both[keeper].address, remaining, 2)
    page = text_of(settled(lambda: made.client.get(f"/run/{run.id}/doc/{place.address}"), "Reading which"))
    assert "none of them rejects it" in page
    assert told in page
    start("corpus", made.settings, sources=[f"alike={made.file}"], changes=advice.words, until="drop_duplicates")
    verdicts = [explain(made.settings, one.address, None)["verdict"] for one in made.both]
    assert [verdict == "kept" for verdict in verdicts] == [number == keeper for number in (0, 1)]


def many_that_repeat(words, lines):
    """More texts that are rejected than a page lists, and two equal ones that are kept, last."""
    kept, rejected = repeating(words, lines)[0]
    return [*52 * [rejected], kept, kept], (0, 1)


def test_of_a_cluster_that_is_too_large_to_be_listed_the_keeper_is_known_all_the_same(alike):
    made = alike(many_that_repeat)
    here, run = made.here, made.run

    def ask(row):
        return text_of(settled(lambda: made.client.get(f"/run/{run.id}/doc/alike.0.{row}"), "Reading which"))

    assert explain(made.settings, "alike.0.53", run.id)["verdict"] == "rejected by drop_duplicates: duplicate"
    assert "it is one of 54 documents that are alike, of which alike.0.52 is kept" in ask(53)
    assert "Their texts are equal, but for what the search for duplicates does not see: only one can stay" in ask(53)
    assert "no gate rejects 54 with these options. The longest stays, of equals the first: alike.0.0" in ask(51)
    assert "this one is kept, and alike.0.52, which is kept now, goes in its place" in ask(0)
    assert len(cluster_of(here, run, made.both[0]).members) == 50


def test_before_a_run_has_come_to_duplicates_nothing_is_said_of_who_stays(twins):
    settings = twins.settings
    start("corpus", settings, sources=[f"twins={settings.store.parent / 'twins.jsonl'}"], until="filter_text")
    run = twins.here.runs()[0]
    page = text_of(twins.client.get(f"/run/{run.id}/doc/twins.0.9").text)
    assert "which of them stays is not known: the run has not come to that" in page
    assert "not all have judged" in page


def test_where_what_a_gate_said_is_gone_the_page_does_not_say_that_a_document_is_kept(twins, tmp_path):
    shutil.copytree(twins.settings.store, tmp_path / "store")
    for manifest in (tmp_path / "store" / "artifacts" / "drop_duplicates").iterdir():
        manifest.unlink()
    client = TestClient(create_app(Settings(store=tmp_path / "store")), base_url="http://127.0.0.1:8000")
    page = text_of(client.get(f"/run/{twins.run.id}/doc/twins.0.9").text)
    assert "What became of it is not known here: what drop duplicates said is gone" in page
    assert "drop_duplicates: its artifact is gone" in page
    assert "Kept" not in page


def test_two_equal_documents_are_compared_when_asked(twins):
    page = twins.client.get(f"/run/{twins.run.id}/doc/twins.0.9?beside=twins.0.{twins.long}").text
    assert f"Beside twins.0.{twins.long}" in page
    assert "<ins>" not in page


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


def test_a_suggested_number_is_never_short_of_the_value():
    for value in (0.123456, 1e-9, 0.99999, 37.0, 123456.7, 1 / 3, 0.0):
        assert outward(value, up=True) >= value >= outward(value, up=False)
        assert len(json.dumps(outward(value, up=True))) <= 12
    assert outward(37.0, up=False) == 37
    assert outward(2.5, up=True, whole=True) == 3


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


def advised(here, run, place):
    """The advice on a document."""
    jobs, _ = jobs_of(here, run, place)
    return advice_on(here, run, jobs, place, judge(here, jobs, place))


def is_broken(jobs, row, here):
    return any(answer.verdict == "broken" for answer in why(jobs, row, here.store))


def moved(job, entry, advice):
    """A gate's params with what the advice changes of them."""
    changes = {path: value for c in advice.changes if c.entry == entry for path, value in c.changes.items()}
    return type(job.params).model_validate(changed(job.params.model_dump(mode="json"), changes))


def test_no_words_where_no_field_has_the_params(here, run):
    other = run.model_copy(update={"recipe": {}})
    place = first(here, run, reason="gopher_short_doc")
    advice = advised(here, other, place)
    assert advice.words == []
    assert set_words(other, here.manifest(here.entry(run, "filter_text")), {"thresholds.en.gopher_short_doc": 1}) == []
