"""From packed rows to the tensors of a micro-batch."""

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from polylm.model.config import TrainJob
from polylm.model.network import Batch
from polylm.model.rows import PackedRow
from polylm.model.sampler import Sampler

Integers = npt.NDArray[np.int64]


class BatchReader:
    """Reads this rank's share of the rows that the sampler dealt."""

    def __init__(self, job: TrainJob, sampler: Sampler, *, data_rank: int, device: torch.device) -> None:
        self._job = job
        self._sampler = sampler
        self._data_rank = data_rank
        self._device = device
        self._bucket_of = {language: number for number, language in enumerate(job.languages)}

    def micro_batches(self, step: int, dealt: list[tuple[str, int, int]]) -> list[Batch]:
        """Read the rows of a step, and learn how many targets all ranks have together. Every rank must call it."""
        place = self._job.placement
        files = self._sampler.files_of_segment(self._sampler.segment_of_step(step))
        mine = dealt[self._data_rank :: place.data_parallel]
        rows = [files.row(file, row) for _, file, row in mine]
        targets = torch.tensor(float(sum(int(row.is_target.sum()) for row in rows)), device=self._device)
        dist.all_reduce(targets)
        targets /= place.tensor_parallel
        # DeepSpeed averages over copies and micro-batches; this loss is a sum over both.
        total = targets.clamp(min=1.0) / (place.data_parallel * (len(rows) // place.micro_batch))
        return [
            self._tensors(rows[first : first + place.micro_batch], total)
            for first in range(0, len(rows), place.micro_batch)
        ]

    def _tensors(self, rows: list[PackedRow], total: Tensor) -> Batch:
        tokens = np.stack([row.tokens for row in rows]).astype(np.int64)
        return Batch(
            ids=self._move(tokens[:, :-1]),
            targets=self._move(tokens[:, 1:]),
            weights=self._move(np.stack([row.is_target[1:] for row in rows]).astype(np.float32)),
            buckets=self._move(np.stack([self._buckets(row)[1:] for row in rows])),
            segments=self._move(np.stack([row.segments[:-1] for row in rows]).astype(np.int64)),
            positions=self._move(np.stack([self._positions(row)[:-1] for row in rows])),
            total=total,
        )

    def _move(self, array: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def _buckets(self, row: PackedRow) -> Integers:
        if unknown := sorted(set(row.languages) - set(self._bucket_of)):
            raise ValueError(
                f"a packed row of {row.cell}, document {row.docs[0]}, has language {unknown[0]}; "
                f"the job lists {', '.join(self._bucket_of)}"
            )
        return np.array([self._bucket_of[language] for language in row.languages], np.int64)[row.segments]

    def _positions(self, row: PackedRow) -> Integers:
        place = np.arange(len(row.tokens), dtype=np.int64)
        return place - row.starts[row.segments] if self._job.reset_positions else place
