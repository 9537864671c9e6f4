"""Distillation by real commands: both methods, over two processes, resumed, to a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from common.bundle import load_bundle
from detr.export import Description, export_bundle
from detr.training.checkpoints import load_checkpoint
from detr.training.data import scene_categories
from detr.training.metrics import read_metrics
from detr.training.recipe import Recipe
from detr.training.state import new_state, plain_model, save_state
from tests.training_runs import INPUT, run_training, tiny_coco
from tests.unit.distillation.conftest import DISTIL, SETTINGS, WEIGHTS
from tests.unit.training.conftest import TINY

ROOT = Path(__file__).parents[2]
ARCHITECTURE = {
    **TINY["architecture"],
    "classes": 20,
    "backbone": "resnet50",
    "encoder_layers": 2,
}


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A COCO folder of eight composed scenes, a teacher's checkpoint and a recipe for both."""
    folder = tmp_path_factory.mktemp("distil")
    data = tiny_coco(folder)
    teacher = Recipe.model_validate(
        {**TINY, "name": "tiny-r50", "architecture": ARCHITECTURE, "input": INPUT, "data": data}
    )
    save_state(new_state(teacher), teacher, folder / "teacher")
    settings = {**SETTINGS, "steps": 5}
    recipe = {
        **DISTIL,
        "teacher": str(folder / "teacher" / "checkpoint.pt"),
        "input": INPUT,
        # Statistics of a batch would differ between one process and two.
        "norm": "frozen",
        "data": data,
        "checkpoint_every_steps": 3,
        "stages": {**settings, "phase_shares": [1, 1, 1, 1, 1]},
        "joint": {**settings, "weights": WEIGHTS},
        "encoder": {**settings, "weights": {"memory": [[0.0, 1.0]]}},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def distil(recipe, output, *more, processes=1):
    return run_training("detr.distillation.cli", recipe, output, *more, processes=processes)


def last_losses(folder):
    return read_metrics(folder / "metrics.csv")[-1].losses


def test_two_processes_distil_as_one(material, tmp_path):
    """By the joint method, whose losses count objects over all processes."""
    for processes in (1, 2):
        output = tmp_path / str(processes)
        result = distil(material / "tiny.yaml", output, "--method", "joint", processes=processes)
        assert result.returncode == 0, result.stderr
        assert "step 5: AP" in result.stderr
    alone, together = last_losses(tmp_path / "1"), last_losses(tmp_path / "2")
    assert together == pytest.approx(alone, rel=2e-4, nan_ok=True)
    assert {"stage3", "outputs"} <= set(alone)
    assert (tmp_path / "1" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_is_not_overwritten_but_resumed(material, tmp_path):
    """That a resumed run repeats an uninterrupted one is tested beside the tasks."""
    output = tmp_path / "run"
    arguments = ["--method", "stages", "--seed", "3", "--steps", "10"]
    result = distil(material / "tiny.yaml", output, *arguments)
    assert result.returncode == 0, result.stderr
    assert "step 10: AP" in result.stderr
    assert {"stage1", "stage4", "projected"} <= set(last_losses(output))
    before = (output / "checkpoint.pt").read_bytes()
    recipe = Recipe.model_validate_json(load_checkpoint(output / "checkpoint.pt")["recipe"])
    assert (recipe.seed, recipe.steps, recipe.architecture.backbone) == (3, 10, "resnet18")
    refused = distil(material / "tiny.yaml", output, *arguments)
    assert refused.returncode == 1
    assert "continue it with --resume" in refused.stderr
    other = distil(material / "tiny.yaml", output, "--method", "joint", "--resume")
    assert other.returncode == 1
    assert "written by a different recipe" in other.stderr
    assert distil(material / "tiny.yaml", output, *arguments, "--resume").returncode == 0
    assert (output / "checkpoint.pt").read_bytes() == before


def test_a_shorter_encoder_becomes_a_bundle(material, tmp_path):
    result = distil(material / "tiny.yaml", tmp_path / "run", "--encoder-layers", "1")
    assert result.returncode == 0, result.stderr
    content = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    recipe = Recipe.model_validate_json(content["recipe"])
    description = Description(recipe.name, recipe.input, scene_categories(), "Apache-2.0", "test")
    model = plain_model(recipe, content["average"])
    bundle = export_bundle(model, tmp_path / "bundle", description).bundle
    assert load_bundle(bundle.folder).manifest.name == "tiny-r50-e1"
    assert bundle.manifest.architecture.encoder_layers == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--recipe", "no-such"], "there is no recipe no-such; shipped recipes: coco"),
        (["--teacher", "absent.pt"], "there is no teacher absent.pt"),
        (["--encoder-layers", "2"], "has 2 encoder layers: a student has fewer, not 2"),
        (["--recipe", "demo-r50-r34"], "knows 20 classes, but the recipe's data has 10"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(material, arguments, sentence, tmp_path):
    teacher = str(material / "teacher" / "checkpoint.pt")
    if "--teacher" not in arguments:
        arguments = ["--teacher", teacher, *arguments]
    result = distil(material / "tiny.yaml", tmp_path / "x", *arguments)
    assert result.returncode == 1
    assert result.stderr.startswith("tandem distill: ")
    assert sentence in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
