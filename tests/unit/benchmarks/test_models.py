"""A bundle's work, counted from its graphs."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.engines import inputs_of
from benchmarks.models import compare, multiply_adds, table
from common.bundle import load_bundle
from common.domain.placement import Stage

BUNDLE = Path(__file__).parents[2] / "data/demo-r18"


def test_convolutions_and_products_are_counted(tmp_path):
    kernel = numpy_helper.from_array(np.zeros((6, 2, 3, 5), np.float32), "kernel")
    matrix = numpy_helper.from_array(np.zeros((7, 11), np.float32), "matrix")
    nodes = [
        # 6 channels of 4 x 8 cells, each of 2 channels (two groups) x 3 x 5.
        helper.make_node("Conv", ["x", "kernel"], ["c"], group=2, pads=[1, 2, 1, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Reshape", ["r", "shape"], ["f"]),
        # 192 values as 8 x 24 times its transpose: 8 x 8 of 24.
        helper.make_node("Transpose", ["f"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["f", "t"], ["m"]),
        # [7,13] transposed times [7,11]: 13 x 11 of 7.
        helper.make_node("Gemm", ["y", "matrix"], ["g"], transA=1),
    ]
    shape = numpy_helper.from_array(np.array([8, 24]), "shape")
    graph = helper.make_graph(
        nodes,
        "counted",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, 4, 8]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [7, 13]),
        ],
        [
            helper.make_tensor_value_info("m", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("g", TensorProto.FLOAT, None),
        ],
        [kernel, matrix, shape],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "counted.onnx")
    inputs = {"x": np.zeros((1, 4, 4, 8), np.float32), "y": np.zeros((7, 13), np.float32)}
    expected = 6 * 4 * 8 * 2 * 3 * 5 + 8 * 8 * 24 + 13 * 11 * 7
    assert multiply_adds(tmp_path / "counted.onnx", inputs) == expected


def test_bundles_are_compared_in_turns():
    bundle = load_bundle(BUNDLE)
    inputs = inputs_of(bundle)
    rows = compare([bundle, bundle], threads=1, seconds=0.1)
    one, other = rows
    assert one.multiply_adds == other.multiply_adds
    # torchvision states 1.814e9 for a ResNet-18 at 224 x 224. At a quarter of the width it is a
    # sixteenth, but for the first convolution, which has three channels before it as ever.
    first = 64 * 3 * 7 * 7 * 160 * 160
    whole = 1.814e9 * (320 / 224) ** 2
    expected = (whole - first) / 16 + first / 4
    assert one.multiply_adds[Stage.BACKBONE] == pytest.approx(expected, rel=0.02)
    assert one.values == inputs[Stage.TRANSFORMER]["features"].size == 128 * 10 * 10
    lines = table(rows).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| `demo-r18` | 320 x 320 |")
    assert lines[2].endswith("| 1.00 |")
