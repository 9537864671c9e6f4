"""Reads the fields of an ONNX file that say what a graph is made of, and skips its weights.

Services do not have the `onnx` package, so this follows the few fields of ONNX's protobuf messages
(onnx/onnx.proto, IR version 13) that hold nodes, tensors or versions.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, NamedTuple, Tuple

from common.domain.errors import ConfigurationError

# More than any model has; a file of nothing but tiny fields would take minutes.
_MOST_FIELDS = 500_000
_MOST_VARINT_BYTES = 10
_LARGEST_TAG = 0xFFFFFFFF
VARINT, _FIXED64, LENGTH, _FIXED32 = 0, 1, 2, 5
"""Wire types: a number, and bytes of a length that is told."""

MODEL = "ModelProto"
FUNCTION = "FunctionProto"
NODE = "NodeProto"
OPSET = "OperatorSetIdProto"
TENSOR = "TensorProto"
# By message: the fields that hold messages which are followed.
_PARTS: Dict[str, Dict[int, str]] = {
    MODEL: {7: "GraphProto", 8: OPSET, 20: "TrainingInfoProto", 25: FUNCTION},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    FUNCTION: {7: NODE, 9: OPSET, 11: "AttributeProto"},
    "GraphProto": {1: NODE, 5: TENSOR, 15: "SparseTensorProto"},
    "SparseTensorProto": {1: TENSOR, 2: TENSOR},
    NODE: {5: "AttributeProto"},
    "AttributeProto": {
        5: TENSOR,
        6: "GraphProto",
        10: TENSOR,
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    OPSET: {},
    TENSOR: {},
}


class Message(NamedTuple):
    """A message: its type, where it lies in the file, and the type of the one that holds it."""

    kind: str
    start: int
    end: int
    holder: str = ""


class Field(NamedTuple):
    """A field: its number and wire type; its value, or where its bytes begin; and where it ends."""

    number: int
    wire_type: int
    value: int
    end: int


def model_fields(content: bytes, name: str) -> Iterator[Tuple[Message, Field]]:
    """The fields of the model and of all messages in it that are followed, message by message.

    Args:
        content: of the ONNX file.
        name: of the file, for errors.

    Raises:
        ConfigurationError: this is no ONNX file, or it has far too many fields.
    """
    fields = 0
    waiting: List[Message] = [Message(MODEL, 0, len(content))]
    while waiting:
        message = waiting.pop()
        inner = _PARTS[message.kind]
        for field in _fields(content, message, name):
            fields += 1
            if fields > _MOST_FIELDS:
                raise ConfigurationError(f"{name} has more than {_MOST_FIELDS} parts")
            yield message, field
            if field.wire_type == LENGTH and field.number in inner:
                waiting.append(Message(inner[field.number], field.value, field.end, message.kind))


def _fields(content: bytes, message: Message, name: str) -> Iterator[Field]:
    """The fields of one message, in their order."""
    at = message.start
    while at < message.end:
        tag, at = _varint(content, at, message.end, name)
        number, wire_type = tag >> 3, tag & 7
        if tag > _LARGEST_TAG or number == 0:
            raise _no_onnx(name)
        value, end = at, at
        if wire_type == VARINT:
            value, end = _varint(content, at, message.end, name)
        elif wire_type == LENGTH:
            size, value = _varint(content, at, message.end, name)
            end = value + size
        elif wire_type in (_FIXED32, _FIXED64):
            end = at + (4 if wire_type == _FIXED32 else 8)
        else:
            # Groups, which ONNX has none of.
            raise _no_onnx(name)
        if end > message.end:
            raise _no_onnx(name)
        yield Field(number, wire_type, value, end)
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
