"""What comes back for each frame."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from common.domain.detections import Detection, FrameTiming
from common.domain.errors import TandemError
from common.domain.placement import NodePair, Placement
from common.wire.errors import grpc_status


@dataclass(frozen=True)
class FrameResult:
    """The one answer to one frame.

    Attributes:
        frame_id: position of the frame in its stream, from 0.
        detections: objects found, the highest score first; empty if `error` or `dropped`.
        error: why the frame could not be served, or None.
        dropped: a newer frame took this one's place (live streams only).
        pair: nodes that served it; None when none did.
        timing: where the server spent the frame's time.
        round_trip_seconds: from handing the frame to the stream to reading its answer; waiting
            for room in the stream is part of it.
    """

    frame_id: int
    detections: tuple[Detection, ...]
    error: TandemError | None
    dropped: bool
    pair: NodePair | None
    timing: FrameTiming
    round_trip_seconds: float

    @property
    def placement(self) -> Placement | None:
        """The placement that names `pair`, if one does."""
        return self.pair.placement if self.pair else None


def result_to_json(result: FrameResult) -> dict[str, Any]:
    """The machine-readable form of `tandem detect --json`; boxes are x_min, y_min, x_max, y_max."""
    error = result.error
    return {
        "frame_id": result.frame_id,
        "placement": result.pair.name if result.pair else None,
        "detections": [
            {
                "category_id": detection.category_id,
                "category_name": detection.category_name,
                "score": detection.score,
                "box": list(vars(detection.box).values()),
            }
            for detection in result.detections
        ],
        "error": {"code": grpc_status(error).name, "message": str(error)} if error else None,
        "dropped": result.dropped,
        "timing": {
            **asdict(result.timing),
            "round_trip_seconds": result.round_trip_seconds,
        },
    }
