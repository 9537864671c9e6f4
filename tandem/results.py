"""What comes back for each frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.domain.detections import Detection, FrameTiming
from common.domain.errors import TandemError
from common.domain.placement import NodePair, Placement


@dataclass(frozen=True)
class FrameResult:
    """The one answer to one frame.

    Attributes:
        frame_id: position of the frame in its stream, from 0.
        detections: objects found, the highest score first; empty if `error` or `dropped`.
        error: why the frame could not be served, or None.
        dropped: a newer frame took this one's place (live streams only).
        node_pair: nodes that served it; None when none did, as when it was served in this process.
        timing: where the server spent the frame's time.
        round_trip_seconds: from handing the frame to the stream to reading its answer; waiting
            for room in the stream is part of it.
    """

    frame_id: int
    detections: tuple[Detection, ...]
    error: TandemError | None
    dropped: bool
    node_pair: NodePair | None
    timing: FrameTiming
    round_trip_seconds: float

    @property
    def placement(self) -> Placement | None:
        """The placement that names `node_pair`, if one does."""
        return self.node_pair.placement if self.node_pair else None


@dataclass(frozen=True)
class VideoResult(FrameResult):
    """The one answer to one frame of a video.

    Attributes:
        name: the video's, and the frame's number.
        seconds: when the frame is shown, since the first; None of pictures, and of what does not
            say.
        pixels: HxWx3, uint8, RGB: what the boxes are in; None if they were not asked for, or the
            frame cannot be decoded.
    """

    name: str
    seconds: float | None
    pixels: np.ndarray | None
