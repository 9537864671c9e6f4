"""Where a frame's time went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class StageTiming:
    """One stage's part, by its own clock; see `StageTiming` in detection.proto for each field."""

    node: str
    decode_seconds: float = 0.0
    preprocess_seconds: float = 0.0
    queue_seconds: float = 0.0
    execute_seconds: float = 0.0
    encode_seconds: float = 0.0
    postprocess_seconds: float = 0.0
    held_seconds: float = 0.0
    transfer_seconds: float = 0.0
    request_bytes: int = 0
    received_at_seconds: float = 0.0
    execute_after_seconds: float = 0.0
    power_watts: Optional[float] = None


@dataclass(frozen=True)
class FrameTiming:
    """A whole frame's; a stage that the frame did not reach is None."""

    backbone: Optional[StageTiming]
    transformer: Optional[StageTiming]
    total_seconds: float
    received_at_seconds: float = 0.0
