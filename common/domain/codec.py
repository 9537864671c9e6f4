"""Names of the feature codecs, and an encoded tensor."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional, Tuple

from common.domain.frames import FrameGeometry


class Codec(str, Enum):
    """How a feature tensor becomes bytes; the names of a bundle's manifest and the command line."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    Q6 = "q6"
    Q5 = "q5"
    Q4 = "q4"
    Q3 = "q3"
    Q2 = "q2"
    LATENT_FINE = "latent-fine"
    LATENT = "latent"
    LATENT_COARSE = "latent-coarse"


CALIBRATION_FRAMES = 300
"""How many frames a calibration looks at unless it is told otherwise."""
CALIBRATED_BITS = {Codec.Q6: 6, Codec.Q5: 5, Codec.Q4: 4, Codec.Q3: 3, Codec.Q2: 2}
"""Bits a value of the codecs whose ranges are calibrated ahead of time and kept in the bundle."""
LATENT_CODECS = (Codec.LATENT_FINE, Codec.LATENT, Codec.LATENT_COARSE)
"""The rates of a bundle's bottleneck, the finest first."""
FEATURE_CODECS = tuple(codec for codec in Codec if codec not in LATENT_CODECS)
"""The codecs of features, each frame alone, which need no bottleneck."""


@dataclass(frozen=True)
class RateFigures:
    """What one latent rate costs and keeps, as calibration measured it.

    Attributes:
        codec: the rate; one of `LATENT_CODECS`.
        bytes_per_frame: of a frame coded given the one before, mean.
        bytes_per_key_frame: of a frame coded alone, mean.
        average_precision: AP on the set that it was measured on, 0 to 1; None: not measured.
    """

    codec: Codec
    bytes_per_frame: float
    bytes_per_key_frame: float
    average_precision: Optional[float] = None


@dataclass(frozen=True)
class EncodedTensor:
    """A float32 tensor as it travels between the stages.

    Attributes:
        shape: sizes, outermost first.
        codec: how `data` is encoded.
        data: the values; `docs/codecs.md` has each codec's layout.
    """

    shape: Tuple[int, ...]
    codec: Codec
    data: bytes


@dataclass(frozen=True)
class EncodedFeatures:
    """One frame's features, or their latents, as they travel between the stages.

    Attributes:
        frame_id: by which the receiver answers, and later frames refer to this one.
        tensors: the features, all that cross the cut, the finest first, by one codec; of
            latents there is one, whose shape is empty where it is that of the reference.
        geometry: the frame's sizes; None where they are those of the reference.
        reference_id: of the earlier frame of the same stream that latents are coded given; None for
            a frame that is coded alone.
    """

    frame_id: int
    tensors: Tuple[EncodedTensor, ...]
    geometry: Optional[FrameGeometry]
    reference_id: Optional[int] = None

    @property
    def codec(self) -> Codec:
        """By which the tensors are encoded."""
        return self.tensors[0].codec

    @property
    def payload_bytes(self) -> int:
        """The size of the encoded values, of all tensors together."""
        return sum(len(tensor.data) for tensor in self.tensors)
