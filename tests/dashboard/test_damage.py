"""Stores with flipped bytes, lost parts and odd JSON: every page names the file and the way out, and what can be read is shown."""

import json
import logging
import random
import re
import shutil
from types import SimpleNamespace

import pyarrow as pa
import pytest
from asking import Asker
from made_store import (
    MadeStore,
    curriculum,
    documents,
    evaluated,
    evaluation,
    figure,
    instruction,
    instructions,
    journal,
    plan_row,
    trained,
)
from samples import wait_until

from polylm.dashboard.app import create_app
from polylm.deployments.settings import Settings
from polylm.tasks.corpus.language import want_languages
from polylm.tasks.maintenance.files import read_json, write_json

FAILED = "The dashboard failed at this page"
NAMED = r"(?s)<p class=\"lead\">.*(damaged|gone|not readable|run again|manifest)"
SHORT = ("filter_text", "too_short")
# What a file of JSON may hold in any place; 10**400 is larger than any float.
ODD = (None, True, -1, 2**80, 10**400, 1e308, -1e308, "", "x" * 300, "\ud800", "../../../etc/passwd", "<pwned>", [], {}, [[]], [None], {"x": 1}, {"": {}}, [{"key": 1}], "0" * 64)  # fmt: skip


def opened(root):
    app = create_app(Settings(store=root))
    return SimpleNamespace(client=Asker(app), here=app.state.queries)


def settled(client, path, pending='http-equiv="refresh"|class="pending"|being read: ask again', seconds=20):
    """The answer once nothing of it is being read."""
    said = [client.get(path)]
    wait_until(lambda: not re.search(pending, said[-1].text) or said.append(client.get(path)), seconds)
    return said[-1]


def flip(path, at):
    """Turn a byte of a file around; the file is a new one, as copies of stores are of hard links."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.unlink()
    path.write_bytes(data)


def small_store(root):
    """A store by hand with something on every page; the ids of its two runs."""
    made = MadeStore(root)
    entries = documents(made, [SHORT if i % 3 == 0 else None for i in range(23)])
    wanted = entries[2]["artifact"]
    entries.append(made.rows("want_languages", [pa.table({"rejected_because": pa.array([None] * n, pa.dictionary(pa.int8(), pa.string()))}) for n in (10, 10, 3)], reads=[wanted]))  # fmt: skip
    params = want_languages.params().model_dump(mode="json")
    (path,) = (root / "artifacts/want_languages").glob("*.json")
    write_json(path, read_json(path) | {"params": params, "version": want_languages.version})
    entries.append(made.table("count_survivors", pa.table({"language": ["en", "th"], "documents": [8, 7], "bytes": [80, 70]})))  # fmt: skip
    entries.append(made.rows("select", [pa.table({"weight": pa.array([1] * n, pa.uint8())}) for n in (10, 10, 3)]))
    entries += trained(made)
    entries.append(curriculum(made, [plan_row("stage1", "en/web", 10), plan_row("stage1", "th/web", 5)]))
    entries.append(instructions(made, {"en": [instruction("en", i, "too_short" if i % 2 else None) for i in range(4)]}))
    journal(made, "en", ["what?", "why?"])
    export = made.folder("export", lambda work: (work / "config.json").write_text("{}"), reads=[entries[-3]["artifact"]])  # fmt: skip
    entries += [export, evaluation(made, ["base"], [export["artifact"]]), evaluated(made, [figure("base"), figure("tuned")])]  # fmt: skip
    alarm = {"rule": "source_lost", "subject": "web", "message": "lost", "value": 0.9, "bound": 0.5, "action": "ask", "artifact": entries[4]["artifact"]}  # fmt: skip
    recipe = {"sources": {"web": "a"}, "languages": params, "stage1": {"segment": "stage1"}}
    first = made.run("small", entries, recipe=recipe, time="20261127T110000000")
    second = made.run("small", entries, recipe=recipe, alarms=[alarm])
    path = root / f"runs/{second}.json"
    more = {"now": {"stage": "export", "jobs": 3, "since": 1.5}, "new": {"since": first, "sources": {"web": {"documents": 3, "parts": 1}}, "parts_gone": 1, "kept_more": 2}}  # fmt: skip
    write_json(path, read_json(path) | more | {"state": "running"})
    return first, second


def pages_of(site, run_id):
    """Every page of a run."""
    base = f"/run/{run_id}"
    stages = list(dict.fromkeys(entry.stage for entry in site.here.run(run_id).stages))
    own = [f"{base}/stage/{stage}" for stage in stages]
    tables = [f"{base}/stage/{stage}?as=table" for stage in ("clean", "pretrain", "want_languages") if stage in stages]
    rest = ("", "/live?by=bytes", "/search", "/search?q=text", "/search?fate=kept&language=en", "/search?by=id&q=id-3", "/training", "/instructions", "/evaluation", "/stage/want_languages/what-if", "/beginning/web.0.1", "/doc/web.0.3", "/doc/web.1.2?beside=web.0.1", "/doc/web.0.3/training", "/doc/web.0.3/let-in/0")  # fmt: skip
    return ["/", *(base + path for path in rest), *own, *tables]


def unnamed(site, paths):
    """Pages that failed without a word on why, with what they said."""
    answers = {path: settled(site.client, path, seconds=1) for path in paths}
    wrong = {path: one for path, one in answers.items() if one.status_code >= 500 and (FAILED in one.text or not re.search(NAMED, one.text))}  # fmt: skip
    return {path: re.sub(r"(?s).*<p class=.lead.>(.*?)</p>.*", r"\1", one.text) for path, one in wrong.items()}


def places_in(told, place=()):
    """Every place in a JSON value, from its top down."""
    yield place
    for name, value in told.items() if isinstance(told, dict) else enumerate(told if isinstance(told, list) else ()):
        yield from places_in(value, (*place, name))


def oddly(draw, told):
    """A JSON value with something else in one place, mostly of the kind that was there."""
    places = list(places_in(told))
    depth = draw.choice(sorted({len(place) for place in places}))  # so that what is rare at the top is met too
    place = draw.choice([one for one in places if len(one) == depth])
    if not place:
        return draw.choice(ODD)
    inner = told
    for name in place[:-1]:
        inner = inner[name]
    alike = [value for value in ODD if type(value) is type(inner[place[-1]])]
    inner[place[-1]] = draw.choice(alike if alike and draw.random() < 0.7 else ODD)
    return told


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("small") / "store"
    return SimpleNamespace(root=root, runs=small_store(root))


@pytest.fixture
def copy(small, tmp_path):
    """A copy of the small store, to be damaged."""
    shutil.copytree(small.root, tmp_path / "store")
    return SimpleNamespace(root=tmp_path / "store", runs=small.runs, **vars(opened(tmp_path / "store")))


def test_every_page_of_the_whole_store_is_well(small):
    site = opened(small.root)
    paths = [*pages_of(site, small.runs[1]), f"/compare/{small.runs[0]}/{small.runs[1]}"]
    assert {path: code for path in paths if (code := settled(site.client, path).status_code) != 200} == {f"/run/{small.runs[1]}/doc/web.0.3/{name}": code for name, code in (("let-in/0", 404), ("training", 500))}  # fmt: skip


def mutations(root, seed, kind, count):
    """Files of the store with other content, one after the other; each is as it was again before the next."""
    draw = random.Random(seed)
    patterns = {"parts": "parts/**/*.parquet", "tables": "folders/*/*/**/*.parquet", "manifests": "artifacts/*/*.json", "records": "runs/*T12*.json"}  # fmt: skip
    files = sorted(root.glob(patterns[kind]))
    for number in range(count):
        path = draw.choice(files)
        whole = path.read_bytes()
        if kind in ("manifests", "records"):
            told = {name: value for name, value in json.loads(whole).items() if name != "seal"}
            path.write_text(json.dumps(oddly(draw, told)))
        elif number % 6 == 5:
            path.unlink()
        else:
            data = bytearray(whole)
            at = draw.randrange(len(data)) if number % 2 else len(data) - 1 - draw.randrange(min(len(data), 900))
            data[at] ^= 1 << draw.randrange(8)
            path.write_bytes(data)
        yield f"{path.relative_to(root)} {number}"
        path.write_bytes(whole)


@pytest.mark.parametrize(("kind", "count"), [("parts", 12), ("tables", 6), ("manifests", 12), ("records", 20)])
def test_whatever_a_file_holds_no_page_fails_without_naming_it(copy, kind, count):
    found = {}
    for name in mutations(copy.root, 5, kind, count):
        site = opened(copy.root)
        wrong = unnamed(site, pages_of(site, copy.runs[1]))
        found |= {f"{name}: {path}": said for path, said in wrong.items()}
    assert found == {}


def test_a_damaged_count_of_survivors_is_a_note_on_its_run_and_the_others_live(copy):
    (part,) = (copy.root / "parts/count_survivors").rglob("*.parquet")
    whole = part.read_bytes()
    for damage in (lambda: flip(part, 30), lambda: flip(part, len(whole) - 60), part.unlink):
        part.write_bytes(whole)
        damage()
        page = opened(copy.root).client.get("/")
        assert page.status_code == 200
        assert page.text.count(f"<bdi>count_survivors: parts/count_survivors/{part.parent.name}/{part.name} is ") == 1
        assert page.text.count(">damaged</span>") == 2  # both runs have it
        assert str(copy.root / "parts") not in page.text
        assert all(f'href="/run/{run}"' in page.text for run in copy.runs)


@pytest.mark.parametrize(("place", "counted"), [(b"ARROW:schema", True), (b"PAR1", False)])
def test_a_flipped_byte_in_the_footer_of_a_part_is_named_on_the_page_of_the_run(copy, place, counted):
    """The other parts say which columns the stage has, and what does not need this one is shown."""
    part = copy.here.paths(copy.here.entry(copy.here.run(copy.runs[1]), "filter_text"))[0]
    flip(part, part.read_bytes().rindex(place) + (len(place) + 20 if counted else 0))
    site = opened(copy.root)
    page = settled(site.client, f"/run/{copy.runs[1]}", r'class="pending"|\A(?![\s\S]*is damaged)')
    assert page.status_code == 200
    assert page.text.count(f"filter_text: parts/filter_text/{part.parent.name}/{part.name} is damaged") == 1
    assert ("They cannot be counted" in page.text) != counted
    assert "No gate has judged them yet" not in page.text
    assert "source lost" in page.text  # its alarm
    assert page.text.count('/stage/filter_text"') >= 2  # in the graph and the table
    assert FAILED not in settled(site.client, f"/run/{copy.runs[1]}/stage/filter_text").text


def test_a_flipped_byte_in_the_body_of_a_part_is_a_page_that_names_it_and_a_line_of_the_log(copy, caplog):
    part = copy.here.paths(copy.here.entry(copy.here.run(copy.runs[1]), "clean"))[0]
    for at in (4, 40, 90):
        flip(part, at)
    with caplog.at_level(logging.WARNING):
        page = opened(copy.root).client.get(f"/run/{copy.runs[1]}/doc/web.0.3")
    assert page.status_code == 500
    assert f"clean: parts/clean/{part.parent.name}/{part.name} is damaged" in page.text
    assert f"`polylm verify --store {copy.root}` says which command makes it again" in page.text
    assert any(part.name in record.getMessage() for record in caplog.records)


def test_a_document_whose_verdict_is_gone_says_so(copy):
    run = copy.here.run(copy.runs[1])
    part = copy.here.paths(copy.here.entry(run, "want_languages"))[1]
    before = copy.client.get(f"/run/{run.id}/doc/web.1.2").text
    part.unlink()
    site = opened(copy.root)
    assert f"want_languages: parts/want_languages/{part.parent.name}/{part.name} is gone" in site.client.get(f"/run/{run.id}/doc/web.1.2").text  # fmt: skip
    other = site.client.get(f"/run/{run.id}/doc/web.0.2").text
    assert "is gone" not in before + other


def test_a_command_on_a_page_names_the_store_where_it_is_another_than_the_default(copy, monkeypatch):
    path = f"/run/{copy.runs[1]}/doc/web.0.3"
    assert f"polylm why web.0.3 --run {copy.runs[1]} --store {copy.root}</code>" in copy.client.get(path).text
    monkeypatch.setenv("POLYLM_STORE", str(copy.root))
    assert f"polylm why web.0.3 --run {copy.runs[1]}</code>" in copy.client.get(path).text


@pytest.mark.parametrize("now", [{"stage": "../x", "jobs": 1}, {"stage": {"x": 1}}, {"stage": "a b", "jobs": 10**400}, {"stage": ["read"], "jobs": None}])  # fmt: skip
def test_a_run_at_work_on_something_odd_has_its_page(copy, now):
    path = copy.root / "runs" / f"{copy.runs[1]}.json"
    write_json(path, read_json(path) | {"state": "running", "now": now})
    assert settled(opened(copy.root).client, f"/run/{copy.runs[1]}").status_code == 200


def test_a_record_with_numbers_that_nobody_counts_is_damaged(copy):
    path = copy.root / "runs" / f"{copy.runs[1]}.json"
    told = read_json(path)
    told["stages"][0]["rows"] = 10**400
    write_json(path, told)
    site = opened(copy.root)
    assert [run.state for run in site.here.runs()] == ["damaged", "completed"]
    page = site.client.get(f"/run/{copy.runs[1]}")
    assert page.status_code == 200
    assert "it holds a number that is too large" in page.text


@pytest.mark.parametrize("told", [[], "x", {}, {"stage": 1}, {"parts": [{}]}, {"parts": [{"key": "../../../etc/passwd", "label": "", "number": 0, "rows": 1, "reasons": {}}]}, {"shape": "ball"}, {"params": []}, {"parts": None}])  # fmt: skip
def test_a_manifest_of_any_json_is_named_with_what_writes_it_again(copy, told):
    entry = copy.here.entry(copy.here.run(copy.runs[1]), "pretrain")
    path = copy.root / "artifacts" / f"{copy.here.manifest(entry).stage}/{copy.here.manifest(entry).key}.json"
    path.write_text(json.dumps((read_json(path) | told) if isinstance(told, dict) and told else told))
    site = opened(copy.root)
    for page in ("/training", "/stage/pretrain"):
        answer = site.client.get(f"/run/{copy.runs[1]}{page}")
        assert answer.status_code == 500
        assert re.search(rf"The manifest of {entry.artifact} is damaged \(.+\): the next run of the recipe writes it again", answer.text)  # fmt: skip
    page = settled(site.client, f"/run/{copy.runs[1]}")
    assert page.status_code == 200
    assert f"The manifest of {entry.artifact} is damaged" in page.text


@pytest.mark.parametrize("params", [{"steps": "many"}, {"steps": -1}, {"steps": 10, "guard": {"window": "x"}}, {"segment": {}}])  # fmt: skip
def test_params_that_no_training_has_are_named(copy, params):
    entry = copy.here.entry(copy.here.run(copy.runs[1]), "pretrain")
    path = copy.root / "artifacts" / f"pretrain/{copy.here.manifest(entry).key}.json"
    write_json(path, read_json(path) | {"params": params})
    answer = opened(copy.root).client.get(f"/run/{copy.runs[1]}/training")
    assert answer.status_code == 500
    assert f"The manifest of {entry.artifact} has params that its stage does not ({next(reversed(params))}" in answer.text  # fmt: skip
