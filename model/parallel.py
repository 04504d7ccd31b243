"""From a job's placement to a DeepSpeed engine: ZeRO, tensor parallelism, and what must be switched off."""

import os
from typing import Any, cast

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import groups, safe_get_full_fp32_param
from torch import Tensor

from polylm.model.config import Placement, TrainJob
from polylm.model.guard import GuardedAdamW
from polylm.model.network import Network

_COLUMN = r".*\.(query|key|value|up)\.weight$"
_ROW = r".*\.(output|down)\.weight$"
_SPLIT_BY = {"query": 0, "key": 0, "value": 0, "up": 0, "tokens": 0, "output": 1, "down": 1}
"""The dimension along which a layer's weight is split over the tensor-parallel group."""


def start(placement: Placement) -> torch.device:
    """Join the ranks (from RANK, WORLD_SIZE, MASTER_ADDR, ...) and give this one's device."""
    torch.set_num_threads(placement.threads)
    cuda = torch.cuda.is_available() and placement.backend != "gloo"
    # DeepSpeed would compile a shared-memory all-reduce at start (half a minute, and a lock file that hangs every
    # later run if the compiler is killed). Gloo serves instead, as it does on macOS.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = placement.backend if placement.backend != "auto" else "nccl" if cuda else "gloo"
    deepspeed.init_distributed(backend, verbose=False)
    world = dist.get_world_size()
    if world != placement.ranks:
        raise ValueError(
            f"placement: {placement.tensor_parallel} x {placement.data_parallel} ranks, but {world} were started"
        )
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")


def make_engine(network: Network, optimizer: GuardedAdamW, job: TrainJob) -> Any:
    """Wrap the network: from here on its parameters may be split over ranks."""
    engine, *_ = deepspeed.initialize(model=network, optimizer=optimizer, config=engine_config(job))
    if job.placement.tensor_parallel > 1:
        network.group = groups.get_tensor_model_parallel_group()
        network.first_entry = int(cast(Any, network.lm_head).vocab_start_index)  # AutoTP's VocabParallelLinear
    if job.placement.zero_stage == 3:
        # The head's weight is used outside of its own module, which ZeRO-3 cannot see.
        deepspeed.zero.register_external_parameter(network, network.lm_head.weight)
    return engine


def engine_config(job: TrainJob) -> dict[str, Any]:
    """Write DeepSpeed's configuration for a job."""
    place = job.placement
    config: dict[str, Any] = {
        # No train_batch_size: DeepSpeed would multiply it by all ranks, those of a tensor-parallel group too.
        "train_micro_batch_size_per_gpu": place.micro_batch,
        "gradient_accumulation_steps": job.batch // (place.micro_batch * place.data_parallel),
        "gradient_clipping": job.optimizer.clip,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1 << 60,
        "zero_optimization": {
            "stage": place.zero_stage,
            "overlap_comm": False,  # wrong gradients in some versions of stage 2
            "stage3_gather_16bit_weights_on_model_save": True,
        },
    }
    if job.precision == "bf16":
        config["bf16"] = {"enabled": True}
        config["data_types"] = {"grad_accum_dtype": "fp32"}
    if place.tensor_parallel > 1:
        config["tensor_parallel"] = {
            "autotp_size": place.tensor_parallel,
            "vocab_parallel_lm_head": True,
            "partition_config": {
                "use_default_specs": False,
                "layer_specs": [
                    {"patterns": [_COLUMN], "partition_type": "column"},
                    {"patterns": [_ROW], "partition_type": "row"},
                ],
            },
        }
    return config


def data_rank(placement: Placement) -> int:
    """Which rows this rank reads: all ranks of a tensor-parallel group read the same."""
    return dist.get_rank() // placement.tensor_parallel


def consolidate(network: Network, placement: Placement) -> dict[str, Tensor]:
    """Gather all weights in fp32 under the network's own names, on the CPU of rank 0; {} on the others.

    Right for ZeRO 1-3, bf16 (the fp32 masters are taken) and tensor parallelism, where DeepSpeed's
    `save_16bit_model` writes one rank's half. Every rank must call it. One parameter at a time.
    """
    weights = {}
    for name, parameter in network.named_parameters():
        local = safe_get_full_fp32_param(parameter)
        assert local is not None, f"{name} is not known to the optimizer"
        whole = _gather(local.detach(), name, placement)
        if dist.get_rank() == 0:
            weights[name] = whole.float().cpu().contiguous().clone()
    return weights


def _gather(local: Tensor, name: str, placement: Placement) -> Tensor:
    layer, kind = name.split(".")[-2:]
    split_by = _SPLIT_BY.get(layer)
    if placement.tensor_parallel == 1 or split_by is None or (kind == "bias" and split_by == 1):
        return local
    group = groups.get_tensor_model_parallel_group()
    # The vocabulary may not divide evenly: gather sizes first, then padded shards.
    sizes = [torch.zeros(1, dtype=torch.int64, device=local.device) for _ in range(placement.tensor_parallel)]
    dist.all_gather(sizes, torch.tensor([local.shape[split_by]], device=local.device), group=group)
    longest = max(int(size) for size in sizes)
    moved = local.movedim(split_by, 0)
    padded = torch.zeros(longest, *moved.shape[1:], dtype=local.dtype, device=local.device)
    padded[: len(moved)] = moved
    shards = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(shards, padded, group=group)
    joined = torch.cat([shard[: int(size)] for shard, size in zip(shards, sizes, strict=True)])
    return joined.movedim(0, split_by)
