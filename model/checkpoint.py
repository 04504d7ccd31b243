"""Checkpoints that are whole or not there: DeepSpeed's files, our digests, one rename.

DeepSpeed neither syncs nor renames, and loads a shard with flipped bytes without a word.

    checkpoints/step_00000012/manifest.json      written last inside, with size and sha256 of every other file
                              model.safetensors  fp32, whole, under the network's own names
                              config.json        the ModelConfig
                              state/             DeepSpeed's shards: pickles, loaded only after their digests match
"""

import json
import os
import shutil
from collections.abc import Callable
from hashlib import file_digest
from pathlib import Path
from typing import Any

import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from polylm.model.config import ModelConfig

_STATE = "state"


class DamagedCheckpoint(ValueError):
    """A checkpoint is not what its manifest says."""


def step_folder(folder: Path, step: int) -> Path:
    """Name the checkpoint after `step` steps."""
    return folder / f"step_{step:08d}"


def list_checkpoints(folder: Path) -> list[Path]:
    """List the sealed checkpoints, the newest first."""
    return sorted((path.parent for path in folder.glob("step_????????/manifest.json")), reverse=True)


def save_weights(folder: Path, weights: dict[str, Tensor], config: ModelConfig) -> None:
    """Write a model folder: model.safetensors and config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(config.model_dump_json(indent=1) + "\n", encoding="utf-8")


def load_weights(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Read a model folder. Raises `ValueError` if it is none."""
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder}: has no {name}; expected a folder with config.json and model.safetensors")
    config = ModelConfig.model_validate_json((folder / "config.json").read_text(encoding="utf-8"))
    return config, load_file(folder / "model.safetensors")


def save(
    engine: Any, folder: Path, step: int, *, weights: dict[str, Tensor], config: ModelConfig, note: dict[str, Any]
) -> Path:
    """Write and seal a checkpoint; every rank must call it. `note` comes back from `read_note`.

    `weights` are the consolidated ones (rank 0's; others pass {}).
    """
    final = step_folder(folder, step)
    aside = final.with_suffix(".tmp")
    if dist.get_rank() == 0:
        _sweep(folder)
        save_weights(aside, weights, config)
    dist.barrier()
    engine.save_checkpoint(str(aside), tag=_STATE, save_latest=False)
    dist.barrier()
    digests = _digest_together(aside)
    if dist.get_rank() == 0:
        _seal(aside, final, {"step": step, "files": digests, "note": note})
    dist.barrier()
    return final


def load(engine: Any, checkpoint: Path) -> None:
    """Load weights and optimizer state from a verified checkpoint; every rank must call it."""
    path, _ = engine.load_checkpoint(str(checkpoint), tag=_STATE, load_lr_scheduler_states=False)
    assert path is not None, f"DeepSpeed found nothing in {checkpoint}"


def newest_good(folder: Path, on_damage: Callable[[Path, str], None]) -> Path | None:
    """Find the newest checkpoint that is whole; damaged ones are renamed and reported. Every rank must call it."""
    found: list[str | None] = [None]
    if dist.get_rank() == 0:
        found[0] = _newest_good(folder, on_damage)
    dist.broadcast_object_list(found)
    return None if found[0] is None else Path(found[0])


def verify(checkpoint: Path) -> None:
    """Compare every file with the manifest. Raises `DamagedCheckpoint` naming the first that differs."""
    manifest = _read_manifest(checkpoint)
    present = {str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*") if path.is_file()}
    if missing := sorted(set(manifest["files"]) - present):
        raise DamagedCheckpoint(f"{checkpoint}: {missing[0]} is missing")
    for name, expected in sorted(manifest["files"].items()):
        if (found := _digest(checkpoint / name)) != expected:
            raise DamagedCheckpoint(f"{checkpoint / name}: found {found}, the manifest says {expected}")


def read_note(checkpoint: Path) -> tuple[int, dict[str, Any]]:
    """Give the step and the note of a checkpoint."""
    manifest = _read_manifest(checkpoint)
    return int(manifest["step"]), manifest["note"]


def prune(folder: Path, keep: int) -> list[int]:
    """Delete all but the newest `keep` checkpoints and say which steps went. The manifest goes first."""
    gone = []
    for checkpoint in list_checkpoints(folder)[keep:]:
        (checkpoint / "manifest.json").unlink()
        shutil.rmtree(checkpoint)
        gone.append(int(checkpoint.name.removeprefix("step_")))
    return gone


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Delete what a kill left half-written or half-deleted."""
    for left_over in folder.glob("step_*"):
        sealed = (left_over / "manifest.json").exists() and left_over.suffix != ".tmp"
        if not sealed and left_over.suffix != ".damaged":
            shutil.rmtree(left_over)


def _newest_good(folder: Path, on_damage: Callable[[Path, str], None]) -> str | None:
    for checkpoint in list_checkpoints(folder):
        try:
            verify(checkpoint)
        except DamagedCheckpoint as error:
            aside = checkpoint.with_suffix(".damaged")
            shutil.rmtree(aside, ignore_errors=True)
            checkpoint.rename(aside)
            on_damage(checkpoint, str(error))
        else:
            return str(checkpoint)
    return None


def _read_manifest(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise DamagedCheckpoint(f"{path}: not JSON ({error})") from error
    if set(manifest) != {"step", "files", "note"}:
        raise DamagedCheckpoint(f"{path}: has {sorted(manifest)}, expected step, files and note")
    return manifest


def _digest_together(folder: Path) -> dict[str, str]:
    """Sync and hash all files, each rank its share. Rank 0 gets all digests."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    mine = {name: _digest(folder / name, sync=True) for name in names[dist.get_rank() :: dist.get_world_size()]}
    shares: list[dict[str, str]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(shares, mine)
    return {name: digest for share in shares for name, digest in share.items()}


def _digest(path: Path, *, sync: bool = False) -> str:
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        return file_digest(file, "sha256").hexdigest()


def _seal(aside: Path, final: Path, manifest: dict[str, Any]) -> None:
    path = aside / "manifest.json"
    with path.open("w", encoding="utf-8") as out:
        json.dump(manifest, out, indent=1)
        out.flush()
        os.fsync(out.fileno())
    for folder in (*(path for path in aside.rglob("*") if path.is_dir()), aside):
        sync_folder(folder)
    aside.rename(final)
    sync_folder(final.parent)
