"""The training loop (official `engine.py`)."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from common.domain.errors import ConfigurationError
from detr.coco.folder import CocoFolder
from detr.training.batches import Batch, check_shared_memory
from detr.training.checkpoints import AVERAGE_NAME, BEST_NAME, CHECKPOINT_NAME
from detr.training.data import (
    categories_of,
    check_data,
    evaluation_folder,
    training_batches,
)
from detr.training.evaluation import evaluate
from detr.training.families import trained_family
from detr.training.metrics import MetricsFile, MetricsRow, draw_curve, read_metrics
from detr.training.optimisation import TimeBudget, phase_at, recipe_factor
from detr.training.processes import (
    CPU,
    barrier,
    mean_over_processes,
    prepare_device,
    rank,
    world_size,
)
from detr.training.recipe import Recipe
from detr.training.state import (
    TrainingState,
    new_state,
    restore_state,
    save_best,
    save_state,
)
from detr.training.task import Task

LOG_EVERY_STEPS = 20


@dataclass(frozen=True)
class Surroundings:
    """Where and how a run happens. On a CPU, only `minutes` and `compiled` change its result.

    Attributes:
        output: folder for checkpoint, metrics and curve.
        cache: folder of fetched artwork and photographs; None: the default one.
        resume: go on from the checkpoint in `output`.
        workers: processes that compose or read images, for each training process.
        report: called with every logged line and the number of the run's last step.
        say: called with each thing that was corrected before the first step.
        device: the device that this process computes on.
        minutes: how long to train, whatever the recipe's number of steps; its schedule is
            stretched over that time. None: as many steps as the recipe says.
        compiled: compile the model before the first step, which takes a minute or two.
    """

    output: Path
    cache: Path | None
    resume: bool
    workers: int
    report: Callable[[MetricsRow, int], None]
    say: Callable[[str], None]
    device: torch.device = CPU
    minutes: float | None = None
    compiled: bool = False


def train(recipe: Recipe, surroundings: Surroundings, task: Task | None = None) -> Path:
    """Train to the recipe's last step, or for as long as the surroundings say.

    Args:
        recipe: what to do.
        surroundings: where and how the run happens.
        task: what to minimise; detection without a teacher by default.

    Returns:
        The path of the final checkpoint.

    Raises:
        ConfigurationError: data is missing, the batch cannot be split, several processes are to
            train for a time, or `output` holds a run that is not to be resumed or has another
            recipe.
        InvalidInputError: pictures are missing or wrong.
        ResourceExhaustedError: shared memory is too small for the workers.
    """
    began = time.monotonic()
    _check_processes(recipe, surroundings)
    task = task or trained_family(recipe).task(surroundings.say)
    prepare_device(surroundings.device)
    checkpoint = surroundings.output / CHECKPOINT_NAME
    check_shared_memory(recipe, surroundings.workers)
    if rank() == 0:
        check_data(recipe, surroundings.say)
    barrier()
    state = _open_run(recipe, checkpoint, surroundings, task)
    folder = _evaluation_folder(recipe, surroundings.cache, surroundings.workers)
    reporter = _Reporter(recipe, surroundings, state, folder, task) if rank() == 0 else None
    for losses, last in _steps(recipe, surroundings, state, task, began):
        if reporter is not None:
            reporter.after_step(losses, last)
    if reporter is not None:
        draw_curve(surroundings.output)
    return checkpoint


def _check_processes(recipe: Recipe, surroundings: Surroundings) -> None:
    if recipe.batch_size % world_size():
        raise ConfigurationError(
            f"a batch of {recipe.batch_size} cannot be split over {world_size()} processes."
        )
    if surroundings.minutes is not None and world_size() > 1:
        raise ConfigurationError(
            "--minutes is for one process: the clocks of several would not agree on the last step."
        )


def _steps(
    recipe: Recipe, surroundings: Surroundings, state: TrainingState, task: Task, began: float
) -> Iterator[tuple[Tensor, bool]]:
    """Do step after step; yields the losses, and whether the step was the last.

    Args:
        recipe: the run's recipe.
        surroundings: where and how the run happens.
        state: the run's state, which changes in place.
        task: what to minimise.
        began: when the run did, by `time.monotonic`; its minutes count from there.
    """
    budget = None
    if surroundings.minutes is not None:
        budget = TimeBudget(surroundings.minutes * 60, began, state.share or 0.0)
    batches = training_batches(
        recipe,
        surroundings.cache,
        state.step,
        surroundings.workers,
        steps=None if budget is None else sys.maxsize // recipe.batch_size,
        pinned=surroundings.device.type == "cuda",
    )
    if surroundings.compiled:
        state.model.compile()
    network: nn.Module | None = None
    done = None if state.step == 0 else phase_at(recipe, _last_schedule_step(recipe, state))
    resumed = time.perf_counter()
    for batch in batches:
        if budget is not None:
            state.share = budget.share()
        phase = phase_at(recipe, state.schedule_step(recipe))
        anew = done is None or done.index != phase.index
        if network is None or anew:
            task.begin_phase(recipe, state.model, phase, anew)
            if anew:
                state.average.restart(state.model)
            # Built for the weights that are trained, so once for each phase.
            network = _parallel(state.model)
        done = phase
        losses = training_step(recipe, state, network, batch.to(surroundings.device), task)
        state.seconds += time.perf_counter() - resumed
        last = state.step >= recipe.steps if budget is None else state.share == 1.0
        yield losses, last
        if last:
            break
        # What is done with a step's losses, an evaluation above all, is not training.
        resumed = time.perf_counter()


def _last_schedule_step(recipe: Recipe, state: TrainingState) -> float:
    """Where on the schedule the last step was."""
    return state.step - 1 if state.share is None else state.schedule_step(recipe)


def training_step(
    recipe: Recipe,
    state: TrainingState,
    network: nn.Module,
    batch: Batch,
    task: Task | None = None,
) -> Tensor:
    """Do one step in place.

    Args:
        recipe: the run's recipe.
        state: `state.step` is the number of the step to do.
        network: the state's model, or what runs it over several processes.
        batch: this process's share of the batch.
        task: what to minimise; detection without a teacher by default.

    Returns:
        The task's losses over all processes.
    """
    task = task or trained_family(recipe).task()
    at = state.schedule_step(recipe)
    task.train_mode(state.model, phase_at(recipe, at))
    # Dropout depends on the step alone, so a resumed run repeats it.
    torch.manual_seed((recipe.seed * 1_000_003 + state.step) * 1_009 + rank())
    factor = recipe_factor(recipe, at)
    for group in state.optimiser.param_groups:
        group["lr"] = recipe.optimiser.learning_rate * group["lr_factor"] * factor
    losses = task.losses(recipe, network, batch, int(at))
    state.optimiser.zero_grad(set_to_none=True)
    state.scaler.scale(losses[0]).backward()  # type: ignore[no-untyped-call]
    state.scaler.unscale_(state.optimiser)
    nn.utils.clip_grad_norm_(state.model.parameters(), recipe.optimiser.clip_norm)
    state.scaler.step(state.optimiser)
    state.scaler.update()
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
        self.best = max((row.ap for row in read_metrics(self.metrics.path) if row.ap), default=0.0)

    def after_step(self, losses: Tensor, last: bool) -> None:
        step, output = self.state.step, self.surroundings.output
        evaluates = last or step % self.recipe.evaluation.every_steps == 0
        self.pending.append(losses)
        if last or step % self.recipe.checkpoint_every_steps == 0:
            save_state(self.state, self.recipe, output)
            save_best(self.state, self.recipe, output / AVERAGE_NAME)
        if evaluates or step % LOG_EVERY_STEPS == 0:
            row = self._row()
            row = self._evaluated(row) if evaluates else row
            self.metrics.append(row)
            self.surroundings.report(row, self._planned_steps())
            if row.ap is not None and row.ap >= self.best:
                self.best = row.ap
                save_best(self.state, self.recipe, output / BEST_NAME)

    def _planned_steps(self) -> int:
        """How many steps there will be, as far as it is known by now."""
        share = self.state.share
        return self.recipe.steps if not share else round(self.state.step / share)

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
        family = trained_family(recipe)
        detector = family.detector(
            recipe,
            family.plain_model(recipe, self.state.average.state),
            categories_of(recipe, self.folder),
            self.state.device,
        )
        figures = evaluate(detector, self.folder, recipe.evaluation.images)
        return replace(row, ap=figures["AP"], ap50=figures["AP50"])


def _open_run(
    recipe: Recipe, checkpoint: Path, surroundings: Surroundings, task: Task
) -> TrainingState:
    if surroundings.resume and checkpoint.exists():
        return restore_state(checkpoint, recipe, task.build, surroundings.device)
    if checkpoint.exists():
        raise ConfigurationError(
            f"{checkpoint.parent} already holds a run: continue it with --resume, "
            "or give another --output."
        )
    return new_state(recipe, task.build, surroundings.device)


def _evaluation_folder(recipe: Recipe, cache: Path | None, workers: int) -> CocoFolder:
    """Let one process compose the scenes to evaluate on; the others find them."""
    if rank() == 0:
        evaluation_folder(recipe, cache, workers=workers)
    barrier()
    return evaluation_folder(recipe, cache)


def _parallel(model: nn.Module) -> nn.Module:
    if world_size() == 1:
        return model
    device = next(model.parameters()).device
    devices = [device] if device.type == "cuda" else None
    return DistributedDataParallel(model, devices, gradient_as_bucket_view=True)
