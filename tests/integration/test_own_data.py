"""Training on what people bring: wrong files are told before the first step."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from transformers import DFineConfig, DFineForObjectDetection

from common.bundle import Normalization
from detr.coco.folder import open_coco
from detr.families.importing import import_family
from detr.families.registry import family_of
from detr.training.checkpoints import CHECKPOINT_NAME, FORMER_NAME, load_checkpoint
from detr.training.data import CocoDataset
from detr.training.families import trained_family
from detr.training.recipe import Recipe
from tests.coco_sets import coco_set
from tests.tiny_d_fine import CONFIGURATION
from tests.tiny_d_fine import RECIPE as D_FINE
from tests.training_runs import run_training
from tests.unit.detr.test_coco import turned_jpeg
from tests.unit.training.conftest import TINY
from tests.weights_files import save_torch, small_state

ROOT = Path(__file__).parents[2]
ARCHITECTURE = {
    **TINY["architecture"],
    "base_width": 4,
    "dilation": False,
    "decoder_layers": 1,
    "heads": 4,
    "feedforward_dim": 24,
    "queries": 5,
    "classes": 4,
}


@pytest.fixture
def made(tmp_path):
    return coco_set(tmp_path / "set", count=4)


def recipe(made, **changes):
    """A file with a tiny recipe over this set."""
    data = {
        "kind": "coco",
        "train_images": str(made.images),
        "train_annotations": str(made.annotations),
        "val_images": str(made.images),
        "val_annotations": str(made.annotations),
        "short_sides": [48],
        "longest_side": 64,
    }
    content = {
        **TINY,
        "architecture": ARCHITECTURE,
        "input": {"policy": "shortest_edge", "shortest_edge": 48, "longest_edge": 64},
        "data": {**data, **changes.pop("data", {})},
        "start": {"kind": "weights"},
        "steps": 2,
        "batch_size": 2,
        "checkpoint_every_steps": 1,
        "evaluation": {"every_steps": 2, "images": 2},
        **changes,
    }
    path = made.folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def train(recipe_file, output, *more):
    return run_training("detr.training.cli", recipe_file, output, *more)


def sentence_of(result):
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    return line


def resized_picture(made):
    cv2.imwrite(str(made.images / "20.png"), np.zeros((24, 32, 3), np.uint8))


def large_category(made):
    made.content["categories"][1]["id"] = 4
    for annotation in made.content["annotations"]:
        annotation["category_id"] += annotation["category_id"] == 3


@pytest.mark.parametrize(
    ("damage", "changes", "sentence"),
    [
        (large_category, {}, "category 4 'car' would be row 4 .*architecture.classes is 4"),
        (resized_picture, {}, "32 x 24 pixels, but the annotations say 64 x 48"),
        (
            lambda made: None,
            {"start": {"kind": "weights", "file": "gone.pth"}},
            "gone.pth does not",
        ),
    ],
)
def test_what_is_wrong_is_told_before_the_first_step(made, tmp_path, damage, changes, sentence):
    damage(made)
    result = train(recipe(made, **changes), tmp_path / "run")
    assert re.search(sentence, sentence_of(result))
    assert not (tmp_path / "run").exists()


def test_what_is_put_right_is_said_and_a_cut_run_goes_on(made, tmp_path):
    for annotation in made.content["annotations"]:
        annotation["id"] = 1
    names = {0: "car", 2: "person"}
    weights = save_torch({"model": small_state(), "args": {"nheads": 4}}, tmp_path)
    chosen = recipe(
        made, data={"categories": names}, start={"kind": "weights", "file": str(weights)}
    )
    output = tmp_path / "run"
    result = train(chosen, output)
    assert result.returncode == 0, result.stderr
    for said in ("annotation ids are not unique", "matched by name", "class head is made anew"):
        assert result.stderr.count(said) == 1, result.stderr
    checkpoint = output / CHECKPOINT_NAME
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    told = sentence_of(train(chosen, output, "--resume"))
    assert f"{checkpoint} is not a readable checkpoint: it is cut off" in told
    assert f"{output / FORMER_NAME} of step 1, is whole" in told
    (output / FORMER_NAME).replace(checkpoint)
    weights.unlink()
    resumed = train(chosen, output, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "made anew" not in resumed.stderr


def test_training_sees_pixels_as_they_are_stored(made):
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :32] = 255
    (made.images / "20.png").write_bytes(turned_jpeg(pixels))
    dataset = CocoDataset(open_coco(made.images, made.annotations), Normalization(), [48], 64, 3)
    samples = [dataset[index] for index in (1, 5, 9, 13)]
    assert {tuple(sample.image.shape) for sample in samples} == {(3, 48, 64)}
    # Flipped or not, one side is bright.
    means = [(s.image[:, :, :30].mean(), s.image[:, :, 34:].mean()) for s in samples]
    assert all(abs(left - right) > 3 for left, right in means)


FULL = """
import sys
from pathlib import Path
from common.domain.errors import ResourceExhaustedError
from detr.training.data import training_batches
from detr.training.recipe import load_recipe
try:
    list(training_batches(load_recipe(sys.argv[1]), Path("cache"), 0, workers=1))
except ResourceExhaustedError as error:
    print(error)
"""


def test_full_shared_memory_ends_a_run_instead_of_hanging_it(made):
    """Docker's /dev/shm is small; here it is smaller still."""
    mount = "mount -t tmpfs -o size=64k tmpfs /dev/shm"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("a /dev/shm of one's own takes root")
    command = f'{mount} && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command, "sh", sys.executable, "-c", FULL, recipe(made)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "/dev/shm is full: raise it (docker run --shm-size" in done.stdout, done.stderr
    assert done.stderr == ""


def test_a_d_fine_is_tuned_on_own_pictures(made, tmp_path):
    names = {0: "car", 1: "person"}
    torch.manual_seed(7)
    model = DFineForObjectDetection(DFineConfig(**{**CONFIGURATION, "num_labels": 3}))
    model.save_pretrained(tmp_path / "weights")
    chosen = recipe(
        made,
        family="d_fine",
        configuration={"num_labels": 2, "num_denoising": 2},
        input=D_FINE["input"],
        data={"categories": names},
        start={"kind": "weights", "file": str(tmp_path / "weights")},
        architecture=None,
        parts={},
        dropout=0.0,
    )
    output = tmp_path / "run"
    result = train(chosen, output)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("the class heads are made anew") == 1, result.stderr
    assert "step 2: AP" in result.stderr
    content = load_checkpoint(output / CHECKPOINT_NAME)
    kept = Recipe.model_validate_json(content["recipe"])
    # What the recipe leaves open is the folder's, and stays known when the folder is gone.
    assert (kept.classes, kept.configuration["num_queries"]) == (2, CONFIGURATION["num_queries"])
    (output / FORMER_NAME).replace(output / CHECKPOINT_NAME)
    shutil.rmtree(tmp_path / "weights")
    resumed = train(chosen, output, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    again = load_checkpoint(output / CHECKPOINT_NAME)["average"]
    assert all(torch.equal(again[name], value) for name, value in content["average"].items())
    folder = tmp_path / "tuned"
    main = [sys.executable, "-m", "detr.training", "folder", str(output / CHECKPOINT_NAME)]
    written = subprocess.run([*main, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert written.returncode == 0, written.stderr
    config = json.loads((folder / "config.json").read_text())
    imported = import_family(family_of(config), folder, config)
    assert [(one.class_index, one.name) for one in imported.categories] == [*names.items()]
    assert imported.split.preparation.input.model_dump() == D_FINE["input"]
    assert imported.remarks == ("the names are COCO's, so COCO's ids are taken.",)
    pixels = torch.rand(1, 3, 64, 96)
    plain = trained_family(kept).plain_model(kept, again)
    with torch.no_grad():
        logits, boxes = imported.split.whole(pixels, torch.zeros(1, 64, 96, dtype=torch.bool))
        expected = plain(pixels)
    torch.testing.assert_close(logits, expected.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(boxes, expected.pred_boxes, atol=1e-4, rtol=0)
