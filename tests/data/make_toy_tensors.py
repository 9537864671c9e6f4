"""Makes tests/data/toy-tensors: two tiny halves of format 2, between which two tensors cross.

Like the families that came after DETR, it takes frames stretched and not normalised, has features
at two strides, samples the finer one with GridSample (ONNX opset 16), and scores by sigmoid; it has
neither mask nor positional encoding. Its boxes mean nothing, but they depend on all of the picture
and on where in both tensors a value stands. Run from the root as
`python -m tests.data.make_toy_tensors`; needs the package onnx. The bundle is committed, so that
tests run without.
"""

from contextlib import closing
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

from common.bundle import (
    Bundle,
    Category,
    CodecDefaults,
    CutTensor,
    FamilyManifest,
    Normalization,
    Opset,
    SigmoidScoring,
    StretchInput,
    write_bundle,
)
from common.codec.cut_statistics import CutStatistics, without_padding
from common.engines.registry import load_engine
from common.vision.preprocess import preprocess
from tests.streams import picture

FOLDER = Path(__file__).parent / "toy-tensors"
# The coarser tensor's cells reach beyond the input: 80 and 112 are no multiples of 32.
INPUT = StretchInput(height=80, width=112)
FINE = CutTensor(name="features_16", channels=6, stride=16)
COARSE = CutTensor(name="features_32", channels=10, stride=32)
QUERIES, CLASSES, POINTS = 6, 4, 5
POOL = 8
OPSET = Opset(backbone=13, transformer=16)
# Features of pixels from 0 to 1 differ less from picture to picture than normalised ones.
LOGITS_SPREAD, BOXES_SPREAD = 12.0, 6.0


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    _save("backbone.onnx", _backbone(random), OPSET.backbone)
    _save("transformer.onnx", _transformer(random), OPSET.transformer)
    manifest = FamilyManifest(
        name="toy-tensors",
        family="toy",
        configuration={"queries": QUERIES, "points": POINTS},
        opset=OPSET,
        cut=(FINE, COARSE),
        scoring=SigmoidScoring(top_k=8),
        input=INPUT,
        normalization=Normalization(mean=(0, 0, 0), std=(1, 1, 1)),
        # Row 2 has no name, as COCO's unused ids.
        categories=(
            Category(class_index=0, id=1, name="person"),
            Category(class_index=1, id=3, name="car"),
            Category(class_index=3, id=17, name="cat"),
        ),
        files=dict.fromkeys(("backbone.onnx", "transformer.onnx"), ""),
        codec=CodecDefaults(default="fp16"),
        license="Apache-2.0",
        origin="made by tests/data/make_toy_tensors.py",
        trained=False,
    )
    bundle = write_bundle(FOLDER, manifest)
    write_bundle(FOLDER, manifest.model_copy(update={"codec": _calibrated(bundle)}))


def _calibrated(bundle: Bundle) -> CodecDefaults:
    """On pictures that the tests do not send."""
    manifest, statistics = bundle.manifest, CutStatistics(bundle.manifest)
    with closing(load_engine("onnxruntime", FOLDER / "backbone.onnx", 1)) as backbone:
        for seed in range(10_000, 10_100):
            pixels, geometry = preprocess(picture(seed), INPUT, manifest.normalization)
            features = backbone.run({"pixels": pixels})
            statistics.add(without_padding(manifest, features, geometry))
    return CodecDefaults(default="fp16", calibration=statistics.calibration())


def _backbone(random: np.random.Generator):
    """Averages of 8 x 8 pixels, and a convolution of stride 2 to each tensor."""
    weights = {
        "to_fine": random.normal(0, 1, (FINE.channels, 3, 2, 2)),
        "to_coarse": random.normal(0, 1, (COARSE.channels, FINE.channels, 2, 2)) / 2,
    }
    nodes = [
        helper.make_node(
            "AveragePool",
            ["pixels"],
            ["averages"],
            kernel_shape=[POOL, POOL],
            strides=[POOL, POOL],
            auto_pad="SAME_UPPER",
        ),
        _halving("averages", "to_fine", FINE.name),
        _halving(FINE.name, "to_coarse", COARSE.name),
    ]
    return helper.make_graph(
        nodes,
        "backbone",
        [_tensor("pixels", ["n", 3, "height", "width"])],
        [_features(FINE, "16"), _features(COARSE, "32")],
        [numpy_helper.from_array(value.astype(np.float32), key) for key, value in weights.items()],
    )


def _halving(source: str, weight: str, target: str):
    return helper.make_node(
        "Conv",
        [source, weight],
        [target],
        strides=[2, 2],
        kernel_shape=[2, 2],
        auto_pad="SAME_UPPER",
    )


def _transformer(random: np.random.Generator):
    """The fine tensor at a few points and the coarse one's average, to logits and boxes."""
    width = FINE.channels * POINTS + COARSE.channels
    constants = {
        "points": random.uniform(-0.9, 0.9, (1, 1, POINTS, 2)).astype(np.float32),
        "to_logits": random.normal(0, LOGITS_SPREAD / width, (width, QUERIES * CLASSES)),
        "to_boxes": random.normal(0, BOXES_SPREAD / width, (width, QUERIES * 4)),
        "batch": np.array([0], np.int64),
        "batches_shape": np.array([1, 1, 1], np.int64),
        "flat_shape": np.array([0, -1], np.int64),
        "logits_shape": np.array([-1, QUERIES, CLASSES], np.int64),
        "boxes_shape": np.array([-1, QUERIES, 4], np.int64),
    }
    nodes = [
        # Each frame of a batch is sampled at the same points.
        helper.make_node("Shape", [FINE.name], ["fine_shape"]),
        helper.make_node("Gather", ["fine_shape", "batch"], ["frames"]),
        helper.make_node("Concat", ["frames", "batches_shape"], ["points_shape"], axis=0),
        helper.make_node("Expand", ["points", "points_shape"], ["all_points"]),
        helper.make_node("GridSample", [FINE.name, "all_points"], ["samples"]),
        helper.make_node("Reshape", ["samples", "flat_shape"], ["flat_samples"]),
        helper.make_node("GlobalAveragePool", [COARSE.name], ["pooled"]),
        helper.make_node("Reshape", ["pooled", "flat_shape"], ["flat_pooled"]),
        helper.make_node("Concat", ["flat_samples", "flat_pooled"], ["seen"], axis=1),
        helper.make_node("MatMul", ["seen", "to_logits"], ["flat_logits"]),
        helper.make_node("Reshape", ["flat_logits", "logits_shape"], ["logits"]),
        helper.make_node("MatMul", ["seen", "to_boxes"], ["flat_boxes"]),
        helper.make_node("Reshape", ["flat_boxes", "boxes_shape"], ["raw_boxes"]),
        helper.make_node("Sigmoid", ["raw_boxes"], ["boxes"]),
    ]
    return helper.make_graph(
        nodes,
        "transformer",
        [_features(FINE, "16"), _features(COARSE, "32")],
        [_tensor("logits", ["n", QUERIES, CLASSES]), _tensor("boxes", ["n", QUERIES, 4])],
        [
            numpy_helper.from_array(
                value if value.dtype == np.int64 else value.astype(np.float32), name
            )
            for name, value in constants.items()
        ],
    )


def _features(tensor: CutTensor, suffix: str):
    return _tensor(tensor.name, ["n", tensor.channels, f"rows_{suffix}", f"columns_{suffix}"])


def _tensor(name: str, shape: list):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _save(name: str, graph, opset: int) -> None:
    # The oldest versions that hold these operators: ONNX Runtime 1.19 reads them.
    version = 8 if opset > 15 else 7
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=version)
    checker.check_model(model)
    save(model, FOLDER / name)


if __name__ == "__main__":
    main()
