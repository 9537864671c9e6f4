"""Frames of video that decoding the next ones takes."""

from __future__ import annotations

from tandem.supply import Supplied

# More than any orchestrator keeps by default.
_MOST_BYTES = 256 << 20


class Group:
    """The frames of video that were answered since the last key frame that was.

    Attributes:
        is_kept: whether there is any use in keeping them.
        frames: in order; none once they are too large to be kept.
    """

    def __init__(self, *, is_kept: bool) -> None:
        """Begin without any."""
        self.is_kept = is_kept
        self.frames: list[Supplied] = []
        self._bytes = 0

    def add(self, frame: Supplied) -> None:
        """Take the next one; its trace has ended, and what is sent again is not part of it."""
        if not self.is_kept or frame.request is None:
            return
        frame.request.frame.traceparent = ""
        if frame.key_frame:
            self.frames, self._bytes = [], 0
        self._bytes += len(frame.request.frame.encoded_video.data)
        if self._bytes > _MOST_BYTES:
            self.frames = []
        elif self.frames or frame.key_frame:
            self.frames.append(frame)
