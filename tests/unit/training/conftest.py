"""A model and batches small enough to train in tests."""

from __future__ import annotations

import pytest
import torch

from detr.training.batches import Batch, Sample, collate
from detr.training.recipe import Recipe

TINY = {
    "name": "tiny",
    "seed": 5,
    "architecture": {
        "backbone": "resnet18",
        "base_width": 8,
        "dilation": True,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "hidden_dim": 16,
        "heads": 2,
        "feedforward_dim": 16,
        "queries": 6,
        "classes": 10,
    },
    "input": {"policy": "fixed", "height": 48, "width": 64},
    "norm": "frozen",
    "dropout": 0.1,
    "data": {"kind": "scenes", "val_scenes": 4, "val_height": 48, "val_width": 64},
    "parts": {"query_groups": 2, "dense_head_weight": 1.0},
    "start": {"kind": "scratch", "query_grid": [2, 3]},
    "batch_size": 4,
    "steps": 8,
    "optimiser": {"learning_rate": 1e-3},
    "schedule": {"shape": "cosine", "warmup_steps": 2},
    "ema_decay": 0.9,
    "evaluation": {"every_steps": 100, "images": 4},
    "checkpoint_every_steps": 4,
}


@pytest.fixture(autouse=True)
def one_thread():
    """So small a model only waits for further threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny_recipe() -> Recipe:
    return Recipe.model_validate(TINY)


def random_batch(step: int, images: int = 4, counts: tuple[int, ...] | None = None) -> Batch:
    """Noise with random boxes; the last image is letterboxed."""
    generator = torch.Generator().manual_seed(step)
    samples = []
    for index in range(images):
        count = counts[index] if counts else int(torch.randint(0, 4, (), generator=generator))
        centre = torch.rand(count, 2, generator=generator) * 0.6 + 0.2
        size = torch.rand(count, 2, generator=generator) * 0.3 + 0.1
        valid = (48, 40) if index == images - 1 else (48, 64)
        image = torch.zeros(3, 48, 64)
        image[:, :, : valid[1]] = torch.randn(3, 48, valid[1], generator=generator)
        classes = torch.randint(0, 10, (count,), generator=generator)
        samples.append(Sample(image, valid, classes, torch.cat([centre, size], dim=1)))
    return collate(samples)
