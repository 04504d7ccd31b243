"""A language that nobody published thresholds for gets its own by one line of the recipe; plan, run, why and dashboard agree."""

import html
import json
import re
import shlex

import pytest
import swedish
from fastapi.testclient import TestClient
from samples import MODEL, call, command, write_jsonl

from polylm.dashboard.app import create_app
from polylm.deployments.settings import Settings

pytestmark = pytest.mark.skipif(not MODEL.exists(), reason=f"{MODEL} is not there: `make install` fetches it")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swedish")
    write_jsonl(folder / "clean.jsonl", swedish.references())
    write_jsonl(folder / "sv.jsonl", swedish.records())
    sources = ["--source", f"sv={folder / 'sv.jsonl'}", "--source", f"clean={folder / 'clean.jsonl'}"]
    changes = ["--set", "sources.clean.role=reference", "--set", 'wanted.languages=["sv"]']
    few = ["--set", "quality_models.min_reference_bytes=20000"]
    options = [*sources, *changes, *few, "--store", folder / "store"]
    call(command("run", "corpus", *options, "--no-prefect", "--workers", 1, "--json"))
    return options


def json_of(*words):
    return json.loads(call(command(*words, "--json")))


def test_its_thresholds_and_stop_words_are_derived(run):
    rows = json_of("show", "fit_thresholds", "--rows", 200, *run[-2:])
    rows = rows["rows"] if isinstance(rows, dict) else rows
    assert {row["language"] for row in rows} == {"sv"}
    assert sum(row["chosen"] and row["threshold"] is not None for row in rows) >= 15
    words = json_of("show", "fit_stop_words", "--rows", 50, *run[-2:])
    words = words["rows"] if isinstance(words, dict) else words
    assert {"den", "och", "som"} <= {row["word"] for row in words}


def test_a_page_of_one_line_is_rejected_by_a_derived_threshold(run):
    said = call(command("why", "sv.0.40", *run[-2:]))
    assert "dup_line_frac" in said
    found = json_of("why", "sv.0.40", *run[-2:])
    text = json.dumps(found)
    assert '"broken"' in text


def test_references_are_neither_scored_nor_counted_in_what_is_fitted(run):
    """They would be judged by the models that were trained on them, and move the percentiles of the others."""
    rows = json_of("show", "score_quality", "--rows", 1_000, *run[-2:])
    scored = {source: [row for row in rows if row["doc"].startswith(f"{source}.")] for source in ("sv", "clean")}
    assert len(scored["clean"]) == 140
    assert all(row["perplexity"] is None for row in scored["clean"])
    assert any(row["perplexity"] is not None for row in scored["sv"])
    [floor] = json_of("show", "fit_language_floors", *run[-2:])
    assert floor["documents"] == len(scored["sv"])


def test_a_plan_after_the_run_has_nothing_to_do_and_a_stated_threshold_moves_gates_only(run):
    def built(*more):
        return {row["stage"] for row in json_of("plan", "corpus", *run, *more)["stages"] if row["built"]}

    assert built() == set()
    gates = {"filter_text", "choose_keepers", "drop_duplicates", "count_survivors", "select"}
    assert "filter_text" in built("--set", "text.thresholds.sv.list_ratio=0.0001") <= gates
    assert "filter_text" in built("--set", "text.rules=roots,ccnet,c4") <= gates


@pytest.fixture(scope="module")
def dashboard(run):
    """A client of the dashboard over that store, and the address of the run."""
    app = create_app(Settings(store=run[-1]))
    client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
    return client, f"/run/{app.state.queries.runs()[0].id}"


def shown(dashboard, path, **query):
    """What a reader sees of a page, on one line, and its source."""
    client, run = dashboard
    while "Reading a sample" in (page := client.get(run + path, params=query).text):
        pass
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<.*?>", " ", page, flags=re.S))), page


def derived(run):
    rows = json_of("show", "fit_thresholds", "--rows", 200, *run[-2:])
    rows = rows["rows"] if isinstance(rows, dict) else rows
    return {row["rule"]: row for row in rows if row["chosen"]}, rows


def test_the_dashboards_gate_has_its_derived_thresholds_on_the_sliders(run, dashboard):
    text, page = shown(dashboard, "/stage/filter_text")
    assert 'language=sv" title="185 documents" aria-current="page"' in page  # it opens on it
    chosen, _ = derived(run)
    for rule in ("dup_line_frac", "list_ratio", "gopher_below_avg_threshold"):
        said = f'name="p.thresholds.sv.{rule}" value="{chosen[rule]["threshold"]:.12g}"'
        assert said in page
    assert page.count('name="p.thresholds.sv.') == page.count('name="p.thresholds.') == page.count('id="rule-')
    assert "16 derived from its clean text" in text
    assert "derived from 140 reference documents, by quantile" in text
    assert "rule set polylm: datatrove 0.10.1 GopherQualityFilter, default min_doc_words" in text


def test_what_a_slider_gives_to_copy_moves_this_language_alone(run, dashboard):
    _, page = shown(dashboard, "/stage/filter_text/what-if", language="sv", **{"p.thresholds.sv.dup_line_frac": "0.99"})
    words = shlex.split(html.unescape(re.search(r'class="copied"><pre tabindex="0">(.*?)</pre>', page)[1]))
    assert words == ["--set", "text.thresholds.sv.dup_line_frac=0.99"]
    built = {row["stage"] for row in json_of("plan", "corpus", *run, *words)["stages"] if row["built"]}
    assert "filter_text" in built <= {"filter_text", "choose_keepers", "drop_duplicates", "count_survivors", "select"}


def test_the_dashboard_shows_all_candidates_and_marks_the_chosen_one(run, dashboard):
    text, page = shown(dashboard, "/stage/fit_thresholds")
    chosen, rows = derived(run)
    assert "From 140 reference documents in sv" in text
    assert "45 others are there to be judged" in text
    assert page.count(">chosen</span>") == len(chosen)
    for row in rows:
        if row["threshold"] is not None:
            counts = (f"{row[name]:,}" for name in ("references_removed", "references", "others_removed", "others"))
            assert "{} of {} reference documents, {} of {} others".format(*counts) in page
    cells = re.findall(r'<td class="chosen".*?<b>(.*?)</b>', page, re.S)
    thresholds = [row["threshold"] for row in chosen.values() if row["threshold"] is not None]
    assert sorted(float(cell) for cell in cells if cell != "off") == pytest.approx(sorted(thresholds), rel=1e-3)


def test_the_page_of_a_rejected_document_says_what_would_keep_it(run, dashboard):
    told = json_of("why", "sv.0.40", *run[-2:])
    (broken,) = [rule for rule in told["rules"] if rule["rule"] == "dup_line_frac"]
    text, _ = shown(dashboard, "/doc/sv.0.40")
    assert "Rejected by filter text" in text
    told = f"dup line frac {broken['value']:.4g} at most {broken['bound']:.4g} derived −{-broken['margin']:.4g}"
    assert told in text
    (word,) = set(re.findall(r"text\.thresholds\.sv\.dup_line_frac=[\d.]+", text))
    assert float(word.partition("=")[2]) >= broken["value"]
    words = [part for one in dict.fromkeys(re.findall(r"--set (text\.\S+)", text)) for part in ("--set", one)]
    built = {row["stage"] for row in json_of("plan", "corpus", *run, *words)["stages"] if row["built"]}
    assert "filter_text" in built
