"""Feature tensors and codecs on the wire."""

from __future__ import annotations

from typing import Dict, Optional

from common.domain.codec import Codec, EncodedTensor
from common.domain.errors import InvalidInputError
from common.wire.parsing import MAX_RANK
from protos.tandem.v1 import tensor_pb2

_TO_WIRE = {
    Codec.FP32: tensor_pb2.CODEC_FP32,
    Codec.FP16: tensor_pb2.CODEC_FP16,
    Codec.INT8: tensor_pb2.CODEC_INT8,
    Codec.Q6: tensor_pb2.CODEC_Q6,
    Codec.Q5: tensor_pb2.CODEC_Q5,
    Codec.Q4: tensor_pb2.CODEC_Q4,
    Codec.Q3: tensor_pb2.CODEC_Q3,
    Codec.Q2: tensor_pb2.CODEC_Q2,
}
_FROM_WIRE: Dict[int, Codec] = {value: codec for codec, value in _TO_WIRE.items()}


def codec_to_wire(codec: Optional[Codec]) -> tensor_pb2.Codec:
    """None is CODEC_UNSPECIFIED: the bundle's default."""
    return tensor_pb2.CODEC_UNSPECIFIED if codec is None else _TO_WIRE[codec]


def codec_from_wire(value: int) -> Optional[Codec]:
    """CODEC_UNSPECIFIED is None.

    Raises:
        InvalidInputError: no codec has this value.
    """
    if value == tensor_pb2.CODEC_UNSPECIFIED:
        return None
    if value not in _FROM_WIRE:
        raise InvalidInputError(f"unknown codec {value}")
    return _FROM_WIRE[value]


def tensor_to_wire(encoded: EncodedTensor) -> tensor_pb2.Tensor:
    """An encoded tensor as it travels."""
    return tensor_pb2.Tensor(shape=encoded.shape, codec=_TO_WIRE[encoded.codec], data=encoded.data)


def tensor_from_wire(wire: tensor_pb2.Tensor) -> EncodedTensor:
    """An encoded tensor as it arrived; `common.codec.FeatureCodec` checks its payload.

    Raises:
        InvalidInputError: the codec is unknown or missing, or there are too many dimensions.
    """
    codec = codec_from_wire(wire.codec)
    if codec is None:
        raise InvalidInputError("the tensor names no codec")
    if len(wire.shape) > MAX_RANK:
        raise InvalidInputError(f"a tensor has at most {MAX_RANK} dimensions")
    return EncodedTensor(tuple(wire.shape), codec, wire.data)
