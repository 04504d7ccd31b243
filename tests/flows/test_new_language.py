"""A language that nobody published thresholds for gets its own by one line of the recipe, and plan, run and why agree."""

import json

import pytest
import swedish
from samples import MODEL, call, command, write_jsonl

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
    call(command("run", "corpus", *options, "--no-prefect", "--on-alarm", "warn", "--workers", 1, "--json"))
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


def test_a_plan_after_the_run_has_nothing_to_do_and_a_stated_threshold_moves_gates_only(run):
    def built(*more):
        return {row["stage"] for row in json_of("plan", "corpus", *run, *more)["stages"] if row["built"]}

    assert built() == set()
    gates = {"filter_text", "choose_keepers", "drop_duplicates", "count_survivors", "select"}
    assert "filter_text" in built("--set", "text.thresholds.sv.list_ratio=0.0001") <= gates
    assert "filter_text" in built("--set", "text.rules=roots,ccnet,c4") <= gates
