"""The training loop (official `engine.py`)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from common.domain.errors import ConfigurationError
from detr.coco_folder import CocoFolder
from detr.training.checkpoints import CHECKPOINT_NAME
from detr.training.data import (
    categories_of,
    check_data,
    evaluation_folder,
    training_batches,
)
from detr.training.distributed import barrier, mean_over_processes, rank, world_size
from detr.training.evaluation import Detector, evaluate, torch_predictor
from detr.training.metrics import MetricsFile, MetricsRow, draw_curve
from detr.training.recipe import Recipe
from detr.training.schedule import phase_at, recipe_factor
from detr.training.state import (
    TrainingState,
    new_state,
    plain_model,
    restore_state,
    save_state,
)
from detr.training.targets import Batch
from detr.training.task import Detection, Task
from detr.training.workers import check_shared_memory

LOG_EVERY_STEPS = 20


@dataclass(frozen=True)
class Surroundings:
    """Where and how a run happens; nothing of this changes its result.

    Attributes:
        output: folder of checkpoint, metrics and curve.
        cache: folder of fetched artwork and photographs.
        resume: go on from the checkpoint in `output`.
        workers: processes that compose or read images, for each training process.
        report: is told of every logged line and of the run's last step.
        say: is told what was put right before the first step.
    """

    output: Path
    cache: Path
    resume: bool
    workers: int
    report: Callable[[MetricsRow, int], None]
    say: Callable[[str], None]


def train(recipe: Recipe, surroundings: Surroundings, task: Task | None = None) -> Path:
    """Train to the recipe's last step.

    Args:
        recipe: what to do.
        surroundings: where.
        task: what to minimise; detection without a teacher by default.

    Returns:
        The path of the final checkpoint.

    Raises:
        ConfigurationError: data is missing, the batch cannot be split, or `output` holds a run
            that is not to be resumed or has another recipe.
        InvalidInputError: pictures are missing or wrong.
        ResourceExhaustedError: shared memory is too small for the workers.
    """
    if recipe.batch_size % world_size():
        raise ConfigurationError(
            f"a batch of {recipe.batch_size} cannot be split over {world_size()} processes."
        )
    task = task or Detection(surroundings.say)
    # Weights that start at zero make denormal numbers, which are many times slower.
    torch.set_flush_denormal(True)
    checkpoint = surroundings.output / CHECKPOINT_NAME
    check_shared_memory(recipe, surroundings.workers)
    if rank() == 0:
        check_data(recipe, surroundings.say)
    barrier()
    state = _open_run(recipe, checkpoint, surroundings.resume, task)
    folder = _evaluation_folder(recipe, surroundings.cache)
    batches = training_batches(recipe, surroundings.cache, state.step, surroundings.workers)
    reporter = _Reporter(recipe, surroundings, state, folder, task) if rank() == 0 else None
    network: nn.Module | None = None
    for batch in batches:
        started = time.perf_counter()
        phase = phase_at(recipe, state.step)
        anew = phase.first_step == state.step
        if network is None or anew:
            task.begin_phase(recipe, state.model, phase, anew)
            if anew:
                state.average.restart(state.model)
            # Built for the weights that are trained, so once for each phase.
            network = _parallel(state.model)
        losses = training_step(recipe, state, network, batch, task)
        state.seconds += time.perf_counter() - started
        if reporter is not None:
            reporter.after_step(losses)
    if reporter is not None:
        draw_curve(surroundings.output)
    return checkpoint


def training_step(
    recipe: Recipe,
    state: TrainingState,
    network: nn.Module,
    batch: Batch,
    task: Task | None = None,
) -> Tensor:
    """Do one step in place.

    Args:
        recipe: of the run.
        state: `state.step` is the number of the step to do.
        network: the state's model, or what runs it over several processes.
        batch: this process's share of the batch.
        task: what to minimise; detection without a teacher by default.

    Returns:
        The task's losses over all processes.
    """
    task = task or Detection()
    task.train_mode(state.model, phase_at(recipe, state.step))
    # Dropout depends on the step alone, so a resumed run repeats it.
    torch.manual_seed((recipe.seed * 1_000_003 + state.step) * 1_009 + rank())
    factor = recipe_factor(recipe, state.step)
    for group in state.optimiser.param_groups:
        group["lr"] = recipe.optimiser.learning_rate * group["lr_factor"] * factor
    losses = task.losses(recipe, network, batch, state.step)
    state.optimiser.zero_grad(set_to_none=True)
    losses[0].backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.model.parameters(), recipe.optimiser.clip_norm)
    state.optimiser.step()
    state.average.update(state.model)
    state.step += 1
    return mean_over_processes(losses)


class _Reporter:
    """Rank 0's duties after a step: metrics, evaluation, checkpoints."""

    def __init__(
        self,
        recipe: Recipe,
        surroundings: Surroundings,
        state: TrainingState,
        folder: CocoFolder,
        task: Task,
    ) -> None:
        surroundings.output.mkdir(parents=True, exist_ok=True)
        self.recipe = recipe
        self.surroundings = surroundings
        self.state = state
        self.folder = folder
        self.loss_names = task.loss_names
        self.metrics = MetricsFile(surroundings.output, state.step, task.loss_names)
        self.pending: list[Tensor] = []

    def after_step(self, losses: Tensor) -> None:
        step = self.state.step
        last = step == self.recipe.steps
        evaluates = last or step % self.recipe.evaluation.every_steps == 0
        self.pending.append(losses)
        if evaluates or step % LOG_EVERY_STEPS == 0:
            row = self._row()
            row = self._evaluated(row) if evaluates else row
            self.metrics.append(row)
            self.surroundings.report(row, self.recipe.steps)
        if last or step % self.recipe.checkpoint_every_steps == 0:
            save_state(self.state, self.recipe, self.surroundings.output)

    def _row(self) -> MetricsRow:
        # A phase begins between two logged lines: the mean is over the steps that had a loss.
        means = torch.stack(self.pending).nanmean(dim=0).tolist()
        self.pending.clear()
        state = self.state
        return MetricsRow(
            step=state.step,
            images=state.step * self.recipe.batch_size,
            seconds=state.seconds,
            learning_rate=state.optimiser.param_groups[-1]["lr"],
            losses={
                name: value
                for name, value in zip(self.loss_names, means, strict=True)
                if not math.isnan(value)
            },
        )

    def _evaluated(self, row: MetricsRow) -> MetricsRow:
        recipe = self.recipe
        detector = Detector(
            predict=torch_predictor(plain_model(recipe, self.state.average.state)),
            policy=recipe.input,
            normalization=recipe.normalization,
            categories=categories_of(recipe, self.folder),
        )
        figures = evaluate(detector, self.folder, recipe.evaluation.images)
        return replace(row, ap=figures["AP"], ap50=figures["AP50"])


def _open_run(recipe: Recipe, checkpoint: Path, resume: bool, task: Task) -> TrainingState:
    if resume and checkpoint.exists():
        return restore_state(checkpoint, recipe, task.build)
    if checkpoint.exists():
        raise ConfigurationError(
            f"{checkpoint.parent} already holds a run: continue it with --resume, "
            "or give another --output."
        )
    return new_state(recipe, task.build)


def _evaluation_folder(recipe: Recipe, cache: Path) -> CocoFolder:
    """Let one process compose the scenes to evaluate on; the others find them."""
    if rank() == 0:
        evaluation_folder(recipe, cache)
    barrier()
    return evaluation_folder(recipe, cache)


def _parallel(model: nn.Module) -> nn.Module:
    if world_size() == 1:
        return model
    return DistributedDataParallel(model, gradient_as_bucket_view=True)
