import numpy as np
import pytest
import torch

from common.bundle import FixedInput, Normalization
from detr.training.batches import StepSampler, collate
from detr.training.metrics import MetricsFile, MetricsRow, draw_curve, read_metrics
from detr.training.scene_data import SceneDataset, scene_sample
from scenes.compositor import Scene, SceneObject
from scenes.splits import SceneSource
from tests.unit.scenes.conftest import drawn_artwork, drawn_photographs

POLICY = FixedInput(height=48, width=64)


def sampler(**changes):
    settings = {
        "first_step": 0,
        "last_step": 6,
        "batch_size": 4,
        "process": 0,
        "processes": 1,
        "length": None,
        "seed": 3,
    }
    return StepSampler(**{**settings, **changes})


def test_processes_share_out_the_very_batch_of_one():
    alone = list(sampler())
    first, second = (list(sampler(process=index, processes=2)) for index in range(2))
    assert [a + b for a, b in zip(first, second, strict=True)] == alone


def test_resuming_goes_on_where_it_ended():
    assert list(sampler(length=10))[3:] == list(sampler(length=10, first_step=3))


def test_an_epoch_sees_every_sample_once():
    indices = [index for step in sampler(length=12) for index in step]
    assert sorted(indices[:12]) == list(range(12))
    assert sorted(indices[12:]) == list(range(12, 24))
    assert indices[:12] != [index - 12 for index in indices[12:]]


def test_boxes_of_a_letterboxed_scene_are_relative_to_its_valid_part():
    scene = Scene(np.zeros((48, 32, 3), np.uint8), (SceneObject(4, (8.0, 12.0, 24.0, 36.0)),))
    sample = scene_sample(scene, POLICY, Normalization())
    assert sample.image.shape == (3, 48, 64)
    assert sample.valid_size == (48, 32)
    assert sample.boxes.tolist() == [[0.5, 0.5, 0.5, 0.5]]
    assert sample.classes.tolist() == [4]
    assert sample.image[:, :, 32:].abs().sum() == 0


def test_a_batch_is_padded_and_says_where():
    scenes = [
        Scene(np.full((48, 32, 3), 255, np.uint8), ()),
        Scene(np.full((48, 64, 3), 255, np.uint8), (SceneObject(1, (0.0, 0.0, 64.0, 48.0)),)),
    ]
    batch = collate([scene_sample(scene, POLICY, Normalization()) for scene in scenes])
    assert batch.counts == (0, 1)
    assert batch.padding[0, :, 32:].all()
    assert not batch.padding[0, :, :32].any()
    assert not batch.padding[1].any()
    assert batch.boxes[1, 0].tolist() == [0.5, 0.5, 1.0, 1.0]


@pytest.fixture
def dataset():
    source = SceneSource("train", 7, drawn_artwork(), drawn_photographs())
    return SceneDataset(source, POLICY, Normalization(), early_samples=5, early_scale=0.5)


def test_early_samples_are_smaller(dataset):
    assert dataset[4].image.shape == (3, 24, 32)
    assert dataset[5].image.shape == (3, 48, 64)


def test_samples_are_repeatable(dataset):
    assert torch.equal(dataset[11].image, dataset[11].image)
    assert torch.equal(dataset[11].boxes, dataset[11].boxes)


def row(step, ap=None, **more):
    losses = {"loss": 9.0 / step, "classes": 1.0}
    return MetricsRow(step, step * 4, step * 0.5, 1e-3, {**losses, **more}, ap, ap)


LOSSES = ("loss", "classes", "stage1", "stage2")


def test_metrics_of_repeated_steps_are_dropped(tmp_path):
    file = MetricsFile(tmp_path, 0, LOSSES)
    for step in (10, 20, 30):
        file.append(row(step))
    resumed = MetricsFile(tmp_path, 20, LOSSES)
    resumed.append(row(25, ap=0.5))
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [r.step for r in rows] == [10, 20, 25]
    assert rows[-1] == row(25, ap=0.5)
    assert rows[0].ap is None


def test_the_curve_is_drawn(tmp_path):
    file = MetricsFile(tmp_path, 0, LOSSES)
    file.append(row(10))
    file.append(row(20, ap=0.25))
    assert draw_curve(tmp_path).read_bytes().startswith(b"\x89PNG")


def test_losses_of_a_phase_are_empty_cells_in_the_others(tmp_path):
    file = MetricsFile(tmp_path, 0, LOSSES)
    file.append(row(10, stage1=0.5))
    file.append(row(20, ap=0.25, stage2=0.75))
    first, second = read_metrics(tmp_path / "metrics.csv")
    assert first.losses == {"loss": pytest.approx(0.9), "classes": 1.0, "stage1": 0.5}
    assert "stage1" not in second.losses
    assert draw_curve(tmp_path).read_bytes().startswith(b"\x89PNG")
