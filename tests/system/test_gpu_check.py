"""The script for a machine with a GPU, on one without: every step is told, none ends the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
STEPS = [
    *("machine", "engines", "onnxruntime", "tensorrt"),
    *("sensors", "training", "services", "services_r50"),
]


def check(*arguments):
    return subprocess.run(
        [str(ROOT / "scripts" / "gpu_check.sh"), *arguments],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_each_step_says_why_it_is_skipped(tmp_path):
    output = tmp_path / "gpu" / "none.jsonl"
    done = check("--output", str(output))
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["step"] for line in lines] == STEPS
    assert done.returncode == 0, done.stdout
    assert lines[0]["status"] == "ok"
    assert lines[0]["torch"] == torch.__version__
    for line in lines[1:]:
        assert line["status"] == "skipped", line
        assert line["reason"]
    assert done.stdout.splitlines() == output.read_text().splitlines()


def test_what_a_pc_can_do_is_done():
    """The engines agree, and a run trains, moves, and distils, all on the CPU."""
    done = check("--device", "cpu", "--quick", "--steps", "training,engines")
    training, engines = (json.loads(line) for line in done.stdout.splitlines())
    assert done.returncode == 0, done.stdout
    assert training["trained"]["steps"] >= 1
    assert training["checkpoint_on_the_cpu"]["step"] == training["trained"]["steps"]
    for step in ("step_fp32", "distillation_step"):
        assert training[step]["last_loss"] < training[step]["first_loss"], step
    assert engines["demo-r50_batch_1"]["fp32"]["largest_difference"]["logits"] == 0.0


def test_a_failure_is_told_and_ends_no_other_step(tmp_path):
    """Training finds no artwork in the folder, and says so."""
    done = check(
        *("--device", "cpu", "--quick", "--steps", "training,sensors", "--artwork", str(tmp_path))
    )
    training, sensors = (json.loads(line) for line in done.stdout.splitlines())
    assert done.returncode == 1
    assert training["status"] == "failed"
    assert "fetch artwork" in " ".join(training["last_words"])
    assert sensors["status"] in {"ok", "skipped"}
