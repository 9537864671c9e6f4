"""How many bytes a frame's features take by each codec."""

from __future__ import annotations

import statistics
from collections import deque
from typing import Deque, Dict

from common.domain.codec import Codec
from services.orchestrator.estimation.estimates import PayloadEstimate

_KEPT_PAYLOADS = 64
# Of the sizes of latents, at least one is a key frame's, and there is none after it for as long as
# the stream goes on.
_LEFT_OUT = 0.05


class PayloadSizes:
    """Keeps the sizes of the latest features, for each codec."""

    def __init__(self) -> None:
        """Begin without any."""
        self._sizes: Dict[Codec, Deque[int]] = {}
        self._latest_at: Dict[Codec, float] = {}

    def observe(self, codec: Codec, payload_bytes: int, now: float) -> None:
        """Take note of one frame's features; costs the same however many came before."""
        self._sizes.setdefault(codec, deque(maxlen=_KEPT_PAYLOADS)).append(payload_bytes)
        self._latest_at[codec] = now

    def estimates(self, now: float) -> Dict[Codec, PayloadEstimate]:
        """What a frame takes by each codec that has been used."""
        return {
            codec: PayloadEstimate(usual_size(sizes), max(0.0, now - self._latest_at[codec]))
            for codec, sizes in self._sizes.items()
        }


def usual_size(sizes: Deque[int]) -> float:
    """The mean without the largest ones."""
    ordered = sorted(sizes)
    left_out = max(1, round(_LEFT_OUT * len(ordered)))
    return statistics.fmean(ordered[:-left_out] or ordered)
