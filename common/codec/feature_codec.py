"""All the codecs that can serve one bundle, and the plain ones among them."""

from __future__ import annotations

from typing import Dict, Optional, Tuple

import numpy as np

from common.bundle import Calibration
from common.codec.base import TensorCodec, checked_count
from common.codec.quantized import AffineCodec, UniformCodec
from common.domain.codec import CALIBRATED_BITS, Codec, EncodedTensor
from common.domain.errors import ConfigurationError, InvalidInputError, PreconditionError


class FloatingCodec:
    """Values in binary32 (exact) or binary16 (relative error at most 2^-11, saturating)."""

    def __init__(self, dtype: str) -> None:
        """Use a type of values on the wire, as numpy names it (`<f4`, `<f2`)."""
        self._dtype = np.dtype(dtype)
        self._limits = np.finfo(self._dtype)

    def encode(self, tensor: np.ndarray) -> bytes:
        """Encode: values beyond the type's range become its largest; infinities and NaN stay."""
        with np.errstate(over="ignore"):
            values = tensor.astype(self._dtype, copy=False)
        # The cast turns a large activation into an infinity. That is rare, so it is mended after.
        overflown = np.isinf(values)
        if self._dtype.itemsize < tensor.dtype.itemsize and overflown.any():
            overflown &= np.isfinite(tensor)
            limits = np.clip(tensor[overflown], self._limits.min, self._limits.max)
            values[overflown] = limits
        return values.tobytes()

    def decode(self, data: bytes, shape: Tuple[int, ...]) -> np.ndarray:
        """Decode; see `TensorCodec.decode`."""
        expected_bytes = checked_count(shape) * self._dtype.itemsize
        if len(data) != expected_bytes:
            raise InvalidInputError(
                f"a tensor of shape {shape} takes {expected_bytes} bytes, not {len(data)}"
            )
        return np.frombuffer(data, self._dtype).reshape(shape).astype(np.float32, copy=False)


def codec_named(name: str) -> Codec:
    """Find the codec of this name.

    Raises:
        ConfigurationError: there is none.
    """
    try:
        return Codec(name)
    except ValueError as error:
        known = ", ".join(codec.value for codec in Codec)
        raise ConfigurationError(f"unknown codec {name!r}; known codecs: {known}") from error


class FeatureCodec:
    """Encodes and decodes the features of one bundle; any number of threads may use it."""

    def __init__(self, calibration: Optional[Calibration] = None) -> None:
        """Prepare every codec that can be served.

        Args:
            calibration: the bundle's. Without it the codecs q6 to q2 are refused.
        """
        self._codecs: Dict[Codec, TensorCodec] = {
            Codec.FP32: FloatingCodec("<f4"),
            Codec.FP16: FloatingCodec("<f2"),
            Codec.INT8: AffineCodec(),
        }
        if calibration is not None:
            for codec, bits in CALIBRATED_BITS.items():
                self._codecs[codec] = UniformCodec(bits, calibration, codec)

    def require(self, codec: Codec) -> None:
        """Check that a codec of features can be served; `LatentCoders` has those of latents.

        Raises:
            PreconditionError: it needs a calibration, which the bundle lacks.
        """
        if codec not in self._codecs:
            raise PreconditionError(
                f"codec {codec.value} needs a calibrated bundle, and this one is not: run "
                "`tandem model calibrate` on it, and give every node the result"
            )

    def encode(self, tensor: np.ndarray, codec: Codec) -> EncodedTensor:
        """Encode float32 [frames,channels,...] of any stride; fp32 and fp16 take any shape.

        Raises:
            PreconditionError: see `require`.
            InvalidInputError: the codec is calibrated for another number of channels.
        """
        self.require(codec)
        return EncodedTensor(tensor.shape, codec, self._codecs[codec].encode(tensor))

    def decode(self, encoded: EncodedTensor) -> np.ndarray:
        """Decode to float32, C-contiguous, possibly read-only.

        Raises:
            PreconditionError: see `require`.
            InvalidInputError: the payload does not hold a tensor of the shape it names.
        """
        self.require(encoded.codec)
        return self._codecs[encoded.codec].decode(encoded.data, encoded.shape)
