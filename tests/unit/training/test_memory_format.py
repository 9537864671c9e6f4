"""The layout of narrow backbones: what corrupts memory is run in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detr.training.recipe import Recipe
from detr.training.state import memory_format
from tests.unit.training.conftest import TINY

ROOT = Path(__file__).parents[3]
# glibc's checking allocator: without it, most overruns do not show at once.
CHECKING = Path("/usr/lib/x86_64-linux-gnu/libc_malloc_debug.so.0")


def recipe(backbone, base_width):
    architecture = {**TINY["architecture"], "backbone": backbone, "base_width": base_width}
    return Recipe.model_validate({**TINY, "architecture": {**architecture, "dilation": False}})


@pytest.mark.parametrize(
    ("backbone", "base_width", "expected"),
    [
        ("resnet18", 4, torch.contiguous_format),
        ("resnet18", 8, torch.contiguous_format),
        ("resnet34", 15, torch.contiguous_format),
        ("resnet18", 16, torch.channels_last),
        ("resnet34", 20, torch.channels_last),
        ("resnet50", 3, torch.contiguous_format),
        ("resnet50", 4, torch.channels_last),
        ("resnet50", 16, torch.channels_last),
        ("resnet101", 64, torch.channels_last),
    ],
)
def test_shortcuts_of_few_channels_come_channels_first(backbone, base_width, expected):
    assert memory_format(recipe(backbone, base_width)) is expected


def test_a_step_at_a_short_side_of_400_leaves_memory_whole():
    code = """
import torch
from detr.training.state import memory_format, new_state
from tests.unit.training.test_memory_format import recipe
torch.set_num_threads(1)
for base_width in (8, 16):
    print(base_width, flush=True)
    made = recipe("resnet18", base_width)
    body = new_state(made).model.detr.backbone.body
    images = torch.randn(2, 3, 400, 533).contiguous(memory_format=memory_format(made))
    body(images).square().mean().backward()
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if CHECKING.exists():
        environment |= {"LD_PRELOAD": str(CHECKING), "MALLOC_CHECK_": "3"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "8\n16\n"), done.stderr
