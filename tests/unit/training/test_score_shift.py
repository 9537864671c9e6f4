"""Which shift makes a score of 0.7 mean that a box is as likely right as wrong."""

import numpy as np
import pytest

from common.domain.errors import ConfigurationError
from detr.coco.average_precision import ResultRow, judged_scores
from detr.training.score_shift import fitted_shift

MIDDLE = 0.35


def test_the_middle_comes_to_the_default_threshold():
    random = np.random.default_rng(3)
    logits = random.uniform(-3.5, 4, 20_000)
    middle = np.log(MIDDLE / (1 - MIDDLE))
    right = random.random(20_000) < 1 / (1 + np.exp(-2.5 * (logits - middle)))
    shift = fitted_shift(1 / (1 + np.exp(-logits)), right)
    assert 1 / (1 + np.exp(-(middle + shift))) == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize("right", [[True, True], [False, False]])
def test_without_both_kinds_there_is_no_middle(right):
    with pytest.raises(ConfigurationError, match="no right boxes to judge scores by, or no wrong"):
        fitted_shift(np.array([0.5, 0.6]), np.array(right))


def test_coco_judges_each_detection():
    box = [10.0, 10.0, 20.0, 20.0]
    instances = {
        "images": [{"id": 5, "width": 64, "height": 64}, {"id": 7, "width": 64, "height": 64}],
        "categories": [{"id": 2, "name": "a"}, {"id": 9, "name": "b"}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 2, "bbox": box, "area": 400, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 9, "bbox": box, "area": 400, "iscrowd": 0},
            {"id": 3, "image_id": 7, "category_id": 9, "bbox": box, "area": 400, "iscrowd": 1},
        ],
    }
    rows = [
        ResultRow(5, *box, 0.9, 2),
        ResultRow(5, *box, 0.8, 2),  # a second one of the same object
        ResultRow(5, *box, 0.7, 9),  # of another category
        ResultRow(7, *box, 0.6, 9),
        ResultRow(7, *box, 0.5, 9),  # covers the crowd, which COCO ignores
    ]
    scores, right = judged_scores(instances, rows, [5, 7])
    judged = sorted(zip(scores.tolist(), right.tolist(), strict=True), reverse=True)
    assert judged == [(0.9, True), (0.8, False), (0.7, False), (0.6, True)]
