"""The halves as TensorRT 8.2 will see them: their operators, and which layers stay in fp32."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from common.engines.tensorrt.messages import build_failure, parse_failure, plan_failure
from common.engines.tensorrt.precision import Layer, sensitive_layers

onnx = pytest.importorskip("onnx")

ROOT = Path(__file__).parents[3]
HALVES = sorted([*ROOT.glob("models/*/*.onnx"), *ROOT.glob("tests/data/toy-bundle/*.onnx")])
OPERATORS = ROOT / "tests" / "data" / "tensorrt-api" / "operators-8.2.txt"
# How TensorRT's parser imports the operators that matter here.
KINDS = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow"), "ELEMENTWISE"),
    **dict.fromkeys(("Reshape", "Transpose", "Unsqueeze", "Squeeze"), "SHUFFLE"),
    "ReduceMean": "REDUCE",
    "Sqrt": "UNARY",
    "Softmax": "SOFTMAX",
}


def supported() -> set:
    lines = OPERATORS.read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def refusals(model) -> list:
    """What TensorRT 8.2 would not read."""
    found = [
        f"opset {each.version} of {each.domain!r}"
        for each in model.opset_import
        if each.domain or each.version > 13
    ]
    operators = {node.op_type for node in model.graph.node}
    return found + sorted(operators - supported())


@pytest.mark.parametrize("path", HALVES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_shipped_halves_hold_only_what_tensorrt_8_2_reads(path: Path) -> None:
    samples = path.parent.name == "demo-dfine" and path.stem == "transformer"
    # Deformable attention samples: D-FINE's transformer half runs elsewhere (docs/engines.md).
    expected = ["opset 16 of ''", "GridSample"] if samples else []
    assert refusals(onnx.load(str(path))) == expected


@pytest.mark.parametrize("split", ["projected", "c5"])
def test_exported_halves_hold_only_what_tensorrt_8_2_reads(split: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from common.bundle import Architecture
    from detr.export.bundle import frozen_copy
    from detr.export.graph import write_backbone, write_transformer
    from detr.export.halves import BackboneHalf, TransformerHalf
    from detr.model import DETR

    made_of = Architecture(
        backbone="resnet50",
        base_width=8,
        dilation=True,
        encoder_layers=1,
        decoder_layers=1,
        hidden_dim=32,
        heads=4,
        feedforward_dim=64,
        queries=5,
        classes=4,
    )
    model = DETR(made_of)
    channels = made_of.hidden_dim if split == "projected" else made_of.backbone_channels
    write_backbone(BackboneHalf(frozen_copy(model), split), tmp_path / "backbone.onnx")
    half = TransformerHalf(frozen_copy(model), split)
    write_transformer(half, channels, made_of.hidden_dim, tmp_path / "transformer.onnx")
    halves = sorted(tmp_path.glob("*.onnx"))
    assert len(halves) == 2
    for path in halves:
        assert refusals(onnx.load(str(path))) == []


def test_what_is_too_new_is_refused() -> None:
    node = onnx.helper.make_node("LayerNormalization", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "new", [], [])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    assert refusals(model) == ["opset 17 of ''", "LayerNormalization"]


def layers_of(model) -> list:
    return [
        Layer(KINDS.get(node.op_type, node.op_type), tuple(node.input), tuple(node.output), True)
        for node in model.graph.node
    ]


def test_normalisation_softmax_position_and_mask_stay_in_fp32() -> None:
    model = onnx.load(str(ROOT / "tests" / "data" / "demo-r18" / "transformer.onnx"))
    inputs = [each.name for each in model.graph.input]
    kept = sensitive_layers(layers_of(model), inputs)
    nodes = [model.graph.node[index] for index in kept]
    count = Counter(node.op_type for node in nodes)
    everything = Counter(node.op_type for node in model.graph.node)
    for operator in ("ReduceMean", "Sub", "Pow", "Sqrt", "Div", "Softmax"):
        assert count[operator] == everything[operator], operator
    # Weights are not: neither the products nor a normalisation's scale.
    assert not {"MatMul", "Mul", "Relu", "Sigmoid"} & set(count)
    names = {node.name for node in nodes}
    # What is added to the attention's scores, before its softmax.
    assert "/layers.0/self_attn/Add" in names
    assert count["Add"] < everything["Add"] / 2


def test_a_backbone_is_fp16_throughout() -> None:
    model = onnx.load(str(ROOT / "tests" / "data" / "demo-r18" / "backbone.onnx"))
    assert sensitive_layers(layers_of(model), ["pixels"]) == []


def test_shapes_are_left_alone() -> None:
    layer = Layer("REDUCE", ("x",), ("y",), is_float=False)
    assert sensitive_layers([layer], ["x"]) == []


def test_inputs_are_seen_through_reshapes() -> None:
    layers = [
        Layer("SHUFFLE", ("mask",), ("flat",), True),
        Layer("MATRIX_MULTIPLY", ("a", "b"), ("scores",), True),
        Layer("ELEMENTWISE", ("scores", "flat"), ("masked",), True),
        Layer("ELEMENTWISE", ("scores", "bias"), ("other",), True),
    ]
    assert sensitive_layers(layers, ["mask"]) == [2]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("expecting compute 6.2 got compute 7.5, please rebuild.", "on another device"),
        ("Version tag does not match. Note: Current Version: 0", "another release of TensorRT"),
        ("Cuda Runtime (out of memory)", "out of memory"),
        ("something else", "something else"),
    ],
)
def test_a_refused_plan_is_explained(message: str, reason: str) -> None:
    assert reason in plan_failure(["the first", message])


def test_failures_without_a_message_say_so() -> None:
    assert build_failure([]) == "TensorRT gave no reason"
    assert parse_failure([], []).reason == "TensorRT gave no reason"


def test_a_node_that_cannot_be_read_is_named() -> None:
    described = ['While parsing node number 3 [Conv -> "y"]: weights have to be constant']
    failure = parse_failure(described, [])
    assert failure.reason.endswith("constant (node 3, Conv to y)")
    assert not failure.operator
