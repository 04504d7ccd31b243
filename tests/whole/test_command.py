"""What one does with a store in which everything was built: run again, ask why, verify, export, load elsewhere."""

import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from samples import ROOT, call, command, environment

from polylm.flows.reading import explain, export_to
from polylm.tasks.maintenance.verify import damaged
from polylm.tasks.training.chat import END, render

pytestmark = pytest.mark.ranks
SCRIPT = ROOT / "tests" / "whole" / "load_export.py"


def load_elsewhere(folder, tmp_path, *, cwd, safe):
    """Load an export in a process of its own, from a folder and with or without safe paths; what it found."""
    variables = {name: value for name, value in environment().items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    variables |= {"PYTHONSAFEPATH": "1"} if safe else {}
    script = SCRIPT if safe else tmp_path / "script.py"
    if not safe:
        script.write_text(SCRIPT.read_text())
    words = [sys.executable, str(script), str(folder), str(tmp_path / "found.json")]
    done = subprocess.run(words, env=variables, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads((tmp_path / "found.json").read_text())


def test_standard_output_is_one_json_document(whole):
    said = json.loads((whole.store.parent / "said").read_text())
    assert [stage["stage"] for stage in said["stages"]][-1] == "report_evaluation"


def test_a_second_run_builds_nothing_and_asks_no_model(whole, tmp_path):
    copy = whole.copy(tmp_path / "store")
    stages = copy.run(workers=0)  # the server is gone
    assert [stage["stage"] for stage in stages if stage["built"]] == []
    assert sum(stage["reused"] for stage in stages) == sum(stage["jobs"] for stage in stages) > 200


def test_verify_finds_nothing(whole):
    found = damaged(whole.store)
    assert found.damage == ()
    assert found.checked > 300


def test_why_answers_for_documents_kept_and_rejected(whole):
    weights = {label: table["weight"].to_pylist() for label, table in whole.tables("select").items()}
    for is_kept in (True, False):
        address = next(
            f"{label}.{row}"
            for label, part in weights.items()
            for row, weight in enumerate(part)
            if (weight is not None) == is_kept
        )
        found = explain(whole.settings, address, None)
        assert (found["verdict"] == "kept") == is_kept
        broken = [rule for rule in found["rules"] if rule["verdict"] == "broken"]
        assert bool(broken) != is_kept
        assert all(rule["value"] is not None and rule["bound"] is not None for rule in broken)
        assert found["document"]["id"]


def test_the_corpus_of_the_selected_documents_is_exported(whole, tmp_path):
    said = export_to(whole.settings, "corpus", tmp_path / "corpus")
    rows = sum(pq.read_metadata(path).num_rows for path in (tmp_path / "corpus").glob("*.parquet"))
    weights = whole.table("select")["weight"]
    assert rows == len(weights) - weights.null_count
    assert said.startswith(f"{rows} documents of the run ")


def test_the_tokenizer_is_exported_as_it_was_trained(whole, tmp_path):
    from tokenizers import Tokenizer

    export_to(whole.settings, "tokenizer", tmp_path / "tokenizer")
    names = {path.name for path in (tmp_path / "tokenizer").iterdir()}
    assert "tokenizer.json" in names
    assert "manifest.json" not in names
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer" / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 4_096
    assert tokenizer.token_to_id(END) == 0


def test_a_folder_that_is_not_empty_is_refused(whole, tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    for what in ("corpus", "tokenizer", "model"):
        with pytest.raises(ValueError, match=r"is not an empty folder: give a new one"):
            export_to(whole.settings, what, tmp_path)
    done = subprocess.run(
        command("export", "model", tmp_path, "--store", whole.store),
        env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"polylm: {tmp_path} is not an empty folder: give a new one\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_exported_model_loads_from_the_repository_and_elsewhere_and_computes_what_ours_does(whole, tmp_path):
    said = call(command("export", "model", tmp_path / "model", "--store", whole.store))
    assert said.strip().endswith(f"in {tmp_path / 'model'}")
    inside = load_elsewhere(tmp_path / "model", tmp_path, cwd=ROOT, safe=True)
    outside = load_elsewhere(tmp_path / "model", tmp_path, cwd=tmp_path, safe=False)
    assert inside == outside
    assert inside["ours"] == []
    assert inside["special"] == [inside["end"]] * 4
    assert inside["ids"][0] == inside["end"]
    assert inside["talk"] == f"{END}{render('Name a river.')}The Oder.{END}"
    assert inside["talk_ids"][0] == inside["talk_ids"][-1] == inside["end"]
    logits, written = ours(whole.training("finetune"), inside["ids"], len(inside["written"]))
    assert (logits - logits.new_tensor(inside["logits"])).abs().max() < 1e-4
    assert logits.std() > 0.1  # so that 1e-4 means something
    assert inside["written"] == written[: len(inside["written"])]


def ours(folder, ids, length):
    """The logits of our own network, and what it writes greedily."""
    import torch

    from polylm.model.score import load_network

    _, network = load_network(str(folder))

    def logits_of(ids):
        with torch.no_grad():
            hidden, _ = network.hidden_states(torch.tensor([ids]), torch.arange(len(ids))[None], None)
            return network.logits(hidden)[0]

    written = list(ids)
    while len(written) < length:
        written.append(int(logits_of(written)[-1].argmax()))
    return logits_of(ids), written
