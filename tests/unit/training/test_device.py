"""Devices, time budgets, and what moves between them."""

from __future__ import annotations

import time

import pytest
import torch

from common.domain.errors import ConfigurationError
from detr.training.checkpoints import AVERAGE_NAME, load_checkpoint
from detr.training.loop import training_step
from detr.training.optimisation import TimeBudget, recipe_factor
from detr.training.processes import CPU, choose_device
from detr.training.recipe import with_precision
from detr.training.state import new_state, plain_model, restore_state, save_best, save_state
from tests.unit.training.conftest import random_batch


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused_and_auto_is_the_cpu():
    with pytest.raises(ConfigurationError, match="no GPU"):
        choose_device("cuda")
    assert choose_device("auto") == choose_device("cpu") == CPU


def test_fp16_is_for_gpus(tiny_recipe):
    with pytest.raises(ConfigurationError, match="fp16"):
        new_state(with_precision(tiny_recipe, "fp16"))


def test_a_time_budget_goes_from_where_a_run_was_to_the_end():
    started = time.monotonic()
    assert TimeBudget(1000.0, started).share() < 0.1
    assert TimeBudget(1000.0, started - 500).share() == pytest.approx(0.5, abs=0.01)
    assert TimeBudget(1000.0, started - 500, first_share=0.5).share() == pytest.approx(0.75, 0.01)
    assert TimeBudget(1000.0, started - 2000).share() == 1.0


def test_the_share_of_the_time_decides_the_rate_not_the_step(tiny_recipe):
    state = new_state(tiny_recipe)
    state.share = 0.5
    training_step(tiny_recipe, state, state.model, random_batch(0))
    expected = recipe_factor(tiny_recipe, 0.5 * tiny_recipe.steps)
    rate = state.optimiser.param_groups[-1]["lr"]
    assert rate == pytest.approx(tiny_recipe.optimiser.learning_rate * expected)
    assert expected != recipe_factor(tiny_recipe, 0)


def test_the_share_outlives_the_run(tiny_recipe, tmp_path):
    state = new_state(tiny_recipe)
    state.share = 0.25
    training_step(tiny_recipe, state, state.model, random_batch(0))
    path = save_state(state, tiny_recipe, tmp_path)
    assert restore_state(path, tiny_recipe).share == 0.25


def test_averaged_weights_alone_are_enough_for_a_release(tiny_recipe, tmp_path):
    state = new_state(tiny_recipe)
    training_step(tiny_recipe, state, state.model, random_batch(0))
    save_best(state, tiny_recipe, tmp_path / AVERAGE_NAME)
    content = load_checkpoint(tmp_path / AVERAGE_NAME)
    released = plain_model(tiny_recipe, content["average"])
    kept = plain_model(tiny_recipe, state.average.state)
    for name, value in kept.state_dict().items():
        assert torch.equal(released.state_dict()[name], value), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_moves_from_the_gpu_to_the_cpu_and_back(tiny_recipe, tmp_path, precision):
    recipe = with_precision(tiny_recipe, precision)
    device = choose_device("cuda")
    state = new_state(recipe, device=device)
    for step in range(3):
        losses = training_step(recipe, state, state.model, random_batch(step).to(device))
    assert losses.isfinite().all()
    path = save_state(state, recipe, tmp_path)
    back = restore_state(path, recipe, device=device)
    training_step(recipe, back, back.model, random_batch(3).to(device))
    if precision != "fp16":
        moved = restore_state(path, recipe)
        assert moved.device == CPU
        training_step(recipe, moved, moved.model, random_batch(3))
