"""The bytes of ONNX files, written by hand: the services' Python has no `onnx` package."""

from __future__ import annotations

from typing import Mapping, Optional


def graph_bytes(*operators: str, opsets: Optional[Mapping[str, int]] = None) -> bytes:
    """A file whose nodes are of these operators, each `NAME` or `DOMAIN:NAME`; no more than that.

    Args:
        operators: of the nodes, in their order.
        opsets: the version of each domain's operators; 13 of ONNX's own by default.
    """
    graph = b"".join(_message(1, _node(*each.rpartition(":")[::2])) for each in operators)
    versions = {"": 13} if opsets is None else opsets
    return (
        _number(1, 7)
        + _message(7, graph)
        + b"".join(_message(8, _opset(domain, number)) for domain, number in versions.items())
    )


def with_inner_graph(content: bytes, operator: str) -> bytes:
    """The same with one more node, an `If` whose attribute holds a graph with this operator."""
    attribute = _message(6, _message(1, _node("", operator)))
    return content + _message(7, _message(1, _node("", "If") + _message(5, attribute)))


def with_function(content: bytes, domain: str, name: str, operator: str) -> bytes:
    """The same with a function of the file's own, made of this operator."""
    function = _text(1, name) + _message(7, _node("", operator)) + _text(10, domain)
    return content + _message(25, function)


def _node(domain: str, operator: str) -> bytes:
    return (
        _text(1, "x") + _text(2, "y") + _text(4, operator) + (_text(7, domain) if domain else b"")
    )


def _opset(domain: str, number: int) -> bytes:
    return (_text(1, domain) if domain else b"") + _number(2, number)


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
