"""Sealed checkpoints. Writing and falling back through real ranks is in test_train.py."""

import json
from hashlib import sha256

import pytest
import torch

from polylm.model.checkpoint import (
    DamagedCheckpoint,
    list_checkpoints,
    load_weights,
    prune,
    read_note,
    save_weights,
    step_folder,
    verify,
)


def sealed(folder, step):
    checkpoint = step_folder(folder, step)
    (checkpoint / "state").mkdir(parents=True)
    files = {"model.safetensors": b"weights" * 100, "state/shard_0.pt": bytes(1000)}
    for name, content in files.items():
        (checkpoint / name).write_bytes(content)
    digests = {name: sha256(content).hexdigest() for name, content in files.items()}
    (checkpoint / "manifest.json").write_text(json.dumps({"step": step, "files": digests, "note": {"a": 1}}))
    return checkpoint


def test_a_whole_checkpoint_verifies_and_gives_its_note(tmp_path):
    checkpoint = sealed(tmp_path, 12)
    verify(checkpoint)
    assert read_note(checkpoint) == (12, {"a": 1})


def test_one_flipped_bit_is_found_and_named(tmp_path):
    checkpoint = sealed(tmp_path, 12)
    shard = checkpoint / "state/shard_0.pt"
    content = bytearray(shard.read_bytes())
    content[500] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DamagedCheckpoint, match=r"state/shard_0\.pt: found \w{64}, the manifest says \w{64}"):
        verify(checkpoint)


def test_a_missing_file_and_a_broken_manifest_are_damage(tmp_path):
    first, second = sealed(tmp_path, 1), sealed(tmp_path, 2)
    (first / "model.safetensors").unlink()
    with pytest.raises(DamagedCheckpoint, match=r"model\.safetensors is missing"):
        verify(first)
    (second / "manifest.json").write_text('{"step": 2')
    with pytest.raises(DamagedCheckpoint, match=r"manifest\.json: not JSON"):
        verify(second)


def test_only_sealed_checkpoints_are_listed_and_the_newest_are_kept(tmp_path):
    for step in (5, 10, 100):
        sealed(tmp_path, step)
    (tmp_path / "step_00000200.tmp").mkdir()
    (tmp_path / "step_00000150").mkdir()  # deleted half-way: its manifest went first
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_00000100", "step_00000010", "step_00000005"]
    assert prune(tmp_path, keep=2) == [5]
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_00000100", "step_00000010"]


def test_a_model_folder_gives_back_its_weights_and_shape(tmp_path, tiny):
    save_weights(tmp_path / "model", {"a": torch.arange(3.0)}, tiny)
    config, weights = load_weights(tmp_path / "model")
    assert config == tiny
    assert weights["a"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"has no config\.json"):
        load_weights(tmp_path)
