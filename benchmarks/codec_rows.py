"""What the benchmark of codecs tells of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

REPETITIONS = 30


@dataclass(frozen=True)
class Measurement:
    """One codec over all frames; what does not apply is None.

    Attributes:
        name: of the codec, or JPEG's quality.
        encode_ms: median of a call, milliseconds.
        decode_ms: median of a call, milliseconds.
        bytes_per_frame: mean.
        share_of_fp32: bytes over those of fp32.
        over_entropy: bytes over the per-channel entropy of the quantised values; of latents, over
            the length that their tables' odds tell.
        bits_per_value: of the bytes.
        relative_error: root mean square error over the features' standard deviation.
    """

    name: str
    encode_ms: float
    decode_ms: float
    bytes_per_frame: float
    share_of_fp32: float
    over_entropy: float | None = None
    bits_per_value: float | None = None
    relative_error: float | None = None


def median_ms(call: Callable[[Any], Any], arguments: Sequence[Any]) -> float:
    """Milliseconds of one call."""
    taken = []
    for index in range(REPETITIONS):
        argument = arguments[index % len(arguments)]
        started = time.perf_counter()
        call(argument)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken)) * 1e3
