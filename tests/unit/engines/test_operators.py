"""Which operators a graph has, and what is said of those that an engine does not have."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from common.domain.errors import ConfigurationError, UnsupportedGraphError
from common.engines.base import Device
from common.engines.operators import lacking_operators, operators_of
from common.engines.registry import load_engine
from common.engines.tensorrt.operators import OPERATORS_SINCE, require_readable
from tests.harness import TOY_BUNDLE
from tests.unit.engines.graphs import graph_bytes, with_function, with_inner_graph

ENGINES = ["onnxruntime", "none", "openvino"]


def test_operators_are_found_wherever_they_stand() -> None:
    content = graph_bytes("Conv", "Conv", "acme:Twist", opsets={"": 16, "acme": 2})
    content = with_inner_graph(content, "GridSample")
    content = with_function(content, "acme", "Twist", "Trilu")
    found = operators_of(content, "half.onnx")
    # The file says itself what Twist is made of.
    assert found.operators == {"Conv", "If", "GridSample", "Trilu"}
    assert found.opsets == {"": 16, "acme": 2}
    assert found.opset == 16


def test_onnx_s_own_domain_has_two_names() -> None:
    found = operators_of(graph_bytes("ai.onnx:Relu", opsets={"ai.onnx": 12}), "half.onnx")
    assert (found.operators, found.opset) == ({"Relu"}, 12)


def test_a_real_half_is_read() -> None:
    found = operators_of((TOY_BUNDLE / "transformer.onnx").read_bytes(), "transformer.onnx")
    expected = {"Add", "Exp", "GlobalAveragePool", "MatMul", "Mul", "Reshape", "Sigmoid"}
    assert found.operators == expected | {"Squeeze", "Unsqueeze"}
    assert found.opsets == {"": 13}


def test_what_is_no_onnx_file_is_a_sentence() -> None:
    with pytest.raises(ConfigurationError, match=r"half\.onnx is not an ONNX file"):
        operators_of(b"a graph", "half.onnx")


def test_the_sentence_names_the_operator_and_what_to_do() -> None:
    error = lacking_operators("tensorrt 8.2.1", "transformer.onnx", ["GridSample"])
    assert str(error) == (
        "engine tensorrt 8.2.1 has no operator GridSample, which transformer.onnx needs: import "
        "the model with --sampling discrete, if its family has that, or run this half on another "
        "engine or node"
    )


def test_of_many_operators_the_first_are_named() -> None:
    error = lacking_operators("x", "half.onnx", ["F", "E", "D", "C", "B", "A", "A"])
    assert "no operators A, B, C, D and 2 more, which half.onnx needs: run this" in str(error)


def test_no_name_in_a_file_breaks_the_line() -> None:
    error = lacking_operators("x", "half.onnx", ["Twist\r\n" + "a" * 500])
    assert str(error).isprintable()
    assert len(str(error)) < 200


@pytest.mark.parametrize(
    ("version", "operator", "since"),
    [("8.2.1.8", "GridSample", "8.5.0"), ("8.5.3", "LayerNormalization", "8.6.1")],
)
def test_tensorrt_has_operators_from_a_release_on(version: str, operator: str, since: str) -> None:
    graph = operators_of(graph_bytes("Conv", operator), "transformer.onnx")
    with pytest.raises(
        UnsupportedGraphError, match=f"tensorrt {version} has no operator {operator}"
    ):
        require_readable(version, "transformer.onnx", graph)
    require_readable(since, "transformer.onnx", graph)


@pytest.mark.parametrize(
    ("version", "opset", "most"), [("8.2.1.8", 16, 13), ("8.6.1", 18, 17), ("9.2.0", 20, 19)]
)
def test_tensorrt_reads_opsets_up_to_one(version: str, opset: int, most: int) -> None:
    graph = operators_of(graph_bytes("Conv", opsets={"": opset}), "backbone.onnx")
    expected = f"tensorrt {version} reads ONNX opset {most} at most, and backbone.onnx is of opset"
    with pytest.raises(UnsupportedGraphError, match=f"{expected} {opset}: take a newer release"):
        require_readable(version, "backbone.onnx", graph)
    require_readable(version, "h", operators_of(graph_bytes("Conv", opsets={"": most}), "h"))


@pytest.mark.parametrize("version", ["10.7.0", "11.2.1.2", "unheard of"])
def test_what_is_not_documented_is_left_to_the_parser(version: str) -> None:
    graph = operators_of(graph_bytes("Twist", "acme:Twist", opsets={"": 23}), "half.onnx")
    require_readable(version, "half.onnx", graph)


def test_tensorrt_8_2_s_own_list_has_nothing_of_later_releases() -> None:
    path = Path(__file__).parents[2] / "data" / "tensorrt-api" / "operators-8.2.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    listed = {line for line in lines if not line.startswith("#")}
    assert len(listed) > 100
    assert not listed & set(OPERATORS_SINCE)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("operator", ["Twist", "acme:Twist"])
def test_an_engine_names_the_operator_that_it_lacks(
    engine: str, operator: str, tmp_path: Path
) -> None:
    if importlib.util.find_spec(engine) is None and engine != "none":
        pytest.skip(f"{engine} is not installed")
    path = tmp_path / "transformer.onnx"
    path.write_bytes(_whole(graph_bytes(operator, opsets={"": 13, "acme": 1})))
    runs = "onnxruntime" if engine == "none" else engine
    expected = rf"^engine {runs} [\d.]+ has no operator {operator}, which transformer\.onnx needs"
    with pytest.raises(
        UnsupportedGraphError, match=f"{expected}.*run this half on another"
    ) as told:
        load_engine(engine, path, 1)
    assert str(tmp_path) not in str(told.value)


def test_onnx_runtime_names_the_opset_that_is_too_new(tmp_path: Path) -> None:
    path = tmp_path / "backbone.onnx"
    path.write_bytes(_whole(graph_bytes("Relu", opsets={"": 999})))
    with pytest.raises(
        UnsupportedGraphError,
        match=r"reads ONNX opset \d+ at most, and backbone.onnx is of opset 999",
    ):
        load_engine("onnxruntime", path, 1)


def test_onnx_runtime_names_the_format_that_is_too_new(tmp_path: Path) -> None:
    path = tmp_path / "backbone.onnx"
    content = _whole(graph_bytes("Relu"))
    # The first field is the IR version.
    assert content[:2] == b"\x08\x07"
    path.write_bytes(b"\x08\x63" + content[2:])
    with pytest.raises(
        UnsupportedGraphError,
        match=r"of IR version \d+ at most, and backbone.onnx is of version 99",
    ):
        load_engine("onnxruntime", path, 1)


def test_onnx_runtime_names_an_operator_without_a_kernel(tmp_path: Path) -> None:
    path = tmp_path / "backbone.onnx"
    # It has no ReLU of bfloat16 on the CPU.
    path.write_bytes(_whole(graph_bytes("Relu", opsets={"": 14}), element=16))
    with pytest.raises(UnsupportedGraphError, match=r"no operator Relu, .* \(of opset 14, for the"):
        load_engine("onnxruntime", path, 1, device=Device.CPU)


def _whole(content: bytes, element: int = 1) -> bytes:
    """With an input x and an output y, tensors of such elements, so that it can be loaded."""
    kind = b"\x08" + bytes([element])
    kind = b"\x0a" + bytes([len(kind)]) + kind
    graph = b""
    for field, name in ((11, b"x"), (12, b"y")):
        value = b"\x0a\x01" + name + b"\x12" + bytes([len(kind)]) + kind
        graph += bytes([field << 3 | 2, len(value)]) + value
    graph += b"\x12\x01g"
    # Of a message that stands twice, a reader takes both together.
    return content + b"\x3a" + bytes([len(graph)]) + graph


def test_another_fault_is_no_such_refusal(tmp_path: Path) -> None:
    path = tmp_path / "backbone.onnx"
    path.write_bytes(b"a graph")
    with pytest.raises(Exception, match=re.escape(f"onnxruntime cannot load {path}")) as told:
        load_engine("onnxruntime", path, 1)
    assert not isinstance(told.value, UnsupportedGraphError)
