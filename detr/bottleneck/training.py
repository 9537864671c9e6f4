"""Trains a bottleneck beside a frozen model, and at the end the transformer with it if asked."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.domain.errors import ConfigurationError
from detr.bottleneck.losses import LOSS_NAMES, draw_noise, losses, trained_parts
from detr.bottleneck.recipe import BottleneckRecipe
from detr.bottleneck.signals import Signals, frame_pair, open_cache, shuffled, signals_of
from detr.distillation.teacher import Teacher
from detr.model import DETR, DetrOutput
from detr.model.bottleneck import Bottleneck, BottleneckSizes
from detr.training.checkpoints import CHECKPOINT_NAME, load_checkpoint, save_checkpoint
from detr.training.data import categories_of, check_data, evaluation_folder, training_batches
from detr.training.evaluation import Detector, evaluate, torch_predictor
from detr.training.loop import LOG_EVERY_STEPS, Surroundings
from detr.training.metrics import MetricsFile, MetricsRow, draw_curve
from detr.training.optimisation import WeightAverage, learning_rate_factor
from detr.training.processes import CPU

# So many samples tell mean and principal components of the features.
_STATISTICS_SAMPLES = 2048
SIGNALS_FOLDER = "signals"


class TrainedParts(nn.Module):
    """A bottleneck, and a copy of its model whose transformer may be trained with it."""

    def __init__(self, bottleneck: Bottleneck, model: DETR) -> None:
        """Take over the bottleneck, and copy the model."""
        super().__init__()
        self.bottleneck = bottleneck
        self.model = copy.deepcopy(model)

    def forward(self, images: Tensor, padding: Tensor) -> DetrOutput:
        """Detect through the bottleneck, whose latents are rounded to usual steps; see `DETR`."""
        features, padding, pos = self.model.backbone(images, padding)
        latents = self.bottleneck.encoder(self.model.input_proj(features))
        return self.model.interpret(self.bottleneck.decoder(latents.round()), padding, pos)


@dataclass
class State:
    """All that changes during a run.

    Attributes:
        trained: what is trained.
        average: the running average of their weights, which ships.
        optimiser: of the weights of `trained`.
        step: how many are done.
        seconds: how long they took.
    """

    trained: TrainedParts
    average: WeightAverage
    optimiser: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0


def train_bottleneck(
    recipe: BottleneckRecipe, teacher: Teacher, surroundings: Surroundings
) -> Path:
    """Train to the recipe's last step; returns the path of the checkpoint.

    Raises:
        ConfigurationError: data is missing, or the output folder holds a run that is not to be
            resumed, or one of another recipe or model.
        InvalidInputError: pictures are missing or wrong.
    """
    run = recipe.training_recipe(teacher.identity)
    checkpoint = surroundings.output / CHECKPOINT_NAME
    if checkpoint.exists() and not surroundings.resume:
        raise ConfigurationError(f"{surroundings.output} holds a run already: give --resume.")
    check_data(run, surroundings.say)
    model = teacher.model.detr.to(surroundings.device)
    batches = _signals(recipe, teacher, surroundings)
    state = _new_state(recipe, model, surroundings.device, batches)
    if checkpoint.exists():
        _restore(state, load_checkpoint(checkpoint), recipe, teacher, checkpoint)
    folder = evaluation_folder(run, surroundings.cache, workers=surroundings.workers)
    surroundings.output.mkdir(parents=True, exist_ok=True)
    metrics = MetricsFile(surroundings.output, state.step, LOSS_NAMES)
    since: list[Tensor] = []
    with closing(batches(state.step)) as signals:
        for current in signals:
            started = time.monotonic()
            since.append(_step(recipe, state, model, current.to(surroundings.device)))
            state.seconds += time.monotonic() - started
            last = state.step == recipe.steps
            evaluates = last or state.step % recipe.evaluation.every_steps == 0
            if evaluates or state.step % LOG_EVERY_STEPS == 0:
                row = _row(recipe, state, torch.stack(since).mean(dim=0))
                since.clear()
                if evaluates:
                    averaged = copy.deepcopy(state.trained)
                    averaged.load_state_dict(state.average.state)
                    predict = torch_predictor(averaged, surroundings.device)
                    detector = Detector(
                        predict, recipe.input, recipe.normalization, categories_of(run, folder)
                    )
                    figures = evaluate(detector, folder, recipe.evaluation.images)
                    row = replace(row, ap=figures["AP"], ap50=figures["AP50"])
                metrics.append(row)
                surroundings.report(row, recipe.steps)
            if last or state.step % recipe.checkpoint_every_steps == 0:
                save_checkpoint(surroundings.output, _content(state, recipe, teacher))
            if last:
                break
    draw_curve(surroundings.output)
    return checkpoint


def _signals(
    recipe: BottleneckRecipe, teacher: Teacher, surroundings: Surroundings
) -> Callable[[int], Generator[Signals]]:
    """Return what yields the batches from a step on."""
    run = recipe.training_recipe(teacher.identity)
    model = teacher.model.detr

    def computed(first_step: int, steps: int) -> Generator[Signals]:
        batches = training_batches(
            run, surroundings.cache, first_step, surroundings.workers, steps=steps
        )
        device = surroundings.device
        for step, batch in enumerate(batches, first_step):
            if recipe.pairs is None:
                yield signals_of(model, batch.to(device))
                continue
            pair = frame_pair(batch, recipe.pairs, recipe.normalization, _generator(recipe, step))
            yield signals_of(model, pair.batch.to(device), pair.before.to(device))

    if not recipe.cached_samples:
        return lambda first_step: computed(first_step, recipe.steps)
    steps = -(-recipe.cached_samples // recipe.batch_size)
    identity = {
        "teacher": teacher.identity.sha256,
        "seed": recipe.seed,
        "data": recipe.data.model_dump(mode="json"),
        "input": recipe.input.model_dump(mode="json"),
        "pairs": recipe.pairs and recipe.pairs.model_dump(mode="json"),
    }
    cache = open_cache(
        surroundings.output / SIGNALS_FOLDER,
        identity,
        recipe.cached_samples,
        lambda: (each.to(CPU) for each in computed(0, steps)),
        lambda done: surroundings.say(f"features of {done} of {recipe.cached_samples} samples"),
    )
    return lambda first_step: shuffled(cache, recipe.batch_size, recipe.seed, first_step)


def _new_state(
    recipe: BottleneckRecipe,
    model: DETR,
    device: torch.device,
    batches: Callable[[int], Generator[Signals]],
) -> State:
    torch.manual_seed(recipe.seed)
    sizes = BottleneckSizes(model.architecture.hidden_dim, *recipe.sizes.model_dump().values())
    if sizes.channels > sizes.features:
        raise ConfigurationError(
            f"the recipe asks for {sizes.channels} channels of latents, but the model's features "
            f"have {sizes.features}."
        )
    bottleneck = Bottleneck(sizes)
    with closing(batches(0)) as first:
        count = -(-_STATISTICS_SAMPLES // recipe.batch_size)
        values = [each.valid_features() for each in itertools.islice(first, count)]
    bottleneck.fit(torch.cat(values))
    trained = TrainedParts(bottleneck, model).to(device)
    tuned = recipe.tuned_share > 0
    parts = trained_parts(trained.bottleneck, trained.model, tuned=tuned)
    optimiser = torch.optim.AdamW(
        [
            {
                "params": list(part.parameters()),
                "factor": 1.0 if index == 0 else recipe.tuned_factor,
            }
            for index, part in enumerate(parts)
        ],
        weight_decay=recipe.optimiser.weight_decay,
    )
    return State(trained, WeightAverage(trained, recipe.ema_decay), optimiser)


def _step(recipe: BottleneckRecipe, state: State, model: DETR, signals: Signals) -> Tensor:
    """Do one step; returns its losses."""
    generator = _generator(recipe, state.step)
    tuned = recipe.tunes_at(state.step)
    bottleneck, transformer = state.trained.bottleneck, state.trained.model
    parts = trained_parts(bottleneck, transformer, tuned=tuned)
    state.trained.requires_grad_(False)
    for part in parts:
        part.requires_grad_(True)
    noise = draw_noise(len(signals.features), recipe.steps_range, generator)
    values = losses(bottleneck, transformer, signals, recipe.weights, noise, tuned=tuned)
    share = learning_rate_factor(recipe.schedule, state.step, recipe.steps)
    for group in state.optimiser.param_groups:
        group["lr"] = recipe.optimiser.learning_rate * share * group["factor"]
    state.optimiser.zero_grad(set_to_none=True)
    values[0].backward()  # type: ignore[no-untyped-call]
    weights = [weight for part in parts for weight in part.parameters()]
    torch.nn.utils.clip_grad_norm_(weights, recipe.optimiser.clip_norm)
    state.optimiser.step()
    state.step += 1
    state.average.update(state.trained)
    return values.detach().cpu()


def _generator(recipe: BottleneckRecipe, step: int) -> torch.Generator:
    """Return a step's own generator, so that a resumed run draws what it would have drawn."""
    return torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)


def _row(recipe: BottleneckRecipe, state: State, means: Tensor) -> MetricsRow:
    return MetricsRow(
        step=state.step,
        images=state.step * recipe.batch_size,
        seconds=state.seconds,
        learning_rate=state.optimiser.param_groups[0]["lr"],
        losses=dict(zip(LOSS_NAMES, means.tolist(), strict=True)),
    )


def _content(state: State, recipe: BottleneckRecipe, teacher: Teacher) -> dict[str, Any]:
    tuned = recipe.tuned_share > 0
    return {
        "step": state.step,
        "seconds": state.seconds,
        "recipe": recipe.model_dump(mode="json"),
        "teacher": teacher.identity.sha256,
        "trained": _kept(state.trained.state_dict(), tuned=tuned),
        "average": _kept(state.average.state, tuned=tuned),
        "averaged_steps": state.average.updates,
        "optimiser": state.optimiser.state_dict(),
    }


def _kept(weights: Mapping[str, Any], *, tuned: bool) -> dict[str, Any]:
    """The weights that are the run's own: a frozen model is not repeated in its checkpoints."""
    return {
        name: value for name, value in weights.items() if tuned or name.startswith("bottleneck.")
    }


def _restore(
    state: State, content: dict[str, Any], recipe: BottleneckRecipe, teacher: Teacher, path: Path
) -> None:
    if content.get("recipe") != recipe.model_dump(mode="json"):
        raise ConfigurationError(f"{path} is of a run with another recipe.")
    if content.get("teacher") != teacher.identity.sha256:
        raise ConfigurationError(f"{path} is of a run with another model.")
    state.trained.load_state_dict(content["trained"], strict=False)
    state.average.state.update(content["average"])
    state.average.updates = content["averaged_steps"]
    state.optimiser.load_state_dict(content["optimiser"])
    state.step, state.seconds = content["step"], content["seconds"]
