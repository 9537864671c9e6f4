import numpy as np
import pytest

from detr.coco.average_precision import FIGURES, ResultRow, coco_scores

BOXES = {1: [(10, 10, 50, 50, 1), (100, 20, 40, 80, 2)], 2: [(30, 30, 20, 20, 1)]}


def instances():
    annotations = [
        {
            "id": 10 * image_id + index,
            "image_id": image_id,
            "category_id": category,
            "bbox": [x, y, w, h],
            "area": w * h,
            "iscrowd": 0,
        }
        for image_id, boxes in BOXES.items()
        for index, (x, y, w, h, category) in enumerate(boxes)
    ]
    return {
        "images": [{"id": image_id} for image_id in BOXES],
        "annotations": annotations,
        # No object is of the third: it counts for nothing.
        "categories": [{"id": number, "name": str(number)} for number in (1, 2, 3)],
    }


def rows(shift):
    return [
        ResultRow(image_id, x + shift, y, w, h, 0.9, category)
        for image_id, boxes in BOXES.items()
        for x, y, w, h, category in boxes
    ]


@pytest.mark.parametrize("shift", [0, 2, 5])
def test_the_area_under_the_mean_curve_is_ap(shift):
    scores = coco_scores(instances(), rows(shift), [1, 2])
    assert list(scores.figures) == list(FIGURES)
    assert scores.precision.shape == (10, 101)
    assert scores.precision.mean() == pytest.approx(scores.figures["AP"])
    assert scores.precision[0].mean() == pytest.approx(scores.figures["AP50"])
    assert (scores.figures["AP"] == pytest.approx(1)) == (shift == 0)


def test_only_the_pictures_named_count():
    assert coco_scores(instances(), rows(0)[:2], [1]).figures["AP"] == pytest.approx(1)
    assert coco_scores(instances(), rows(0)[:2], [1, 2]).figures["AR100"] == pytest.approx(0.75)


def test_no_detection_at_all():
    scores = coco_scores(instances(), [], [1, 2])
    assert set(scores.figures.values()) == {0.0}
    assert not np.any(scores.precision)
