"""What would keep a document: the options do, and whichever of those that are alike the page names is the one that stays."""

import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from asking import first, settled, text_of
from fastapi.testclient import TestClient
from samples import write_jsonl

from polylm.dashboard.app import create_app
from polylm.dashboard.consequences import alike_with, let_in
from polylm.dashboard.document import cluster_of, jobs_of, judge, row_of
from polylm.dashboard.keeping import advice_on, outward
from polylm.dashboard.recipe_fields import changed, set_words
from polylm.dashboard.refit import can_refit, refit
from polylm.dashboard.search import Question, search
from polylm.deployments.settings import Settings
from polylm.flows.everything import start
from polylm.flows.reading import explain
from polylm.flows.recipe_options import resolve
from polylm.tasks.stage import REASON
from polylm.tasks.why import why


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


def test_a_suggested_number_is_never_short_of_the_value():
    for value in (0.123456, 1e-9, 0.99999, 37.0, 123456.7, 1 / 3, 0.0):
        assert outward(value, up=True) >= value >= outward(value, up=False)
        assert len(json.dumps(outward(value, up=True))) <= 12
    assert outward(37.0, up=False) == 37
    assert outward(2.5, up=True, whole=True) == 3


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
