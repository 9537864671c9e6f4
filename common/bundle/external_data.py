"""Finds what an ONNX file would have a runtime read from other files.

An ONNX file may keep its weights in files beside it, which no digest of the file itself covers.
"""

from __future__ import annotations

from common.domain.errors import ConfigurationError
from common.onnx_messages import LENGTH, NODE, TENSOR, VARINT, Field, model_fields

_ENUM_BITS = 0xFFFFFFFF
_OP_TYPE = 4
# A node that holds what a provider has compiled, or the name of a file with it.
_COMPILED = b"EPContext"
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def require_self_contained(content: bytes, name: str) -> None:
    """Refuse an ONNX file that has a runtime read other files.

    Args:
        content: of the ONNX file.
        name: of the file, for errors.

    Raises:
        ConfigurationError: a tensor's data are in another file, a node names one, or this is no
            ONNX file.
    """
    for message, field in model_fields(content, name):
        if message.kind == TENSOR:
            _require_data_inside(field, name)
        elif message.kind == NODE:
            _require_operator(content, field, name)


def _require_data_inside(field: Field, name: str) -> None:
    has_entry = field.number == _EXTERNAL_DATA and field.wire_type == LENGTH
    # 0 is DEFAULT. What counts of an enum are its lower 32 bits.
    is_elsewhere = field.number == _DATA_LOCATION and field.wire_type == VARINT
    if has_entry or (is_elsewhere and field.value & _ENUM_BITS):
        raise ConfigurationError(
            f"{name} keeps tensors in another file (external data), which no digest covers: "
            "save the model as one file"
        )


def _require_operator(content: bytes, field: Field, name: str) -> None:
    is_operator = field.number == _OP_TYPE and field.wire_type == LENGTH
    if is_operator and content[field.value : field.end] == _COMPILED:
        raise ConfigurationError(
            f"{name} holds a compiled part ({_COMPILED.decode()}), which may be in another file: "
            "export the model itself"
        )
