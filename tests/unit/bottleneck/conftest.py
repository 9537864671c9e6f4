"""A model small enough to train a bottleneck for in tests."""

from __future__ import annotations

import pytest

from detr.bottleneck.recipe import BottleneckRecipe
from detr.distillation.teacher import load_teacher
from detr.training.recipe import Recipe
from detr.training.state import new_state, save_state
from tests.training_runs import tiny_coco
from tests.unit.training.conftest import TINY, one_thread

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def model_file(tmp_path_factory):
    """The checkpoint of a random model for COCO's ids."""
    recipe = Recipe.model_validate(
        {
            **TINY,
            "architecture": {**TINY["architecture"], "classes": 91},
            "parts": {"query_groups": 1, "dense_head_weight": 0.0},
        }
    )
    return save_state(new_state(recipe), recipe, tmp_path_factory.mktemp("model"))


@pytest.fixture
def teacher(model_file):
    return load_teacher(model_file)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return tiny_coco(tmp_path_factory.mktemp("data"))


@pytest.fixture
def recipe_of(data):
    """Returns a recipe; the keyword arguments replace its values."""

    def make(**changes):
        return BottleneckRecipe.model_validate(
            {
                "name": "tiny",
                "seed": 3,
                "input": {"policy": "shortest_edge", "shortest_edge": 48, "longest_edge": 64},
                "data": data,
                "sizes": {"channels": 4, "encoder_width": 8, "decoder_width": 8},
                "weights": {"rate": 0.05},
                "rates": {
                    "latent-fine": {"step": 0.5},
                    "latent": {"step": 1.0, "keep_within": 1.0},
                    "latent-coarse": {"step": 2.0, "keep_within": 2.0},
                },
                "batch_size": 2,
                "steps": 4,
                "optimiser": {"learning_rate": 1e-3, "clip_norm": 1.0},
                "schedule": {"shape": "cosine"},
                "ema_decay": 0.5,
                "evaluation": {"every_steps": 4, "images": 2},
                "checkpoint_every_steps": 2,
                **changes,
            }
        )

    return make
