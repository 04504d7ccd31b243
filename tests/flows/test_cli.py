"""The command line: what it prints where, its exit codes, and the streams that it is given."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys

import pytest
from samples import MODEL, ODD_TEXTS, call, command, environment, third_options, write_jsonl

from polylm.tasks.maintenance.files import read_json, write_json

LINE = json.dumps({"text": "Some text that is long enough to be a document of its own."})


def ingest(*more):
    return ("run", "corpus", "--until", "clean", "--workers", 0, "--no-prefect", "--store", "store", *more)


def test_a_run_that_failed_at_once_does_not_hide_the_one_before(polylm, tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": LINE}] * 3)
    assert polylm(*ingest("--source", "a=a.jsonl"))[0] == 0
    assert polylm(*ingest("--source", "a=nothing.jsonl"))[0] == 2
    code, out, err = polylm("why", "a.0.1", "--store", "store", "--json")
    assert code == 0, err
    assert json.loads(out)["address"] == "a.0.1"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_run_bears_standard_streams_that_are_closed(tmp_path, closed):
    """As daemons and cron start commands; the next file that is opened would stand for them."""
    write_jsonl(tmp_path / "a.jsonl", [{"text": LINE}] * 3)
    words = " ".join(["run corpus --source a=a.jsonl --until clean --workers 1 --no-prefect --store store", closed])
    done = subprocess.run(
        ["bash", "-c", f"{' '.join(command())} {words}"], cwd=tmp_path, env=environment(), timeout=300
    )
    assert done.returncode == 0
    assert len(list((tmp_path / "store" / "parts" / "clean").rglob("*.parquet"))) == 1


def test_a_run_goes_on_when_nobody_listens_any_more(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": LINE}] * 3)
    words = "run corpus --source a=a.jsonl --until clean --workers 0 --no-prefect --store store"
    piped = f"{{ {' '.join(command())} {words} 2>&1 >out; echo $? >code; }} | head -1"
    subprocess.run(["bash", "-c", piped], cwd=tmp_path, env=environment(), timeout=300, check=True)
    assert (tmp_path / "code").read_text() == "0\n"
    assert len(list((tmp_path / "store" / "parts" / "clean").rglob("*.parquet"))) == 1


def test_the_terminal_is_left_as_it_was(tmp_path):
    """The cursor, which the bars hide, is shown again before the error is."""
    (tmp_path / "a.jsonl").write_text('{"text": 1}\n')
    words = command(*ingest("--source", "a=a.jsonl"))
    master, terminal = pty.openpty()
    with subprocess.Popen(words, cwd=tmp_path, env=environment(TERM="xterm"), stderr=terminal, stdout=terminal):
        os.close(terminal)
        said = b""
        with contextlib.suppress(OSError):  # Linux's end of a terminal that nobody holds
            while data := os.read(master, 1 << 16):
                said += data
    os.close(master)
    assert b"hold no document" in said
    assert said.rfind(b"\x1b[?25h") >= said.rfind(b"\x1b[?25l")
    assert said.rfind(b"\x1b[?25h") < said.rfind(b"hold no document")


@pytest.mark.skipif(not MODEL.exists(), reason="the language model is not there: `make install` fetches it")
@pytest.mark.serial
def test_a_language_with_no_text_and_odd_texts_go_through_the_data_stages(polylm, tmp_path):
    """Texts of hardly any language, of which no model can be trained; every one gets a verdict."""
    write_jsonl(tmp_path / "odd.jsonl", [{"text": text, "id": str(i)} for i, text in enumerate(ODD_TEXTS)])
    code, out, err = polylm(
        *("run", "corpus", "--source", "odd=odd.jsonl", "--store", "store", "--workers", 0, "--no-prefect", "--json"),
        *("--set", "ingest.part_rows=5"),
    )
    assert code == 0, err
    stages = {report["stage"]: report for report in json.loads(out)["stages"]}
    assert stages["ingest"]["rows"] == stages["clean"]["rows"] == stages["select"]["rows"] == len(ODD_TEXTS)
    assert stages["drop_empty"]["reasons"] == {"empty": 5}
    code, out, _ = polylm("why", "odd.0.1", "--store", "store")
    assert out.startswith("odd.0.1  rejected by drop_empty: empty")


def test_help_ends_in_a_terminal_of_any_width(tmp_path):
    words, narrow = command("run", "--help"), environment(COLUMNS="1")
    done = subprocess.run(words, env=narrow, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--source" in done.stdout


def test_data_goes_to_stdout_and_the_rest_to_stderr(polylm, tmp_path):
    (tmp_path / "a.jsonl").write_text(LINE)
    code, out, err = polylm(*ingest("--source", "a=a.jsonl", "--json"))
    assert code == 0
    assert {report["stage"] for report in json.loads(out)["stages"]} >= {"ingest", "clean"}
    assert [line.split()[0] for line in err.splitlines()][:2] == ["ingest", "clean"]


def test_everything_that_reads_prints_json(polylm, third_store):
    store = ("--store", third_store)
    for words in (("recipes",), ("recipe", "sample"), ("stages",), ("status", *store), ("show", "select", *store)):
        code, out, err = polylm(*words, "--json")
        assert (code, err) == (0, "")
        assert json.loads(out)
        code, plain, _ = polylm(*words)
        assert code == 0
        assert plain.strip()
        assert not plain.lstrip().startswith(("{", "["))


def test_a_recipe_says_where_each_value_comes_from(polylm):
    _, out, _ = polylm("recipe", "sample", "--set", "floors.lowest=0.2", "--json")
    rows = {row["field"]: row for row in json.loads(out)}
    assert (rows["floors.lowest"]["value"], rows["floors.lowest"]["origin"]) == (0.2, "option")
    assert (rows["ingest.part_rows"]["value"], rows["ingest.part_rows"]["origin"]) == (32, "recipe")
    assert rows["floors.highest"]["origin"] == "default"
    assert "FineWeb2" in rows["floors.highest"]["source"]


def test_a_field_of_a_recipe_says_what_it_means_and_what_it_may_be(polylm):
    _, out, _ = polylm("recipe", "corpus", "quality_models.tables")
    value, meaning = out.splitlines()
    assert "probing" in value
    assert "a fifth of the room" in meaning
    assert meaning.endswith("One of probing, trie.")
    _, out, _ = polylm("recipe", "corpus", "clean", "--json")
    assert {row["field"].partition(".")[0] for row in json.loads(out)} == {"clean"}
    _, out, _ = polylm("recipe", "corpus", "sources.NAME.documents")
    assert "One of file, line, blank-line." in out
    code, _, err = polylm("recipe", "corpus", "cleen")
    assert (code, "no field 'cleen'" in err) == (2, True)


def test_a_plan_claims_no_bound_where_files_are_not_read_yet(polylm, third, third_copy, tmp_path):
    """A file may become any number of parts."""
    options = [word for word in third_options(third) if word]
    _, out, _ = polylm("plan", "sample", *options, "--store", tmp_path / "new", "--until", "drop_empty")
    assert re.fullmatch(
        r"about \d+ jobs to build: a file that is not read yet counts as one part, .*", out.splitlines()[-1]
    )
    assert "at most" not in out
    moved = ("--set", "text.thresholds.de.dup_line_frac=0.2")
    _, out, _ = polylm("plan", "sample", *options, *moved, "--store", third_copy)
    assert "about" not in out


def test_status_says_why_somebody_approved_or_refused(polylm, third_copy):
    (path,) = (third_copy / "runs").glob("*.json")
    record = read_json(path)
    for state, reason in (("approved", "a test source"), ("refused", "look at it first")):
        decision = {"approved": state == "approved", "reason": reason}
        path.unlink()
        write_json(
            path, {**record, "state": state, "error": "", "alarms": [{"decision": decision}, {"decision": None}]}
        )
        _, out, _ = polylm("status", "--store", third_copy)
        assert out.splitlines()[0].endswith(reason)


def test_show_prints_rows_of_a_stage_and_of_an_artifact(polylm, third_store):
    _, out, _ = polylm("show", "clean", "--rows", 40, "--store", third_store, "--json")
    rows = json.loads(out)
    assert len(rows) == 40
    assert {"doc", "text", "chars"} <= rows[0].keys()
    _, out, _ = polylm("status", "--store", third_store, "--json")
    artifact = next(s["artifact"] for s in json.loads(out)[-1]["stages"] if s["stage"] == "clean")
    _, out, _ = polylm("show", artifact, "--rows", 40, "--store", third_store, "--json")
    assert json.loads(out) == rows


def test_show_lists_the_documents_that_a_gate_rejects_as_why_knows_them(polylm, third_store):
    _, out, _ = polylm("show", "filter_text", "--rejected", "--rows", 3, "--store", third_store, "--json")
    rows = json.loads(out)
    assert len(rows) == 3
    _, out, err = polylm("show", "filter_text", "--rejected", "--rows", 2, "--store", third_store)
    assert (len(out.splitlines()), "... and more" in err) == (2, True)
    for row in rows:
        _, out, _ = polylm("why", row["doc"], "--store", third_store, "--json")
        broken = {rule["rule"] for rule in json.loads(out)["rules"] if rule["verdict"] == "broken"}
        assert row["rejected_because"] in broken
    code, _, err = polylm("show", "clean", "--rejected", "--store", third_store)
    assert (code, "clean is no gate" in err) == (2, True)


def test_verify_finds_nothing_in_a_good_store_and_names_what_is_damaged(polylm, third_copy):
    code, out, _ = polylm("verify", "--store", third_copy)
    assert code == 0
    assert out.splitlines()[-1].endswith("files checked, 0 damaged")
    paths = sorted((third_copy / "parts" / "clean").rglob("*.parquet"))[:2]
    cut, flipped = (path.read_bytes() for path in paths)
    for path in paths:
        path.unlink()  # a hard link to what other tests read
    paths[0].write_bytes(cut[:-9])
    paths[1].write_bytes(flipped[:300] + bytes([flipped[300] ^ 1]) + flipped[301:])
    code, out, _ = polylm("verify", "--store", third_copy, "--json")
    assert code == 5
    damaged = json.loads(out)["damaged"]
    assert {entry["path"] for entry in damaged} == {str(path.relative_to(third_copy)) for path in paths}
    assert all(entry["stage"] == "clean" and "polylm run sample" in entry["remedy"] for entry in damaged)


def test_gc_says_what_would_go_and_the_trash_gives_it_back(polylm, third_copy):
    everything = ("--keep-runs", 0, "--older-than", 0, "--store", third_copy)
    code, out, _ = polylm("gc", "--store", third_copy)
    assert (code, out) == (0, "0 files, 0.0 MB could go: --delete moves them to the trash\n")
    _, out, _ = polylm("pin", "select", "--store", third_copy)
    assert out.startswith("select/")
    _, out, _ = polylm("gc", *everything, "--delete", "--json")
    freed = json.loads(out)["stages"]
    assert "clean" in freed
    assert "select" not in freed
    assert polylm("verify", "--store", third_copy)[0] == 0
    _, out, _ = polylm("gc", "--restore", "--store", third_copy, "--json")
    assert json.loads(out)["left"] == 0
    assert polylm("verify", "--recompute", "", "--store", third_copy)[0] == 2, "an empty share is no share"
    _, out, _ = polylm("verify", "--recompute", "5%", "--store", third_copy)
    assert out.endswith("parts made again, 0 damaged\n")


def test_help_imports_nothing_heavy():
    """Which is what keeps it under half a second; measured by what is imported, because clocks differ."""
    program = (
        "import sys, json; sys.argv = ['polylm', '--help']\n"
        "from polylm.flows.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )
    heavy = {"pyarrow", "prefect", "torch", "numba", "numpy", "pydantic", "transformers", "deepspeed", "fasttext"}
    assert not heavy & set(json.loads(done.stderr.splitlines()[-1]))
    assert "run" in done.stdout


def test_a_mistake_exits_with_2_and_a_broken_pipe_with_nothing_said():
    assert call(command("run", "smaple"), code=2) == ""
    words = " ".join(command("stages"))
    done = subprocess.run(["bash", "-c", f"{words} | head -1"], env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
