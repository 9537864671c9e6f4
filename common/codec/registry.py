"""Every codec's implementation."""

from __future__ import annotations

from typing import Dict

import numpy as np

from common.codec.base import TensorCodec
from common.codec.floating import FloatingCodec
from common.domain.codec import Codec, EncodedTensor
from common.domain.errors import ConfigurationError

_CODECS: Dict[Codec, TensorCodec] = {
    Codec.FP32: FloatingCodec("<f4"),
    Codec.FP16: FloatingCodec("<f2"),
}


def codec_named(name: str) -> Codec:
    """The codec of this name.

    Raises:
        ConfigurationError: there is none.
    """
    try:
        return Codec(name)
    except ValueError as error:
        known = ", ".join(codec.value for codec in Codec)
        raise ConfigurationError(f"unknown codec {name!r}; known codecs: {known}") from error


def encode(tensor: np.ndarray, codec: Codec) -> EncodedTensor:
    """Encode a float32 tensor of any shape and stride."""
    return EncodedTensor(tensor.shape, codec, _CODECS[codec].encode(tensor))


def decode(encoded: EncodedTensor) -> np.ndarray:
    """Decode to float32, C-contiguous, possibly read-only.

    Raises:
        InvalidInputError: the payload does not hold a tensor of the shape it names.
    """
    return _CODECS[encoded.codec].decode(encoded.data, encoded.shape)
