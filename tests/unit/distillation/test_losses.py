import math

import pytest
import torch

from detr.distillation.losses import feature_loss, output_loss
from detr.training.losses import LossWeights


def test_features_are_compared_on_valid_cells_only():
    teacher = torch.zeros(1, 2, 1, 3)
    student = torch.tensor([[[[1.0, 2.0, 9.0]], [[3.0, 0.0, 9.0]]]])
    padding = torch.tensor([[[False, False, True]]])
    # Cells: (1 + 9) / 2 and (4 + 0) / 2.
    assert feature_loss(student, teacher, padding).item() == pytest.approx((5 + 2) / 2)


def test_outputs_are_weighted_by_what_the_teacher_sees():
    # One layer and image; query 0 sees class 0 with 3/4, query 1 with 1/4; else no object.
    teacher = torch.tensor([[[[0.75, 0.25], [0.25, 0.75]]]]).log()
    student = torch.tensor([[[[0.5, 0.5], [0.5, 0.5]]]]).log()
    boxes = torch.tensor([[[[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2]]]])
    moved = boxes.clone()
    moved[..., 0, 0] += 0.1  # query 0: half a width to the right
    parts = output_loss(student, moved, teacher, boxes, LossWeights(no_object=0.1))
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    # Both diverge alike, so every weighting gives the same mean.
    assert parts.classes.item() == pytest.approx(divergence, rel=1e-5)
    assert parts.l1.item() == pytest.approx(0.75 * 0.1 / (0.75 + 0.25), rel=1e-5)
    iou = 0.5 / 1.5  # the hull is the union
    assert parts.giou.item() == pytest.approx(0.75 * (1 - iou), rel=1e-4)


def test_no_object_counts_a_tenth():
    teacher = torch.tensor([[[[30.0, -30.0], [-30.0, 30.0]]]])
    student = torch.tensor([[[[30.0, -30.0], [0.0, 0.0]]]])
    boxes = torch.full((1, 1, 2, 4), 0.5)
    parts = output_loss(student, boxes, teacher, boxes, LossWeights(no_object=0.1))
    assert parts.classes.item() == pytest.approx(0.1 * math.log(2) / 1.1, rel=1e-4)
    assert parts.l1.item() == 0


def test_every_layer_counts():
    logits = torch.randn(1, 2, 3, 4)
    other = torch.randn(1, 2, 3, 4)
    boxes, moved = torch.rand(1, 2, 3, 4), torch.rand(1, 2, 3, 4)
    one = output_loss(logits, boxes, other, moved, LossWeights())
    pairs = (torch.cat([x, x]) for x in (logits, boxes, other, moved))
    two = output_loss(*pairs, LossWeights())
    for name in ("classes", "l1", "giou"):
        assert getattr(two, name).item() == pytest.approx(2 * getattr(one, name).item(), rel=1e-5)


def test_the_teacher_itself_has_no_loss():
    logits, boxes = torch.randn(2, 2, 3, 4), torch.rand(2, 2, 3, 4)
    parts = output_loss(logits, boxes, logits, boxes, LossWeights())
    assert float(parts.classes) == pytest.approx(0, abs=1e-6)
    assert float(parts.l1) == 0
