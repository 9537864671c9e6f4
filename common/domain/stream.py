"""What a client may ask of its stream."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional

from common.domain.codec import Codec
from common.domain.detections import DEFAULT_SCORE_THRESHOLD
from common.domain.placement import NodePair


class OverloadPolicy(str, Enum):
    """What happens when frames come faster than they can be served."""

    # Lossless: the server stops reading, and flow control pushes back on the client.
    BLOCK = "block"
    # Live camera: the newest frame wins; a waiting frame that it replaces is answered `dropped`.
    DROP_OLDEST = "drop_oldest"


@dataclass(frozen=True)
class StreamOptions:
    """The opening message of a client's stream.

    Attributes:
        pair: nodes that run the stages; None leaves it to the orchestrator.
        score_threshold: detections below this score are left out, 0 to 1.
        max_detections: at most this many a frame, the highest scores first; 0 means all.
        overload: what happens when frames come faster than they can be served.
        codec: how features travel between the stages; None is the bundle's default.
    """

    pair: Optional[NodePair] = None
    score_threshold: float = DEFAULT_SCORE_THRESHOLD
    max_detections: int = 0
    overload: OverloadPolicy = OverloadPolicy.BLOCK
    codec: Optional[Codec] = None
