"""What goes wrong on the command line: one line that names what was found, what was expected, and the way out."""

import gzip
import json
import re
import socket
import subprocess

import pytest
from samples import MODEL, command, environment, write_jsonl

from polylm.tasks.maintenance.lock import alone
from polylm.tasks.store import Store

LINE = json.dumps({"text": "Some text that is long enough to be a document of its own."})


@pytest.fixture
def mistake(polylm):
    """What a command says that ends with exit code 2: on stderr alone, without a traceback."""

    def run_here(*words):
        code, out, err = polylm(*words)
        assert (code, out) == (2, ""), err
        assert "Traceback" not in err
        said = [line for line in err.splitlines() if line.startswith("polylm: ")]
        assert len(said) == 1, err
        return said[0].removeprefix("polylm: ") + err.partition(said[0])[2].rstrip()

    return run_here


def ingest(*more):
    return ("run", "corpus", "--until", "clean", "--workers", 0, "--no-prefect", "--store", "store", *more)


def test_an_unknown_recipe_lists_those_that_there_are(mistake):
    for verb in ("run", "plan", "recipe"):
        said = mistake(verb, "smaple")
        assert said.startswith("no recipe 'smaple': there are ")
        assert {"corpus", "sample"} <= set(said.partition("there are ")[2].split(", "))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("text", "--set text: expected --set a.b=VALUE"),
        ("nothing.at_all=1", "--set nothing.at_all=1: no field 'nothing'; there are flow, sources, ingest,"),
        ("ingest.part_row=1", "--set ingest.part_row=1: no field 'ingest.part_row'; there are part_rows,"),
        ("ingest.part_rows=0", "ingest.part_rows: Input should be greater than or equal to 1, found 0"),
        ("ingest.part_rows=many", 'ingest.part_rows: Input should be a valid integer, unable to parse string as an integer, found "many"'),
        ("clean.max_word_chars=99999999999999999999", "--set clean.max_word_chars=99999999999999999999: 9999999999999999"),
        ('wanted.languages=["\\ud800"]', '--set wanted.languages=["\\ud800"]: found a lone surrogate; expected Unicode text'),
        ("instructions.server=nothttp", "instructions.server: found 'nothttp'; expected `local`, or an address"),
        ("text.rules=[1,[2]]", "rules are [1, [2]], expected names of rule sets such as gopher,c4"),
        ("ingest.max_record_bytes=9999999999", "ingest.max_record_bytes: Input should be less than or equal to 1073741824"),
        ("floors.lowest=1.5", "floors.lowest: Input should be less than or equal to 1, found 1.5"),
        ("language_model=/no/such/file", "/no/such/file is no file; a model is set by the path of its file"),
    ],
)  # fmt: skip
def test_a_field_that_does_not_exist_or_a_value_out_of_bounds(mistake, change, said):
    assert mistake("plan", "sample", "--set", change).startswith(said)


def test_a_wrong_setting_of_the_environment_is_named(mistake, monkeypatch):
    monkeypatch.setenv("POLYLM_WORKERS", "x")
    said = mistake("plan", "sample")
    assert said == "POLYLM_WORKERS=x: Input should be a valid integer, unable to parse string as an integer"
    monkeypatch.setenv("POLYLM_WORKERS", "1")
    monkeypatch.setenv("POLYLM_ZERO_STAGE", "7")
    assert mistake("plan", "sample") == "POLYLM_ZERO_STAGE=7: Input should be less than or equal to 3"


def test_an_unknown_stage_lists_those_that_there_are(mistake, tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "x"}])
    said = mistake("plan", "corpus", "--source", "a=a.jsonl", "--until", "celan", "--store", "store")
    assert said.startswith("--until celan: no such stage; there are ingest, count_lines, clean,")


def test_a_stage_of_other_recipes_is_refused_before_anything_is_built(mistake, tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "x"}])
    said = mistake("run", "corpus", "--source", "a=a.jsonl", "--until", "pretrain", "--store", "store")
    assert said.startswith(
        "--until pretrain: no such stage in a recipe of data stages; it has ingest, count_lines, clean,"
    )
    assert not list((tmp_path / "store").rglob("*.parquet"))


def test_sources_without_a_single_document_are_a_mistake(mistake, tmp_path):
    (tmp_path / "a.jsonl").write_text("[1]\n" * 5)
    said = mistake(*ingest("--source", "a=a.jsonl"))
    assert said.endswith(
        "the sources hold no document; of 5 records all are bad: not a JSON object 5 (polylm show bad_records)"
    )


def test_a_recipe_without_sources_says_how_to_give_some(mistake):
    for verb in ("run", "plan"):
        assert mistake(verb, "corpus").startswith("the recipe corpus has no sources: give --source NAME=PATH")


def test_a_source_must_have_a_name_and_a_path(mistake):
    assert mistake("plan", "corpus", "--source", "a.jsonl").startswith("--source a.jsonl: expected --source NAME=PATH")
    assert "made of letters, digits, - and _" in mistake("plan", "corpus", "--source", "a/b=x")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("nothing", None, "does not exist"),
        ("empty.jsonl", b"", "empty"),
        ("empty.jsonl.gz", gzip.compress(b"", mtime=0), "empty|no document|no record"),
        ("binary.jsonl", bytes(range(256)) * 64, "binary|no document|not .*JSON|no record"),
        ("binary.unknown", b"\x7fELF\x02\x01\x01" + bytes(200), "format|binary|unknown"),
        ("cut.parquet", b"PAR1" + b"\x00" * 50, "parquet|Parquet"),
    ],
    ids=["missing", "empty", "empty gzip", "binary", "unknown format", "truncated Parquet"],
)
def test_a_source_that_cannot_be_read_is_named(mistake, tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    message = mistake(*ingest("--source", f"mine={name}"))
    assert name in message
    assert re.search(said, message), message


def test_a_folder_without_files_is_named(mistake, tmp_path):
    (tmp_path / "folder").mkdir()
    assert "source mine: folder has no files" in mistake(*ingest("--source", "mine=folder"))


def test_bad_records_are_counted_and_kept_and_the_good_ones_go_on(polylm, tmp_path):
    lines = [
        LINE.encode(),
        b'{"text": "\xff\xfe"}',
        b"[1, 2]",
        b'{"title": "no text"}',
        b'{"text": 5}',
        b'{"text": "cut',
        b"null",
    ]
    (tmp_path / "mixed.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    code, out, _ = polylm(*ingest("--source", "mine=mixed.jsonl", "--json"))
    assert code == 0
    report = json.loads(out)["stages"][0]
    assert report["rows"] == 1
    assert report["rows"] + sum(report["reasons"].values()) == len(lines)
    assert any("UTF-8" in reason for reason in report["reasons"])
    assert any("text" in reason for reason in report["reasons"])


def test_of_a_truncated_source_what_is_whole_is_read_and_the_rest_is_a_bad_record(polylm, tmp_path):
    lines = "".join(json.dumps({"text": f"Document {i * 7919 % 1000}."}) + "\n" for i in range(900)).encode()
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(lines)[:-30])
    code, out, _ = polylm(*ingest("--source", "mine=cut.jsonl.gz", "--json"))
    assert code == 0
    report = json.loads(out)["stages"][0]
    assert 500 < report["rows"] < 900
    assert report["reasons"] == {"truncated gzip: the file ends inside the compressed data": 1}


def test_a_store_that_cannot_be_written(mistake, tmp_path):
    (tmp_path / "a.jsonl").write_text(LINE)
    (tmp_path / "file").write_text("")
    said = mistake("run", "corpus", "--source", "a=a.jsonl", "--store", "file/store", "--workers", 0, "--no-prefect")
    assert said == f"the store {tmp_path}/file/store cannot be written (Not a directory): choose another with --store"


def test_a_port_that_is_taken_is_named_before_anything_starts(mistake, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert mistake("up", "--port", port, "--store", tmp_path) == (
            f"port {port} cannot be used (Address already in use): choose others with --port"
        )


@pytest.mark.parametrize("words", [("up",), ("dashboard",)])
@pytest.mark.parametrize("port", [65_536, 99_999, 0, -1])
def test_a_port_that_there_is_not_is_refused_in_a_line(mistake, tmp_path, words, port):
    said = mistake(*words, "--port", port, "--store", tmp_path)
    assert said == f"port {port} cannot be used (expected 1 to 65535): choose others with --port"


def test_a_second_up_over_the_same_database_is_refused(mistake, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    (tmp_path / "prefect").mkdir()
    with alone(tmp_path / "prefect" / "polylm-up.lock", ""):
        said = mistake("up", "--port", 18_743, "--store", tmp_path)
    assert said.startswith(
        f"another `polylm up` uses Prefect's database in {tmp_path}/prefect: end it, set PREFECT_HOME"
    )


def test_a_database_that_is_no_postgres_is_refused(mistake, tmp_path):
    said = mistake("up", "--port", 18_741, "--postgres", "mysql://x", "--store", tmp_path)
    assert said == "--postgres mysql://x: expected postgresql://USER:PASSWORD@HOST/DATABASE"


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/api", "nonsense"])
def test_a_server_that_is_named_and_not_there_is_told_in_a_line(tmp_path, address):
    """In a process of its own: Prefect reads its settings once."""
    (tmp_path / "a.jsonl").write_text(LINE)
    words = command("run", "corpus", "--source", f"a={tmp_path}/a.jsonl", "--store", tmp_path / "store", "--workers", 0)
    variables = environment(PREFECT_API_URL=address, PREFECT_HOME=tmp_path / "prefect")
    done = subprocess.run(words, env=variables, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    said = done.stderr.splitlines()[-1]
    assert said.startswith(f"polylm: the Prefect server {address} does not answer (")
    assert said.endswith("): start it or mend PREFECT_API_URL; --no-prefect runs without one")
    assert "Traceback" not in done.stderr


def test_a_store_whose_path_is_not_utf8_is_refused_at_once(mistake, tmp_path):
    assert "a path whose name is UTF-8 was expected" in mistake("status", "--store", f"{tmp_path}/\udcff")


def test_nothing_is_exported_into_the_store(mistake, third_copy):
    before = sorted(third_copy.rglob("*"))
    said = mistake("export", "corpus", third_copy / "parts" / "mine", "--store", third_copy)
    assert f"is in the store {third_copy}, which has its own files only" in said
    assert sorted(third_copy.rglob("*")) == before


def test_a_model_with_another_digest_is_refused(mistake, tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    monkeypatch.setenv("POLYLM_MODELS", str(tmp_path / "models"))
    (tmp_path / "a.jsonl").write_text(LINE)
    run = ("run", "corpus", "--source", "a=a.jsonl", "--store", "store", "--workers", 0, "--no-prefect")
    assert mistake(*run).startswith("lid.176.ftz is not in ")
    (tmp_path / "models" / "lid.176.ftz").write_bytes(b"another model")
    assert "lid.176.ftz has sha256" in mistake(*run)
    assert not list(tmp_path.glob("store/parts/*/*")), "it was to be said before any work"


def test_the_model_of_the_last_stages_is_missed_at_the_start(mistake, tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / MODEL.name).symlink_to(MODEL)
    monkeypatch.setenv("POLYLM_MODELS", str(tmp_path / "models"))
    said = mistake("run", "sample", "--store", "store", "--workers", 0, "--no-prefect")
    assert said.startswith("SmolLM2-135M-Instruct.Q4_1.gguf is not in ")
    assert not list(tmp_path.glob("store/parts/*/*"))


def test_an_empty_store_is_refused_and_does_not_mean_this_folder(polylm, monkeypatch, tmp_path):
    code, _, said = polylm("status", "--store", "")
    assert (code, said) == (2, 'polylm: --store "": the path of a folder was expected, . for this one\n')
    monkeypatch.setenv("POLYLM_STORE", "")
    code, _, said = polylm("status")
    assert (code, said) == (2, "polylm: POLYLM_STORE=: the path of a folder was expected, . for this one\n")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_verify_would_not_look_at_is_refused(mistake):
    assert mistake("verify", "--run", "nope").startswith("--run names the run whose parts --recompute makes again")


@pytest.mark.parametrize("workers", [-1, "two", 1.5, 10**20])
def test_a_number_of_workers_that_is_none(polylm, workers):
    code, out, err = polylm("plan", "sample", "--workers", workers)
    assert (code, out) in ((2, ""), (1, ""))
    assert "workers" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("why", "sample.0.0"), "no run in store; there are none: `polylm run sample` makes one"),
        (("why", "sample.0.0", "--run", "x"), "no run x in store; there are none"),
        (("show", "clean"), "no stage 'clean' in the runs of "),
        (("show", "clean/abc"), "0 artifacts clean/abc* in "),
        (("export", "corpse", "out"), "export corpse: expected corpus, tokenizer or model"),
    ],
)
def test_what_is_not_in_the_store_is_named(mistake, tmp_path, words, said):
    Store(tmp_path / "store").open()
    assert mistake(*words, "--store", "store").startswith(said)


@pytest.mark.parametrize(
    ("doc", "said"),
    [
        ("sample.99.0", "no document sample.99.0: sample has parts 0 to "),
        ("sample.0.999", "no document sample.0.999: sample has parts 0 to "),
        ("nobody", "no document 'nobody' in the run RUN: give an id, or SOURCE.PART.ROW with SOURCE one of sample"),
        (
            "other.0.0",
            "no document 'other.0.0' in the run RUN: give an id, or SOURCE.PART.ROW with SOURCE one of sample",
        ),
    ],
)
def test_an_unknown_document_says_what_there_is(mistake, third_store, doc, said):
    (run,) = (third_store / "runs").glob("*.json")
    assert mistake("why", doc, "--store", third_store).startswith(said.replace("RUN", run.stem))
