"""A checkpoint becomes a bundle, and the bundle's record makes the same bundle again."""

from __future__ import annotations

import itertools
import shutil

import pytest

from common.domain.errors import ConfigurationError
from detr.coco.folder import open_coco
from detr.training.checkpoints import WEIGHTS_NAME, read_record
from detr.training.metrics import METRICS_NAME, MetricsFile, MetricsRow
from detr.training.recipe import Recipe
from detr.training.release import FORMER_METRICS_NAME, add_figures, rebuild, release
from detr.training.state import new_state, save_state
from scenes.coco_format import export_coco
from scenes.splits import SceneSource
from tests.unit.scenes.conftest import drawn_artwork, drawn_photographs
from tests.unit.training.conftest import TINY


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A released run: its bundle, its record, and what `release` returned."""
    root = tmp_path_factory.mktemp("release")
    recipe = Recipe.model_validate({**TINY, "norm": "batch"})
    checkpoint = save_state(new_state(recipe), recipe, root / "run")
    MetricsFile(root / "run", 0, ["loss"]).append(
        MetricsRow(1, 4, 1.0, 1e-3, {"loss": 9.0}, 0.1, 0.2)
    )
    scenes = SceneSource("train", 1, drawn_artwork(), drawn_photographs())
    pictures = (scenes.scene(index, 48, 64).pixels for index in itertools.count())
    released = release(checkpoint, root / "bundle", root / "record", "0123abc", pictures)
    return root / "bundle", root / "record", released


def test_the_record_says_where_the_bundle_comes_from(folders):
    _, record, released = folders
    content = read_record(record)
    assert content["commit"] == "0123abc"
    assert "machine" not in content
    assert content["bundle_digest"] == released.bundle.digest
    assert Recipe.model_validate(content["recipe"]) == released.recipe
    assert (record / "curve.png").exists()
    codec = released.bundle.manifest.codec
    assert codec.default == "int8"
    assert codec.calibration is not None
    assert content["codec"]["calibration"]["frames"] == codec.calibration.frames == 300
    assert released.bundle.manifest.categories[-1].name == "horse"
    assert released.bundle.manifest.categories[-1].id == 19


def test_the_record_makes_the_same_bundle(folders, tmp_path):
    bundle, record, released = folders
    again = rebuild(record, tmp_path / "again")
    assert again is not None
    assert again.digest == released.bundle.digest
    for file in bundle.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


def test_a_release_trained_further_takes_its_record_along(folders, tmp_path):
    first = shutil.copytree(folders[1], tmp_path / "record")
    former, its_metrics = read_record(first), (first / METRICS_NAME).read_bytes()
    start = {"kind": "record", "folder": first}
    recipe = Recipe.model_validate({**TINY, "norm": "batch", "seed": 6, "start": start})
    state = new_state(recipe)
    state.step, state.seconds = 7, 120.0
    checkpoint = save_state(state, recipe, tmp_path / "run")
    MetricsFile(tmp_path / "run", 0, ["loss"]).append(
        MetricsRow(7, 28, 120.0, 1e-3, {"loss": 8.0}, 0.3, 0.4)
    )
    scenes = SceneSource("train", 1, drawn_artwork(), drawn_photographs())
    for _ in range(2):  # into the record that the run started from, and once more
        pictures = (scenes.scene(index, 48, 64).pixels for index in itertools.count())
        release(checkpoint, tmp_path / "bundle", first, "4567def", pictures, machine="a GPU")
        told = read_record(first)
        assert told["machine"] == "a GPU"
        assert (told["commit"], told["steps"], told["training_minutes"]) == ("4567def", 7, 2.0)
        assert told["started_from"]["commit"] == "0123abc"
        assert told["started_from"]["bundle_digest"] == former["bundle_digest"]
        assert told["started_from"]["recipe"] == former["recipe"]
        assert told["started_from"]["metrics"] == FORMER_METRICS_NAME
        assert (first / FORMER_METRICS_NAME).read_bytes() == its_metrics
    again = rebuild(first, tmp_path / "again")
    assert again is not None
    assert again.digest == told["bundle_digest"] != former["bundle_digest"]
    assert again.manifest.origin.startswith("trained further from the released record on scenes")


def test_torch_and_onnx_figures_agree(folders, tmp_path):
    _, record, released = folders
    source = SceneSource("val", 1, drawn_artwork(), drawn_photographs())
    export_coco((source.scene(index, 48, 64) for index in range(4)), tmp_path, "test")
    folder = open_coco(tmp_path / "images", tmp_path / "instances.json")
    figures = add_figures(released, record, "val", folder)
    assert figures["onnx"]["AP"] == pytest.approx(figures["torch"]["AP"], abs=5e-4)
    assert set(read_record(record)["figures"]["val"]) == {"torch", "onnx"}


def test_other_weights_are_noticed(folders):
    _, record, _ = folders
    path = record / WEIGHTS_NAME
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ConfigurationError, match="recorded is"):
        rebuild(record)
    content[-1] ^= 1
    path.write_bytes(bytes(content))
