"""The shapes that a bundle's input policy makes possible."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.bundle import FixedInput, ShortestEdgeInput, load_bundle
from common.domain.placement import Stage
from common.engines.base import ShapeRange
from common.vision.preprocess import shortest_edge_size
from services.pipeline.shapes import (
    input_shapes,
    largest_feature_count,
    largest_input_bytes,
    typical_size,
)

BUNDLE = load_bundle(Path(__file__).parents[3] / "tests" / "data" / "demo-r18")
FIXED = BUNDLE.manifest.model_copy(update={"input": FixedInput(height=300, width=320)})
TOY = load_bundle(BUNDLE.folder.parent / "toy-tensors").manifest
DETR = BUNDLE.manifest.model_copy(update={"input": ShortestEdgeInput()})


def test_a_fixed_input_has_one_shape() -> None:
    one = (1, 3, 300, 320)
    assert input_shapes(FIXED, Stage.BACKBONE) == {"pixels": ShapeRange(one, one, one)}
    shapes = input_shapes(FIXED, Stage.TRANSFORMER)
    assert {name: shape.max for name, shape in shapes.items()} == {
        "features": (1, 128, 10, 10),
        "pos": (1, 128, 10, 10),
        "mask": (1, 10, 10),
    }
    assert all(shape.min == shape.opt == shape.max for shape in shapes.values())


def test_a_stretched_input_has_one_shape_and_each_level_its_own_grid() -> None:
    assert typical_size(TOY.input) == (80, 112)
    assert input_shapes(TOY, Stage.BACKBONE)["pixels"].max == (1, 3, 80, 112)
    shapes = input_shapes(TOY, Stage.TRANSFORMER, max_batch=4)
    assert {name: (shape.min, shape.max) for name, shape in shapes.items()} == {
        "features_16": ((1, 6, 5, 7), (4, 6, 5, 7)),
        "features_32": ((1, 10, 3, 4), (4, 10, 3, 4)),
    }


def test_the_memory_of_a_frame_counts_all_tensors() -> None:
    assert largest_input_bytes(TOY, Stage.BACKBONE) == 4 * 3 * 80 * 112
    assert largest_feature_count(TOY) == 6 * 5 * 7 + 10 * 3 * 4
    assert largest_input_bytes(TOY, Stage.TRANSFORMER) == 4 * (6 * 5 * 7 + 10 * 3 * 4)
    assert largest_input_bytes(FIXED, Stage.TRANSFORMER) == 4 * (128 + 128) * 10 * 10


def test_the_usual_shape_is_that_of_a_4_to_3_picture() -> None:
    assert input_shapes(DETR, Stage.BACKBONE)["pixels"].opt == (1, 3, 800, 1066)
    assert input_shapes(DETR, Stage.TRANSFORMER)["mask"].opt == (1, 25, 34)


@pytest.mark.parametrize("frame", [(480, 640), (1280, 720), (721, 1603), (30, 1900), (64, 1)])
def test_every_picture_fits(frame: tuple) -> None:
    height, width = shortest_edge_size(*frame, 800, 1333)
    cells = (-(-height // 32), -(-width // 32))
    assert input_shapes(DETR, Stage.BACKBONE)["pixels"].contains((1, 3, height, width))
    assert input_shapes(DETR, Stage.TRANSFORMER)["mask"].contains((1, *cells))


def test_a_range_contains_no_other_rank_or_size() -> None:
    shape = ShapeRange((1, 1), (1, 5), (1, 9))
    assert shape.contains((1, 9))
    assert not shape.contains((1, 10))
    assert not shape.contains((1, 5, 1))


def test_batches_widen_the_largest_shape_alone() -> None:
    for stage in Stage:
        single, batches = (input_shapes(DETR, stage, max_batch) for max_batch in (1, 8))
        for name, shape in batches.items():
            assert (shape.min, shape.opt) == (single[name].min, single[name].opt)
            assert shape.max == (8, *single[name].max[1:])
            assert not single[name].contains(shape.max)
