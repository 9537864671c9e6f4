import pytest
import torch
from transformers import DetrConfig
from transformers.loss.loss_for_object_detection import ForObjectDetectionLoss

from detr.training.losses import LossWeights, MatchCosts, generalized_iou, set_loss, to_corners
from tests.unit.training.conftest import random_batch

COSTS, WEIGHTS = MatchCosts(), LossWeights()


def random_output(layers=3, images=4, queries=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(layers, images, queries, 11, generator=generator)
    boxes = torch.rand(layers, images, queries, 4, generator=generator) * 0.8 + 0.1
    return logits, boxes


def reference_loss(logits, boxes, batch):
    """Hugging Face's DETR loss, of the same weights."""
    config = DetrConfig(num_labels=10, auxiliary_loss=True, decoder_layers=logits.shape[0])
    labels = [
        {"class_labels": batch.classes[index, :count], "boxes": batch.boxes[index, :count]}
        for index, count in enumerate(batch.counts)
    ]
    total, parts, _ = ForObjectDetectionLoss(
        logits[-1], labels, "cpu", boxes[-1], config, logits, boxes
    )
    return total, parts


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_reference(seed):
    logits, boxes = random_output(seed=seed)
    batch = random_batch(seed, counts=(3, 1, 0, 2))
    layers = set_loss(logits, boxes, batch, groups=1, costs=COSTS, weights=WEIGHTS)
    total = sum(layer.total(WEIGHTS) for layer in layers)
    expected, parts = reference_loss(logits, boxes, batch)
    assert layers[-1].classes.item() == pytest.approx(parts["loss_ce"].item(), rel=1e-5)
    assert layers[-1].l1.item() == pytest.approx(parts["loss_bbox"].item(), rel=1e-5)
    assert layers[-1].giou.item() == pytest.approx(parts["loss_giou"].item(), rel=1e-5)
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_groups_are_matched_apart():
    """Groups that say the same have the loss of one of them; joined they would compete."""
    logits, boxes = random_output()
    batch = random_batch(1, counts=(3, 2, 1, 2))
    alone = set_loss(logits, boxes, batch, groups=1, costs=COSTS, weights=WEIGHTS)
    twice = set_loss(
        logits.repeat(1, 1, 2, 1),
        boxes.repeat(1, 1, 2, 1),
        batch,
        groups=2,
        costs=COSTS,
        weights=WEIGHTS,
    )
    for one, two in zip(alone, twice, strict=True):
        assert two.total(WEIGHTS).item() == pytest.approx(one.total(WEIGHTS).item(), rel=1e-5)


def test_a_perfect_answer_costs_almost_nothing():
    batch = random_batch(2, counts=(1, 1, 1, 1))
    logits = torch.full((1, 4, 3, 11), -20.0)
    logits[..., -1] = 20.0
    boxes = torch.full((1, 4, 3, 4), 0.5)
    for image in range(4):
        logits[0, image, 1] = -20.0
        logits[0, image, 1, batch.classes[image, 0]] = 20.0
        boxes[0, image, 1] = batch.boxes[image, 0]
    (parts,) = set_loss(logits, boxes, batch, groups=1, costs=COSTS, weights=WEIGHTS)
    assert parts.total(WEIGHTS).item() == pytest.approx(0.0, abs=1e-4)


def test_an_empty_batch_has_a_finite_loss():
    logits, boxes = random_output()
    batch = random_batch(3, counts=(0, 0, 0, 0))
    layers = set_loss(logits, boxes, batch, groups=2, costs=COSTS, weights=WEIGHTS)
    assert all(layer.l1.item() == 0 and layer.classes.isfinite() for layer in layers)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0.0, 0.0, 2.0, 2.0), (0.0, 0.0, 2.0, 2.0), 1.0),
        ((0.0, 0.0, 2.0, 2.0), (1.0, 0.0, 3.0, 2.0), 1 / 3),
        ((0.0, 0.0, 1.0, 1.0), (2.0, 0.0, 3.0, 1.0), -1 / 3),
        ((0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0), 0.0),
    ],
)
def test_generalized_iou_by_hand(a, b, expected):
    assert generalized_iou(torch.tensor(a), torch.tensor(b)).item() == pytest.approx(expected)


def test_corners():
    assert to_corners(torch.tensor([5.0, 5.0, 4.0, 2.0])).tolist() == [3.0, 4.0, 7.0, 6.0]
