"""Names of the feature codecs, and an encoded tensor."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Tuple


class Codec(str, Enum):
    """How a feature tensor becomes bytes; the names of a bundle's manifest and the command line."""

    FP32 = "fp32"
    FP16 = "fp16"


@dataclass(frozen=True)
class EncodedTensor:
    """A float32 tensor on its way.

    Attributes:
        shape: sizes, outermost first.
        codec: how `data` is encoded.
        data: the values, row-major.
    """

    shape: Tuple[int, ...]
    codec: Codec
    data: bytes
