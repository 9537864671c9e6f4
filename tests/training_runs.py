"""Training and distillation by real commands, on a COCO folder that takes seconds."""

from __future__ import annotations

import atexit
import functools
import os
import subprocess
import sys
from pathlib import Path

from scenes.coco_format import export_coco
from scenes.splits import SceneSource
from tests.forked import TRAINING, ForkServer
from tests.unit.scenes.conftest import drawn_artwork, drawn_photographs

ROOT = Path(__file__).parents[1]
INPUT = {"policy": "shortest_edge", "shortest_edge": 48, "longest_edge": 64}


def tiny_coco(folder):
    """Export eight composed scenes with COCO's ids; returns a recipe's `data` for them."""
    source = SceneSource("train", 1, drawn_artwork(), drawn_photographs())
    export_coco((source.scene(index, 48, 64) for index in range(8)), folder, "test")
    images, annotations = str(folder / "images"), str(folder / "instances.json")
    return {
        "kind": "coco",
        "train_images": images,
        "train_annotations": annotations,
        "val_images": images,
        "val_annotations": annotations,
        "short_sides": [48],
        "longest_side": 64,
    }


def run_training(module, recipe, output, *more, processes=1):
    """Run `python -m module`, or torchrun; returns the finished process."""
    arguments = ["--recipe", str(recipe), "--output", str(output)]
    arguments += ["--workers", "0", "--threads", "1", *more]
    if processes == 1:
        return _fork_server().run(module, arguments, _environment(), output.parent)
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [sys.executable, "-m", *launcher, "-m", module, *arguments],
        cwd=output.parent,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def _environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@functools.cache
def _fork_server():
    """Of a process that has imported what takes training longest to import."""
    server = ForkServer(TRAINING, _environment())
    atexit.register(server.close)
    return server
