"""A dry run: a few steps tell whether a run would work, what it needs and how long it takes."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

import torch

from detr.training.batches import PREFETCHED_BATCHES, check_shared_memory
from detr.training.data import check_data, training_batches
from detr.training.families import trained_family
from detr.training.loop import Surroundings, training_step
from detr.training.optimisation import phase_at
from detr.training.processes import peak_memory_bytes, prepare_device
from detr.training.recipe import Recipe, ScenesData
from detr.training.state import new_state
from detr.training.task import Task

_WARM_UP_STEPS, _TIMED_STEPS = 2, 5
# For each worker, beyond those that it had prepared before the clock started.
_TIMED_BATCHES_A_WORKER = 2


@dataclass(frozen=True)
class Rehearsal:
    """The findings of a dry run.

    Attributes:
        name: the recipe's name.
        device: the device that it computed on, in words.
        parameters: how many weights the first phase trains.
        steps: how many steps the recipe has.
        batch_size: the recipe's.
        step_seconds: how long a step takes once its batch is there.
        loader_images_per_second: how fast the workers prepare images, while nothing trains.
        peak_memory_bytes: the most memory held: the GPU's, or this process's on a CPU.
        minutes: how long the run is to take; None if it ends by steps.
    """

    name: str
    device: str
    parameters: int
    steps: int
    batch_size: int
    step_seconds: float
    loader_images_per_second: float
    peak_memory_bytes: int
    minutes: float | None

    @property
    def run_seconds(self) -> float:
        """How long all steps take, evaluations left out: the slower of loader and steps decides."""
        return self.steps * max(self.step_seconds, self.batch_size / self.loader_images_per_second)

    def text(self) -> str:
        """Return what a user wants to know, in lines."""
        images = self.batch_size / self.step_seconds
        slower = "loader" if images > self.loader_images_per_second else "step"
        lines = [
            f"recipe {self.name}: its data is there, and its first steps work.",
            f"  device     {self.device}, {self.parameters / 1e6:.2f} million weights to train",
            f"  memory     {self.peak_memory_bytes / 1e6:.0f} MB at most",
            f"  step       {self.step_seconds * 1e3:.0f} ms, {images:.0f} images/s",
            f"  loader     {self.loader_images_per_second:.0f} images/s by itself",
        ]
        if self.minutes is not None:
            done = self.minutes * 60 / self.run_seconds * self.steps
            return "\n".join([*lines, f"  {self.minutes:g} minutes  about {done:.0f} steps"])
        return "\n".join(
            [
                *lines,
                f"  {self.steps} steps  about {self.run_seconds / 60:.1f} minutes, which the "
                f"{slower} decides; evaluations come on top",
            ]
        )


def rehearse(recipe: Recipe, surroundings: Surroundings, task: Task | None = None) -> Rehearsal:
    """Check data, do a few full-sized steps of the first phase, and time the loader alone.

    Raises:
        TandemError: what a run would raise.
    """
    device, workers = surroundings.device, surroundings.workers
    task = task or trained_family(recipe).task(surroundings.say)
    prepare_device(device)
    check_shared_memory(recipe, workers)
    check_data(recipe, surroundings.say)
    state = new_state(recipe, task.build, device)
    task.begin_phase(recipe, state.model, phase_at(recipe, 0), anew=True)
    if surroundings.compiled:
        state.model.compile()
    early = recipe.data.early_steps if isinstance(recipe.data, ScenesData) else 0
    count = _WARM_UP_STEPS + _TIMED_STEPS
    prepared = workers * PREFETCHED_BATCHES
    batches = training_batches(
        recipe,
        surroundings.cache,
        early,
        workers,
        steps=early + count + prepared + max(1, workers) * _TIMED_BATCHES_A_WORKER,
        pinned=device.type == "cuda",
    )
    for batch in itertools.islice(batches, _WARM_UP_STEPS):
        training_step(recipe, state, state.model, batch.to(device), task)
    seconds = 0.0
    for batch in itertools.islice(batches, _TIMED_STEPS):
        started = time.perf_counter()
        losses = training_step(recipe, state, state.model, batch.to(device), task)
        losses.tolist()  # waits for the device
        seconds += time.perf_counter() - started
    for _ in itertools.islice(batches, prepared):
        pass
    started = time.perf_counter()
    loaded = sum(1 for _ in batches)
    loading = time.perf_counter() - started
    return Rehearsal(
        name=recipe.name,
        device=_described(device),
        parameters=sum(p.numel() for p in state.model.parameters() if p.requires_grad),
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        step_seconds=seconds / _TIMED_STEPS,
        loader_images_per_second=loaded * recipe.batch_size / loading,
        peak_memory_bytes=peak_memory_bytes(device),
        minutes=surroundings.minutes,
    )


def _described(device: torch.device) -> str:
    if device.type == "cpu":
        return f"the CPU, {torch.get_num_threads()} threads"
    return torch.cuda.get_device_name(device)
