"""Raw outputs to detections, against the official codes written out in torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from common.bundle import Category, SigmoidScoring, SoftmaxScoring
from common.domain.detections import Detection, DetectionOptions
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


def by_sigmoid(top_k: int) -> Callable[..., tuple[Detection, ...]]:
    return partial(detections, scoring=SigmoidScoring(top_k=top_k))


@pytest.mark.parametrize("top_k", [50, 300, 1000])
def test_sigmoid_equals_transformers(top_k: int) -> None:
    """`RTDetrImageProcessor.post_process_object_detection` with its `use_focal_loss`."""
    torch = pytest.importorskip("torch")
    logits, boxes = random_outputs()
    classes = logits.shape[1]
    every = torch.from_numpy(logits).sigmoid().flatten()
    scores, index = torch.topk(every, min(top_k, len(every)))
    cx, cy, w, h = torch.from_numpy(boxes)[index // classes].unbind(-1)
    corners = torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], dim=-1)
    corners = corners * torch.tensor([640, 480, 640, 480])

    found = by_sigmoid(top_k)(logits, boxes, FRAME, categories(*range(classes)), EVERYTHING)

    assert [d.category_id for d in found] == (100 + index % classes).tolist()
    np.testing.assert_allclose([d.score for d in found], scores, atol=1e-6)
    ours = [(d.box.x_min, d.box.y_min, d.box.x_max, d.box.y_max) for d in found]
    np.testing.assert_allclose(ours, corners, atol=1e-3)


def test_sigmoid_reports_a_query_for_each_of_its_classes_or_for_none() -> None:
    logits = np.array([[3, 2, -9], [-9, -9, -9], [-9, -9, 1]], np.float32)
    boxes = np.repeat(np.float32([[0.1], [0.2], [0.3]]), 4, axis=1)
    found = by_sigmoid(3)(logits, boxes, FRAME, categories(0, 1, 2), EVERYTHING)
    said = [(d.category_id, round((d.box.x_max - d.box.x_min) / 640, 3)) for d in found]
    assert said == [(100, 0.1), (101, 0.1), (102, 0.3)]


def test_sigmoid_counts_an_unused_class_among_the_best_and_leaves_it_out() -> None:
    logits = np.array([[3, 2, 1]], np.float32)
    found = by_sigmoid(2)(
        logits, np.full((1, 4), 0.5, np.float32), FRAME, categories(1, 2), EVERYTHING
    )
    assert [d.category_id for d in found] == [101]


def test_sigmoid_keeps_the_order_of_queries_and_classes_among_equals() -> None:
    logits = np.tile(np.float32([0, 1, 1]), (4, 1))
    boxes = np.repeat(np.arange(1, 5, dtype=np.float32)[:, None] / 10, 4, axis=1)
    found = by_sigmoid(100)(logits, boxes, FRAME, categories(0, 1, 2), EVERYTHING)
    said = [(d.category_id, round((d.box.x_max - d.box.x_min) / 64)) for d in found]
    assert said == [(c, q) for q in range(1, 5) for c in (101, 102)] + [
        (100, q) for q in range(1, 5)
    ]


def test_sigmoid_thresholds_and_limits() -> None:
    logits = np.float32([[0, 2], [1, -800]])
    boxes = np.full((2, 4), 0.5, np.float32)
    two = by_sigmoid(4)

    def count(options: DetectionOptions) -> int:
        return len(two(logits, boxes, FRAME, categories(0, 1), options))

    assert count(EVERYTHING) == 4
    assert count(DetectionOptions(0.5)) == 3
    assert count(DetectionOptions(0.0, max_detections=2)) == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_sigmoid_refuses_outputs_that_are_not_finite(bad: float) -> None:
    logits, boxes = random_outputs()
    boxes[3, 2] = bad
    with pytest.raises(EngineError, match="not finite"):
        by_sigmoid(9)(logits, boxes, FRAME, categories(0), EVERYTHING)
