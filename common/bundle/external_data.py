"""Finds what an ONNX file would have a runtime read from other files.

An ONNX file may keep its weights in files beside it, which no digest of the file itself covers.
Services do not have the `onnx` package, so this follows the few fields of ONNX's protobuf messages
in which tensors can stand (onnx/onnx.proto, IR version 13), and skips all others.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, NamedTuple, Tuple

from common.domain.errors import ConfigurationError

# More than any model has; a file of nothing but tiny fields would take minutes.
_MOST_FIELDS = 500_000
_MOST_VARINT_BYTES = 10
_LARGEST_TAG = 0xFFFFFFFF
_ENUM_BITS = 0xFFFFFFFF
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5

_TENSOR = "TensorProto"
_NODE = "NodeProto"
# By message: the fields that hold messages in which, or in whose parts, tensors can stand.
_PARTS: Dict[str, Dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: _NODE, 11: "AttributeProto"},
    "GraphProto": {1: _NODE, 5: _TENSOR, 15: "SparseTensorProto"},
    "SparseTensorProto": {1: _TENSOR, 2: _TENSOR},
    _NODE: {5: "AttributeProto"},
    "AttributeProto": {
        5: _TENSOR,
        6: "GraphProto",
        10: _TENSOR,
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    _TENSOR: {},
}
_OP_TYPE = 4
# A node that holds what a provider has compiled, or the name of a file with it.
_COMPILED = b"EPContext"
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


class _Part(NamedTuple):
    message: str
    start: int
    end: int


class _Field(NamedTuple):
    """One field: its number, its wire type, and its number or where its bytes are."""

    number: int
    wire_type: int
    value: int
    end: int


def require_self_contained(content: bytes, name: str) -> None:
    """Refuse an ONNX file that has a runtime read other files.

    Args:
        content: of the ONNX file.
        name: of the file, for errors.

    Raises:
        ConfigurationError: a tensor's data are in another file, a node names one, or this is no
            ONNX file.
    """
    fields = 0
    waiting: List[_Part] = [_Part("ModelProto", 0, len(content))]
    while waiting:
        part = waiting.pop()
        inner = _PARTS[part.message]
        for field in _fields(content, part, name):
            fields += 1
            if fields > _MOST_FIELDS:
                raise ConfigurationError(f"{name} has more than {_MOST_FIELDS} parts")
            _require_inside(content, part.message, field, name)
            if field.wire_type == _LENGTH and field.number in inner:
                waiting.append(_Part(inner[field.number], field.value, field.end))


def _require_inside(content: bytes, message: str, field: _Field, name: str) -> None:
    if message == _TENSOR:
        has_entry = field.number == _EXTERNAL_DATA and field.wire_type == _LENGTH
        # 0 is DEFAULT. What counts of an enum are its lower 32 bits.
        is_elsewhere = field.number == _DATA_LOCATION and field.wire_type == _VARINT
        if has_entry or (is_elsewhere and field.value & _ENUM_BITS):
            raise ConfigurationError(
                f"{name} keeps tensors in another file (external data), which no digest covers: "
                "save the model as one file"
            )
    is_operator = message == _NODE and field.number == _OP_TYPE and field.wire_type == _LENGTH
    if is_operator and content[field.value : field.end] == _COMPILED:
        raise ConfigurationError(
            f"{name} holds a compiled part ({_COMPILED.decode()}), which may be in another file: "
            "export the model itself"
        )


def _fields(content: bytes, part: _Part, name: str) -> Iterator[_Field]:
    """The fields of one message, in their order."""
    at = part.start
    while at < part.end:
        tag, at = _varint(content, at, part.end, name)
        number, wire_type = tag >> 3, tag & 7
        if tag > _LARGEST_TAG or number == 0:
            raise _no_onnx(name)
        value, end = at, at
        if wire_type == _VARINT:
            value, end = _varint(content, at, part.end, name)
        elif wire_type == _LENGTH:
            size, value = _varint(content, at, part.end, name)
            end = value + size
        elif wire_type in (_FIXED32, _FIXED64):
            end = at + (4 if wire_type == _FIXED32 else 8)
        else:
            # Groups, which ONNX has none of.
            raise _no_onnx(name)
        if end > part.end:
            raise _no_onnx(name)
        yield _Field(number, wire_type, value, end)
        at = end


def _varint(content: bytes, at: int, end: int, name: str) -> Tuple[int, int]:
    """A number and where it ends."""
    value = 0
    for index in range(_MOST_VARINT_BYTES):
        if at + index >= end:
            break
        byte = content[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return value, at + index + 1
    raise _no_onnx(name)


def _no_onnx(name: str) -> ConfigurationError:
    return ConfigurationError(f"{name} is not an ONNX file: its content cannot be read as one")
