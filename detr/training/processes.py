"""The processes of a run, and what each computes on: a CPU, or a GPU of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, distributed

from common.domain.errors import ConfigurationError

DeviceChoice = Literal["auto", "cpu", "cuda"]

CPU = torch.device("cpu")


def choose_device(choice: DeviceChoice) -> torch.device:
    """Return the device of this process; under torchrun each process has a GPU of its own.

    Args:
        choice: `auto` is a GPU if there is one.

    Raises:
        ConfigurationError: a GPU is asked for, and PyTorch sees none, or fewer than processes.
    """
    if choice == "cpu" or (choice == "auto" and not torch.cuda.is_available()):
        return CPU
    if not torch.cuda.is_available():
        raise ConfigurationError(
            "there is no GPU that PyTorch can use: install PyTorch for CUDA and NVIDIA's driver, "
            "or give --device cpu."
        )
    index, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if index >= count:
        raise ConfigurationError(
            f"process {index} finds only {count} GPUs: start one process for each GPU, or give "
            "--device cpu."
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def prepare_device(device: torch.device) -> None:
    """Set how PyTorch computes on this device, for the whole process."""
    # Weights that start at zero make denormal numbers, which are many times slower on a CPU.
    torch.set_flush_denormal(True)
    if device.type == "cuda":
        # fp32 by TF32's tensor cores: its products round to 10 bits, its sums do not.
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute fp32 products in full fp32 on a GPU too, as sums of squares need it."""
    former = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(former)


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most memory that this process has held: on the GPU, or all of it on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other processes when torchrun started this one; otherwise do nothing.

    Args:
        device: the device of this process; those of the others are of the same kind.
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
