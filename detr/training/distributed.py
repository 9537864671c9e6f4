"""Several processes under torchrun: NCCL between GPUs, gloo between CPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other processes when torchrun started this one; otherwise do nothing.

    Args:
        device: that this process computes on; all processes have one of the same kind.
    """
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        yield
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Return this process's number, 0 when alone."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def mean_over_processes(values: Tensor) -> Tensor:
    """Return `values` averaged over all processes, without gradient."""
    values = values.detach()
    if world_size() == 1:
        return values
    total = values.clone()
    distributed.all_reduce(total)
    return total / world_size()


def barrier() -> None:
    """Wait for the other processes."""
    if world_size() > 1:
        distributed.barrier()
