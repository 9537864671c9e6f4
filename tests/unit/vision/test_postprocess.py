"""Raw outputs to detections, against the official PostProcess written out in torch."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from common.bundle import Category, SoftmaxScoring
from common.domain.detections import DetectionOptions
from common.domain.errors import EngineError
from common.domain.frames import FrameGeometry
from common.vision.postprocess import detections

FRAME = FrameGeometry(
    frame_height=480,
    frame_width=640,
    input_height=320,
    input_width=320,
    valid_height=240,
    valid_width=320,
)
EVERYTHING = DetectionOptions(score_threshold=0.0)
by_softmax = partial(detections, scoring=SoftmaxScoring())


def categories(*class_indices: int) -> tuple[Category, ...]:
    return tuple(Category(class_index=i, id=100 + i, name=f"class {i}") for i in class_indices)


def random_outputs(queries: int = 50, classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 3, (queries, classes + 1)).astype(np.float32)
    return logits, rng.random((queries, 4), np.float32)


def test_equals_the_official_code() -> None:
    torch = pytest.importorskip("torch")
    logits, boxes = random_outputs()
    probabilities = torch.from_numpy(logits).softmax(-1)
    scores, labels = probabilities[..., :-1].max(-1)
    cx, cy, w, h = torch.from_numpy(boxes).unbind(-1)
    corners = torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], dim=-1)
    corners = corners * torch.tensor([640, 480, 640, 480])
    order = torch.argsort(scores, descending=True, stable=True)

    found = by_softmax(logits, boxes, FRAME, categories(*range(7)), EVERYTHING)

    assert [d.category_id for d in found] == [100 + int(label) for label in labels[order]]
    assert found[0].category_name == f"class {int(labels[order][0])}"
    np.testing.assert_allclose([d.score for d in found], scores[order], atol=1e-6)
    ours = [(d.box.x_min, d.box.y_min, d.box.x_max, d.box.y_max) for d in found]
    np.testing.assert_allclose(ours, corners[order], atol=1e-3)


def test_a_query_whose_best_class_is_unused_is_left_out() -> None:
    logits = np.array([[9, 5, 0, 0], [0, 9, 0, 0]], np.float32)
    boxes = np.full((2, 4), 0.5, np.float32)
    found = by_softmax(logits, boxes, FRAME, categories(1, 2), EVERYTHING)
    assert [d.category_id for d in found] == [101]
    assert found[0].score > 0.99


def test_no_object_takes_its_share_of_the_probability() -> None:
    logits = np.array([[0, 0, 4]], np.float32)
    (found,) = by_softmax(
        logits, np.full((1, 4), 0.5, np.float32), FRAME, categories(0, 1), EVERYTHING
    )
    assert found.score == pytest.approx(1 / (2 + np.exp(4)), rel=1e-5)


def test_threshold_and_limit() -> None:
    probabilities = np.array([0.2, 0.9, 0.5, 0.7])
    logits = np.stack([np.log(probabilities), np.log(1 - probabilities)], axis=1).astype(np.float32)
    boxes = np.full((4, 4), 0.5, np.float32)

    def scores(options: DetectionOptions) -> list[float]:
        found = by_softmax(logits, boxes, FRAME, categories(0), options)
        return [round(d.score, 3) for d in found]

    assert scores(DetectionOptions(0.0)) == [0.9, 0.7, 0.5, 0.2]
    assert scores(DetectionOptions(0.6)) == [0.9, 0.7]
    assert scores(DetectionOptions(0.95)) == []
    assert scores(DetectionOptions(0.0, max_detections=3)) == [0.9, 0.7, 0.5]


def test_a_score_equal_to_the_threshold_is_kept() -> None:
    logits = np.zeros((1, 2), np.float32)
    boxes = np.full((1, 4), 0.5, np.float32)
    assert len(by_softmax(logits, boxes, FRAME, categories(0), DetectionOptions(0.5))) == 1


def test_equal_scores_keep_the_order_of_queries() -> None:
    logits = np.tile(np.array([[0, 0], [1, 0]], np.float32), (50, 1))
    boxes = np.tile(np.arange(100, dtype=np.float32)[:, None] / 100, (1, 4))
    found = by_softmax(logits, boxes, FRAME, categories(0), EVERYTHING)
    queries = [round((d.box.x_max - d.box.x_min) / 640 * 100) for d in found]
    assert queries == [*range(1, 100, 2), *range(0, 100, 2)]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_not_finite_are_an_engine_failure(bad: float) -> None:
    logits, boxes = random_outputs()
    logits[3, 2] = bad
    with pytest.raises(EngineError, match="not finite"):
        by_softmax(logits, boxes, FRAME, categories(0), EVERYTHING)
