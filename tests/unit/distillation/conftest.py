"""A teacher and students small enough to distil in tests."""

from __future__ import annotations

import pytest
import torch

from detr.distillation.recipe import DistillationRecipe, run_recipe
from detr.distillation.tasks import make_task
from detr.distillation.teacher import load_teacher
from detr.training.recipe import Recipe
from detr.training.state import new_state, save_state
from tests.unit.training.conftest import TINY, one_thread, random_batch

__all__ = ["one_thread"]

SETTINGS = {
    "steps": 10,
    "optimiser": {"learning_rate": 3e-3, "clip_norm": 1.0},
    "schedule": {"shape": "cosine"},
    "ema_decay": 0.5,
}
WEIGHTS = {
    "stage3": [[0.0, 1.0], [1.0, 0.5]],
    "stage4": [[0.0, 1.0]],
    "projected": [[0.0, 2.0]],
    "memory": [[0.0, 2.0]],
    "outputs": [[0.0, 1.0]],
    "truth": [[0.0, 0.0], [1.0, 1.0]],
}
DISTIL = {
    "name": "tiny-r18",
    "student": "tiny-student",
    "seed": 7,
    "backbone": "resnet18",
    "input": TINY["input"],
    "norm": "batch",
    "data": TINY["data"],
    "batch_size": 4,
    "evaluation": {"every_steps": 100, "images": 4},
    "checkpoint_every_steps": 5,
    "stages": {**SETTINGS, "phase_shares": [1, 1, 1, 1, 1]},
    "joint": {**SETTINGS, "weights": WEIGHTS},
    "encoder": {**SETTINGS, "weights": {"memory": [[0.0, 1.0]], "outputs": [[0.0, 1.0]]}},
}


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory):
    """The checkpoint of a random R50 with two groups of queries and a dense head."""
    recipe = Recipe.model_validate(
        {**TINY, "architecture": {**TINY["architecture"], "backbone": "resnet50",
         "encoder_layers": 3}, "name": "tiny-r50", "norm": "batch"}
    )  # fmt: skip
    state = new_state(recipe)
    with torch.no_grad():
        for name, parameter in state.model.named_parameters():
            if name.endswith("bn3.weight"):  # which starts at zero
                parameter.fill_(0.5)
    state.average.state = state.model.state_dict()
    return save_state(state, recipe, tmp_path_factory.mktemp("teacher"))


@pytest.fixture
def teacher(teacher_file):
    return load_teacher(teacher_file)


@pytest.fixture
def distil_recipe():
    return DistillationRecipe.model_validate(DISTIL)


@pytest.fixture
def prepared(distil_recipe, teacher):
    """Returns recipe, task and state of a method."""

    def prepare(method, **more):
        recipe = run_recipe(distil_recipe, method, teacher.identity, teacher.parts, **more)
        task = make_task(recipe, teacher, lambda n: [random_batch(100 + i) for i in range(n)])
        return recipe, task, new_state(recipe, task.build)

    return prepare
