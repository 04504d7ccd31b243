"""Training, as every rank runs it: `python -P -m polylm.model.train job.json`.

A start in a folder that has checkpoints goes on from the newest good one, bit for bit as if it had not stopped.
"""

import json
import math
import os
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from polylm.model import checkpoint
from polylm.model.batches import BatchReader
from polylm.model.config import Optimizer, TrainJob
from polylm.model.guard import GuardedAdamW, SpikeGuard
from polylm.model.metrics import RunLog, StepMetrics
from polylm.model.network import Batch, Network, initialize, load_into
from polylm.model.parallel import consolidate, data_rank, make_engine, start
from polylm.model.rank import PREEMPTED, beat
from polylm.model.sampler import Sampler

_NOT_LEARNED = {"folder", "placement", "checkpoint_every", "keep_checkpoints", "tensorboard", "skip"}


def rate(optimizer: Optimizer, step: int, steps: int) -> float:
    """Give the learning rate of `step` (from 0): linear up from initial_rate, then a cosine to the last step."""
    if step < optimizer.warmup_steps:
        return optimizer.initial_rate + (optimizer.peak_rate - optimizer.initial_rate) * step / optimizer.warmup_steps
    progress = (step - optimizer.warmup_steps) / max(1, steps - 1 - optimizer.warmup_steps)
    floor = optimizer.peak_rate * optimizer.final_share
    return floor + (optimizer.peak_rate - floor) * (1 + math.cos(math.pi * progress)) / 2


def fingerprint(job: TrainJob) -> str:
    """Hash what decides the result: checkpoints of another one must not be gone on from."""
    learned = job.model_dump(mode="json", exclude=_NOT_LEARNED)
    for segment in learned["segments"]:
        segment["files"] = [Path(file).name for file in segment["files"]]
    learned["initial_weights"] = job.initial_weights is not None
    return sha256(json.dumps(learned, sort_keys=True).encode()).hexdigest()


def is_finished(job: TrainJob) -> bool:
    """Say whether the job's folder has its result. Raises `ValueError` if it has another job's."""
    path = Path(job.folder) / "result.json"
    if not path.exists():
        return False
    if json.loads(path.read_text(encoding="utf-8"))["fingerprint"] != fingerprint(job):
        raise ValueError(f"{job.folder} holds the result of another job; give this job another folder")
    return True


def check_note(folder: Path, note: dict[str, Any], job: TrainJob) -> None:
    """Raise `ValueError` if `job` cannot go on from the checkpoint in `folder` with this note."""
    if note["fingerprint"] != fingerprint(job):
        raise ValueError(f"{folder} is of another job; give this job another folder, or delete the checkpoints")
    if note["layout"] != job.placement.layout:
        raise ValueError(
            f"{folder} was written with {note['layout']}, this start has {job.placement.layout}; resume with the "
            f"same layout, or start a new job with initial_weights = {folder}"
        )


@dataclass(frozen=True)
class StepSums:
    """Sums over all rows of a step and all ranks."""

    nll: list[float]
    tokens: list[float]
    z_loss: float
    stop: bool

    @property
    def total(self) -> float:
        return max(1.0, sum(self.tokens))


class Training:
    """A job on one rank."""

    def __init__(self, job: TrainJob) -> None:
        self.job = job
        self.folder = Path(job.folder)
        self.device = start(job.placement)
        self.is_first = dist.get_rank() == 0
        self.log = RunLog(self.folder)
        self.stopping = False
        self.sampler = Sampler(job.segments, context=job.model.context, batch=job.batch, seed=job.seed, skip=job.skip)
        self.reader = BatchReader(job, self.sampler, data_rank=data_rank(job.placement), device=self.device)

    def run(self) -> int:
        """Train to the end, or until told to stop; give the exit code."""
        if is_finished(self.job):
            return 0
        signal.signal(signal.SIGTERM, self._on_sigterm)
        done = self._begin()
        for step in range(done, self.job.steps):
            stop = self._step(step)
            beat()
            last = step + 1 == self.job.steps
            if stop or last or (step + 1) % self.job.checkpoint_every == 0:
                self._save(step + 1)
            if stop and not last:
                self._event("preempted", step + 1)
                return PREEMPTED
        self._end()
        return 0

    # --- begin and end

    def _begin(self) -> int:
        """Build the engine, load what there is, and give the number of steps done."""
        checkpoints = self.folder / "checkpoints"
        if self.is_first:
            checkpoints.mkdir(parents=True, exist_ok=True)
        network = self._network()
        self.optimizer = GuardedAdamW(
            self._parameter_groups(network),
            SpikeGuard(self.job.guard),
            lr=self.job.optimizer.peak_rate,
            betas=self.job.optimizer.betas,
            eps=self.job.optimizer.eps,
        )
        self.engine = make_engine(network, self.optimizer, self.job)
        # The engine's own norm is a step behind while the optimizer runs.
        self.optimizer.norm_of = lambda: self.engine.optimizer._global_grad_norm
        self.network = network
        newest = checkpoint.newest_good(checkpoints, self._on_damage)
        done = 0 if newest is None else self._resume(newest)
        if self.is_first:
            self.log.rewind(done)
            if self.job.tensorboard:
                self.log.open_board(done)
        self._event(
            "resume" if done else "start", done, placement=self.job.placement.model_dump(), torch=torch.__version__
        )
        return done

    def _network(self) -> Network:
        job = self.job
        network = Network(
            job.model,
            languages=len(job.languages),
            residual_fp32=job.residual_fp32,
            document_mask=job.document_mask,
            z_loss=job.z_loss,
            recompute=job.placement.recompute,
        )
        if job.initial_weights is None:
            initialize(network, kind=job.init, std=job.init_std, seed=job.seed)
        else:
            _load_initial(network, job)
        if self.is_first and not (self.folder / "initial" / "config.json").exists():
            weights = {name: value.detach() for name, value in network.named_parameters()}
            checkpoint.save_weights(self.folder / "initial", weights, job.model)
        return network

    def _parameter_groups(self, network: Network) -> list[dict[str, Any]]:
        matrices = [value for value in network.parameters() if value.dim() >= 2]
        others = [value for value in network.parameters() if value.dim() < 2]
        decay = self.job.optimizer.weight_decay
        return [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]

    def _resume(self, newest: Path) -> int:
        step, note = checkpoint.read_note(newest)
        check_note(newest, note, self.job)
        checkpoint.load(self.engine, newest)
        self.optimizer.guard.restore(note["guard"])
        return step

    def _save(self, step: int) -> None:
        if self.is_first:
            self.log.sync()
        weights = consolidate(self.network, self.job.placement)
        folder = self.folder / "checkpoints"
        note = {
            "fingerprint": fingerprint(self.job),
            "layout": self.job.placement.layout,
            "guard": self.optimizer.guard.state(),
        }
        checkpoint.save(self.engine, folder, step, weights=weights, config=self.job.model, note=note)
        self._event("checkpoint", step)
        if self.is_first and (gone := checkpoint.prune(folder, self.job.keep_checkpoints)):
            self._event("prune", step, steps=gone)
        beat()

    def _end(self) -> None:
        self._event("end", self.job.steps)
        if not self.is_first:
            return
        last = checkpoint.step_folder(self.folder / "checkpoints", self.job.steps)
        (self.folder / "final").mkdir(exist_ok=True)
        for name in ("model.safetensors", "config.json"):
            shutil.copyfile(last / name, self.folder / "final" / name)
        self.log.write_tables()
        with (self.folder / "final" / "model.safetensors").open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        result = {
            "fingerprint": fingerprint(self.job),
            "steps": self.job.steps,
            "weights_sha256": digest,
            "skipped": self.log.steps_skipped(),
            "rows": self.log.rows_delivered(),
        }
        aside = self.folder / "result.json.tmp"
        aside.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        aside.replace(self.folder / "result.json")

    # --- a step

    def _step(self, step: int) -> bool:
        """Do step number `step` (from 0); say whether to stop after it."""
        began = time.perf_counter()
        dealt = self.sampler.deal(step)
        micro_batches = self.reader.micro_batches(step, dealt)
        now = rate(self.job.optimizer, step, self.job.steps)
        self._set_rate(now)
        sums = self._accumulate(micro_batches)
        loss = (sum(sums.nll) + self.job.z_loss * sums.z_loss) / sums.total
        self.optimizer.begin(loss)
        self.engine.step()
        skipped = self.optimizer.finish()
        if self.is_first:
            seconds = time.perf_counter() - began
            rows = Counter(cell for cell, _, _ in dealt)
            self.log.step(self._metrics(step, sums, loss=loss, rate=now, seconds=seconds, skipped=skipped, rows=rows))
        if skipped:
            self._event("skip", step + 1, reason=skipped, loss=loss)
        return sums.stop

    def _metrics(
        self,
        step: int,
        sums: StepSums,
        *,
        loss: float,
        rate: float,
        seconds: float,
        skipped: str | None,
        rows: Counter[str],
    ) -> StepMetrics:
        by_language = zip(self.job.languages, sums.nll, sums.tokens, strict=True)
        return StepMetrics(
            step=step + 1,
            segment=self.job.segments[self.sampler.segment_of_step(step)].name,
            loss=loss,
            z_loss=sums.z_loss / sums.total,
            tokens=int(sum(sums.tokens)),
            grad_norm=float(self.optimizer.norm_of()),
            rate=rate,
            seconds=seconds,
            tokens_per_second=self.job.batch * self.job.model.context / seconds,
            skipped=skipped,
            languages={language: (nll, int(tokens)) for language, nll, tokens in by_language if tokens},
            rows=dict(rows),
        )

    def _accumulate(self, micro_batches: list[Batch]) -> StepSums:
        """Run forward and backward of all micro-batches; the gradients wait in the engine."""
        languages = len(self.job.languages)
        sums = torch.zeros(2 * languages + 2, dtype=torch.float64, device=self.device)
        for number, batch in enumerate(micro_batches):
            losses = self.engine(*batch)
            self.engine.backward(losses.loss)
            sums[:languages] += losses.nll
            sums[languages:-2] += losses.counts
            sums[-2] += losses.z_loss
            if number + 1 < len(micro_batches):
                self.engine.step()  # only counts, between the ends of two steps
        sums[-1] = float(self.stopping)
        dist.all_reduce(sums)
        # Ranks of a tensor-parallel group have seen the same rows.
        sums /= self.job.placement.tensor_parallel
        values = sums.tolist()
        return StepSums(values[:languages], values[languages:-2], values[-2], values[-1] > 0)

    def _set_rate(self, value: float) -> None:
        for group in self.engine.optimizer.param_groups:
            group["lr"] = value

    # --- small things

    def _event(self, event: str, step: int, **detail: Any) -> None:
        if self.is_first:
            self.log.event(event, step, **detail)

    def _on_damage(self, folder: Path, reason: str) -> None:
        self._event("damaged", int(folder.name.removeprefix("step_")), reason=reason)

    def _on_sigterm(self, *_: Any) -> None:
        self.stopping = True


def _load_initial(network: Network, job: TrainJob) -> None:
    assert job.initial_weights is not None
    config, weights = checkpoint.load_weights(Path(job.initial_weights))
    if config != job.model:
        raise ValueError(f"{job.initial_weights} holds a model of {config}; this job's is {job.model}")
    load_into(network, weights)


def main() -> None:
    """Run the job named on the command line and exit with its code."""
    job = TrainJob.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    code = Training(job).run()
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is written. In the interpreter's own end a thread of native code that nobody has joined aborts the process
    # once in a long while ("terminate called without an active exception"), and a whole training would count as failed.
    os._exit(code)


if __name__ == "__main__":
    main()
