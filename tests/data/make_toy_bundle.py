"""Makes tests/data/toy-bundle: two tiny halves with the inputs and outputs of a real bundle.

Its boxes mean nothing, but they depend on every pixel, on the padding mask and on the positional
encoding, so that a test notices when any of them is lost on the way. Its bottleneck turns and
scales the channels, and loses nothing but what is rounded. Run from the root as
`python -m tests.data.make_toy_bundle`; needs the package onnx. The bundle is committed, so that
tests run without.
"""

from contextlib import closing
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

from common.bundle import (
    Architecture,
    Bottleneck,
    Calibration,
    Category,
    CodecDefaults,
    DetrManifest,
    FixedInput,
    LatentRate,
    Normalization,
    RateMeasurement,
    write_bundle,
)
from common.bundle.folder import LATENT_TABLES_NAME
from common.codec.feature_statistics import FeatureStatistics
from common.codec.latent import LatentCoder
from common.codec.latent_calibration import calibrate_latents
from common.domain.codec import LATENT_CODECS
from common.engines.registry import load_engine
from common.vision.preprocess import preprocess
from tests.streams import picture

FOLDER = Path(__file__).parent / "toy-bundle"
CHANNELS, HIDDEN, QUERIES, CLASSES, STRIDE = 8, 8, 5, 3, 32
INPUT = FixedInput(height=96, width=128)
# Features have a standard deviation of about 0.2.
LATENTS_OF_A_UNIT = 1000.0
RATES = {
    "latent-fine": LatentRate(step=4),
    "latent": LatentRate(step=40, keep_within=30),
    "latent-coarse": LatentRate(step=120, keep_within=120),
}
SEQUENCES, SEQUENCE_FRAMES = 20, 20


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    _save("backbone.onnx", _backbone(random))
    _save("transformer.onnx", _transformer(random))
    turn = np.linalg.qr(random.normal(size=(CHANNELS, CHANNELS)))[0]
    _save("bottleneck_encoder.onnx", _encoder(turn))
    _save("bottleneck_decoder.onnx", _decoder(turn))
    bottleneck = _calibrated_bottleneck()
    manifest = DetrManifest(
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
        files=dict.fromkeys(
            (
                *("backbone.onnx", "transformer.onnx"),
                *("bottleneck_encoder.onnx", "bottleneck_decoder.onnx", LATENT_TABLES_NAME),
            ),
            "",
        ),
        codec=CodecDefaults(default="fp16", calibration=_calibration()),
        bottleneck=bottleneck,
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


def _calibrated_bottleneck() -> Bottleneck:
    """With its tables, and what its rates cost; on pictures that the tests do not send."""
    sequences = [_latents_of_sequence(seed) for seed in range(20_000, 20_000 + SEQUENCES)]
    bottleneck = Bottleneck(channels=CHANNELS, rates=RATES)
    tables = calibrate_latents(bottleneck, sequences)
    (FOLDER / LATENT_TABLES_NAME).write_text(tables.model_dump_json() + "\n")
    measured = {}
    for codec in LATENT_CODECS:
        rate = RATES[codec.value]
        cost = _cost(LatentCoder(rate, tables.of(codec)), sequences)
        measured[codec.value] = rate.model_copy(update={"measured": cost})
    return Bottleneck(channels=CHANNELS, rates=measured)


def _latents_of_sequence(seed: int) -> np.ndarray:
    """Of a slow pan, [frames,channels,rows,columns]."""
    wide = picture(seed, INPUT.height, INPUT.width + SEQUENCE_FRAMES)
    with (
        closing(load_engine("onnxruntime", FOLDER / "backbone.onnx", 1)) as backbone,
        closing(load_engine("onnxruntime", FOLDER / "bottleneck_encoder.onnx", 1)) as encoder,
    ):
        frames = []
        for offset in range(SEQUENCE_FRAMES):
            rgb = np.ascontiguousarray(wide[:, offset : offset + INPUT.width])
            pixels, _ = preprocess(rgb, INPUT, Normalization())
            frames.append(encoder.run(backbone.run({"pixels": pixels}))["latents"][0])
    return np.stack(frames)


def _cost(coder: LatentCoder, sequences: list) -> RateMeasurement:
    keys, predicted = [], []
    for sequence in sequences:
        last = None
        for latents in sequence:
            coded = coder.levels(latents[None], last)
            (keys if last is None else predicted).append(len(coder.encode(coded, last)))
            last = coded
    return RateMeasurement(
        bytes_per_frame=round(float(np.mean(predicted)), 1),
        bytes_per_key_frame=round(float(np.mean(keys)), 1),
    )


def _encoder(turn: np.ndarray):
    weight = (LATENTS_OF_A_UNIT * turn[:, :, None, None]).astype(np.float32)
    return helper.make_graph(
        [
            helper.make_node("Conv", ["features", "weight"], ["scaled"], kernel_shape=[1, 1]),
            helper.make_node("Floor", ["scaled"], ["latents"]),
        ],
        "bottleneck_encoder",
        [_tensor("features", ["n", CHANNELS, "rows", "columns"])],
        [_tensor("latents", ["n", CHANNELS, "rows", "columns"])],
        [numpy_helper.from_array(weight, "weight")],
    )


def _decoder(turn: np.ndarray):
    weight = (turn.T[:, :, None, None] / LATENTS_OF_A_UNIT).astype(np.float32)
    return helper.make_graph(
        [helper.make_node("Conv", ["latents", "weight"], ["features"], kernel_shape=[1, 1])],
        "bottleneck_decoder",
        [_tensor("latents", ["n", CHANNELS, "rows", "columns"])],
        [_tensor("features", ["n", CHANNELS, "rows", "columns"])],
        [numpy_helper.from_array(weight, "weight")],
    )


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
