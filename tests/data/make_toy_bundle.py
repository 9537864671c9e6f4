"""Makes tests/data/toy-bundle: two tiny halves with the inputs and outputs of a real bundle.

Its boxes mean nothing, but they depend on every pixel, on the padding mask and on the positional
encoding, so that a test notices when any of them is lost on the way. Run from the root as
`python -m tests.data.make_toy_bundle`; needs the package onnx. The bundle is committed, so that
tests run without.
"""

from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

from common.bundle import (
    Architecture,
    Calibration,
    Category,
    CodecDefaults,
    FixedInput,
    Manifest,
    Normalization,
    write_bundle,
)
from common.codec.feature_statistics import FeatureStatistics
from common.engines.registry import load_engine
from common.vision.preprocess import preprocess
from tests.streams import picture

FOLDER = Path(__file__).parent / "toy-bundle"
CHANNELS, HIDDEN, QUERIES, CLASSES, STRIDE = 8, 8, 5, 3, 32
INPUT = FixedInput(height=96, width=128)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    _save("backbone.onnx", _backbone(random))
    _save("transformer.onnx", _transformer(random))
    manifest = Manifest(
        name="toy",
        architecture=Architecture(
            backbone="resnet18",
            base_width=CHANNELS,
            hidden_dim=HIDDEN,
            queries=QUERIES,
            classes=CLASSES,
            heads=1,
            feedforward_dim=HIDDEN,
            encoder_layers=0,
            decoder_layers=1,
        ),
        feature_channels=CHANNELS,
        feature_stride=STRIDE,
        input=INPUT,
        categories=(
            Category(class_index=0, id=1, name="person"),
            Category(class_index=1, id=3, name="car"),
            Category(class_index=2, id=17, name="cat"),
        ),
        files={"backbone.onnx": "", "transformer.onnx": ""},
        codec=CodecDefaults(default="fp16", calibration=_calibration()),
        license="Apache-2.0",
        origin="made by tests/data/make_toy_bundle.py",
        trained=False,
    )
    write_bundle(FOLDER, manifest)


def _calibration() -> Calibration:
    """On pictures that the tests do not send."""
    backbone = load_engine("onnxruntime", FOLDER / "backbone.onnx", 1)
    statistics = FeatureStatistics()
    for seed in range(10_000, 10_100):
        pixels, _ = preprocess(picture(seed), INPUT, Normalization())
        statistics.add(backbone.run({"pixels": pixels})["features"][0])
    backbone.close()
    return statistics.calibration()


def _backbone(random: np.random.Generator):
    weight = random.normal(0, 0.1, (CHANNELS, 3, STRIDE, STRIDE)).astype(np.float32)
    # 3 * 32 * 32 weights a cell: scaled so that features are about 1.
    weight /= STRIDE
    conv = helper.make_node(
        "Conv",
        ["pixels", "weight"],
        ["features"],
        strides=[STRIDE, STRIDE],
        kernel_shape=[STRIDE, STRIDE],
        auto_pad="SAME_UPPER",
    )
    return helper.make_graph(
        [conv],
        "backbone",
        [_tensor("pixels", ["n", 3, "height", "width"])],
        [_tensor("features", ["n", CHANNELS, "rows", "columns"])],
        [numpy_helper.from_array(weight, "weight")],
    )


def _transformer(random: np.random.Generator):
    constants = {
        "to_logits": random.normal(0, 3, (CHANNELS, QUERIES * (CLASSES + 1))).astype(np.float32),
        "to_boxes": random.normal(0, 3, (CHANNELS, QUERIES * 4)).astype(np.float32),
        "logits_shape": np.array([-1, QUERIES, CLASSES + 1], np.int64),
        "boxes_shape": np.array([-1, QUERIES, 4], np.int64),
        "mask_axes": np.array([1], np.int64),
        "pooled_axes": np.array([2, 3], np.int64),
    }
    nodes = [
        helper.make_node("Add", ["features", "pos"], ["placed"]),
        helper.make_node("Unsqueeze", ["mask", "mask_axes"], ["mask_map"]),
        helper.make_node("Exp", ["mask_map"], ["valid"]),
        helper.make_node("Mul", ["placed", "valid"], ["kept"]),
        helper.make_node("GlobalAveragePool", ["kept"], ["pooled_map"]),
        helper.make_node("Squeeze", ["pooled_map", "pooled_axes"], ["pooled"]),
        helper.make_node("MatMul", ["pooled", "to_logits"], ["flat_logits"]),
        helper.make_node("Reshape", ["flat_logits", "logits_shape"], ["logits"]),
        helper.make_node("MatMul", ["pooled", "to_boxes"], ["flat_boxes"]),
        helper.make_node("Reshape", ["flat_boxes", "boxes_shape"], ["raw_boxes"]),
        helper.make_node("Sigmoid", ["raw_boxes"], ["boxes"]),
    ]
    return helper.make_graph(
        nodes,
        "transformer",
        [
            _tensor("features", ["n", CHANNELS, "rows", "columns"]),
            _tensor("pos", ["p", HIDDEN, "rows", "columns"]),
            _tensor("mask", ["n", "rows", "columns"]),
        ],
        [_tensor("logits", ["n", QUERIES, CLASSES + 1]), _tensor("boxes", ["n", QUERIES, 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )


def _tensor(name: str, shape: list):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _save(name: str, graph) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    checker.check_model(model)
    save(model, FOLDER / name)


if __name__ == "__main__":
    main()
