"""Training through DeepSpeed in real ranks. Each start costs 6-10 s on two cores, so a test looks at much."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from polylm.model.checkpoint import save_weights
from polylm.model.config import Guard, Optimizer, Placement, Segment, write_job
from polylm.model.launch import launch
from polylm.model.network import Network, initialize
from polylm.model.sampler import Sampler
from polylm.model.train import check_note, fingerprint, is_finished, rate

on_linux = pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds ranks through /proc")

CURVE = Path(__file__).with_name("loss_curve.json")
STEPS = 40


@pytest.fixture(scope="module")
def long_job(make_job, packed):
    """Make a job of 40 steps, long enough to be interrupted."""

    def make(folder, placement, **changes):
        segments = [
            Segment(name="stage-1", steps=25, files=packed, shares={"en/web": 0.7, "de/book": 0.2, "th/web": 0.1}),
            Segment(name="stage-2", steps=15, files=packed, shares={"en/web": 0.4, "de/book": 0.3, "th/web": 0.3}),
        ]
        return make_job(folder, placement, segments=segments, keep_checkpoints=3, **changes)

    return make


@pytest.fixture(scope="module")
def calm(long_job):
    """Two data-parallel ranks that nothing disturbed."""
    job = long_job("calm", Placement(data_parallel=2, micro_batch=1))
    run(job)
    return job


def run(job):
    folder = Path(job.folder)
    launch(write_job(job, folder / "job.json"), ranks=job.placement.ranks, logs=folder / "logs")


def start_launcher(job):
    """Start a process that launches the job, as the command line would."""
    folder = Path(job.folder)
    path = write_job(job, folder / "job.json")
    code = (
        "import sys; from pathlib import Path; from polylm.model.launch import launch\n"
        f"launch(Path({str(path)!r}), ranks={job.placement.ranks}, logs=Path({str(folder / 'logs')!r}))\n"
    )
    return subprocess.Popen([sys.executable, "-P", "-c", code])


def lines(job):
    return [json.loads(line) for line in (Path(job.folder) / "metrics.jsonl").read_text().splitlines()]


def events(job):
    return [(row["event"], row["step"]) for row in pq.read_table(Path(job.folder) / "events.parquet").to_pylist()]


def result(job):
    return json.loads((Path(job.folder) / "result.json").read_text())


def wait_for_step(job, step, launcher, seconds=120):
    path = Path(job.folder) / "metrics.jsonl"
    deadline = time.monotonic() + seconds
    while not path.exists() or path.read_bytes().count(b"\n") < step:
        assert launcher.poll() is None, "the training ended before that step"
        assert time.monotonic() < deadline, "the training did not get that far"
        time.sleep(0.005)


def ranks_of(job):
    """Pids of processes whose command line names the job."""
    wanted = str(Path(job.folder) / "job.json").encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if wanted in entry.read_bytes() and b"polylm.model.rank" in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def assert_equal_training(one, other, tolerance=1e-5):
    for ours, theirs in zip(lines(one), lines(other), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=tolerance)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], abs=tolerance)
        assert ours["rows"] == theirs["rows"]
        assert ours["languages"].keys() == theirs["languages"].keys()
    ours, theirs = (load_file(Path(job.folder) / "final" / "model.safetensors") for job in (one, other))
    assert ours.keys() == theirs.keys()
    for name in ours:
        if not name.endswith("key.bias"):  # its true gradient is zero, and Adam makes full steps of the noise
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=tolerance)


@on_linux
@pytest.mark.ranks
@pytest.mark.slow
def test_two_ranks_equal_one_and_a_sigterm_loses_nothing(long_job, calm):
    """One process, interrupted by SIGTERM and resumed; two data-parallel ranks; two tensor-parallel ones."""
    one = long_job("one", Placement(micro_batch=2))
    launcher = start_launcher(one)
    wait_for_step(one, 3, launcher)
    os.kill(ranks_of(one)[0], signal.SIGTERM)
    assert launcher.wait(60) == 1  # Preempted, raised in the launching process
    preempted_at = len(lines(one))
    assert 3 <= preempted_at < STEPS
    run(one)
    assert [line["step"] for line in lines(one)] == list(range(1, STEPS + 1))
    assert ("preempted", preempted_at) in events(one)
    assert ("resume", preempted_at) in events(one)

    losses = [line["loss"] for line in lines(one)][:20]
    assert losses == pytest.approx(json.loads(CURVE.read_text()), abs=1e-4)
    assert_counts_and_sums(one)

    assert_equal_training(one, calm)
    tensors = long_job("tensors", Placement(tensor_parallel=2, zero_stage=1, micro_batch=2))
    run(tensors)
    assert_equal_training(one, tensors)


def assert_counts_and_sums(job):
    """Delivered rows are the planned ones, and languages add up to the loss."""
    for line in lines(job):
        nll, tokens = (sum(value[part] for value in line["languages"].values()) for part in (0, 1))
        assert nll / tokens == pytest.approx(line["loss"], rel=1e-9)
        assert tokens == line["tokens"]
    assert result(job)["rows"] == {
        "stage-1": {"de/book": 20, "en/web": 70, "th/web": 10},
        "stage-2": {"de/book": 18, "en/web": 24, "th/web": 18},
    }
    sampler = Sampler(job.segments, context=job.model.context, batch=job.batch, seed=job.seed)
    assert lines(job)[30]["rows"] == Counter(place.cell for place in sampler.rows_of_step(30))


@on_linux
@pytest.mark.ranks
@pytest.mark.slow
def test_a_killed_launcher_leaves_no_rank_and_the_resume_is_bit_equal_even_from_the_checkpoint_before(long_job, calm):
    killed = long_job("killed", calm.placement)
    launcher = start_launcher(killed)
    wait_for_step(killed, 12, launcher)
    launcher.kill()
    launcher.wait()
    deadline = time.monotonic() + 5
    while ranks_of(killed):
        assert time.monotonic() < deadline, "a rank outlived its launcher"
        time.sleep(0.05)
    newest = flip_a_bit_of_the_newest_checkpoint(killed)
    run(killed)

    assert ("damaged", newest) in events(killed)
    assert ("resume", newest - 5) in events(killed)
    assert result(killed) == result(calm)
    assert [line["step"] for line in lines(killed)] == list(range(1, STEPS + 1))
    assert [line["loss"] for line in lines(killed)] == [line["loss"] for line in lines(calm)]
    assert is_finished(killed)
    with pytest.raises(ValueError, match="holds the result of another job; give this job another folder"):
        is_finished(killed.model_copy(update={"seed": 9}))


def flip_a_bit_of_the_newest_checkpoint(job):
    checkpoints = sorted(path.parent for path in (Path(job.folder) / "checkpoints").glob("step_????????/manifest.json"))
    shard = max(checkpoints[-1].glob("state/*.pt"), key=lambda path: path.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    return int(checkpoints[-1].name.removeprefix("step_"))


@pytest.mark.ranks
@pytest.mark.slow
def test_fine_tuning_from_a_model_folder_with_spikes_skipped_in_bf16(make_job, tiny, tmp_path):
    """Everything that the other runs leave out: initial weights, bf16, ZeRO-3, skips, z-loss, TensorBoard."""
    network = Network(tiny)
    initialize(network, kind="normal", std=0.1, seed=8)
    start = {name: value.detach() for name, value in network.named_parameters()}
    save_weights(tmp_path / "base", start, tiny)
    job = make_job(
        "tuned",
        Placement(micro_batch=2, zero_stage=3, recompute=True),
        initial_weights=str(tmp_path / "base"),
        precision="bf16",
        reset_positions=True,
        z_loss=1e-3,
        optimizer=Optimizer(peak_rate=1.0, warmup_steps=6),  # far too high, to make spikes
        guard=Guard(window=8, minimum=4, deviations=2.0),
        tensorboard=True,
    )
    run(job)
    initial, final = (load_file(Path(job.folder) / name / "model.safetensors") for name in ("initial", "final"))
    assert all(torch.equal(initial[name], start[name]) for name in start)
    assert {value.dtype for value in final.values()} == {torch.float32}
    # The fp32 masters, not the bf16 weights, are what is kept.
    assert not torch.equal(final["tokens.weight"], final["tokens.weight"].bfloat16().float())
    skipped = [line["step"] for line in lines(job) if line["skipped"]]
    assert result(job)["skipped"] == len(skipped) > 0
    assert [step for event, step in events(job) if event == "skip"] == skipped
    line = lines(job)[0]
    nll, tokens = (sum(value[part] for value in line["languages"].values()) for part in (0, 1))
    assert line["loss"] == pytest.approx(nll / tokens + 1e-3 * line["z_loss"], rel=1e-9)
    assert list((Path(job.folder) / "tensorboard").glob("events.*"))


def test_the_rate_warms_up_from_its_first_value_and_ends_at_its_last():
    optimizer = Optimizer(peak_rate=1e-3, warmup_steps=10)
    rates = [rate(optimizer, step, 110) for step in range(110)]
    assert rates[0] == 1e-7
    assert rates[10] == max(rates) == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(1e-4)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rate(optimizer, 59, 109) == pytest.approx(1e-4 + 9e-4 * (1 + math.cos(math.pi / 2)) / 2)


def test_placement_is_no_part_of_what_is_learned_and_the_seed_is(make_job):
    job = make_job()
    elsewhere = make_job("elsewhere", Placement(data_parallel=2), checkpoint_every=1)
    assert fingerprint(job) == fingerprint(elsewhere)
    assert fingerprint(job) != fingerprint(make_job(seed=2))


def test_a_checkpoint_of_another_job_or_layout_is_refused_with_the_way_out(make_job):
    job = make_job()
    note = {"fingerprint": fingerprint(job), "layout": job.placement.layout}
    check_note(Path("step_5"), note, job)
    with pytest.raises(ValueError, match="step_5 is of another job; give this job another folder"):
        check_note(Path("step_5"), note, make_job(seed=2))
    two = make_job("two", Placement(data_parallel=2))
    with pytest.raises(
        ValueError, match=r"'data_parallel': 1.*this start has .*'data_parallel': 2.*initial_weights = step_5"
    ):
        check_note(Path("step_5"), note, two)
