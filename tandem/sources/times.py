"""When the frames of a video are shown, by time stamps that may start anew in its midst."""

from __future__ import annotations

# Frames that a file stores in a wrong order are not so far apart.
_MOST_BACK_SECONDS = 0.5
# MP4 keeps how long a frame is shown in 32 bits, which are 13 hours of `tandem.sinks`' ticks.
_MOST_AHEAD_SECONDS = 36_000.0
# As FFmpeg's own command has it, of formats such as MPEG-TS whose time may start anew anywhere.
_MOST_AHEAD_OF_BROADCASTS_SECONDS = 10.0
_USUAL_FRAMES_PER_SECOND = 25.0


class FrameTimes:
    """Makes times since the first frame of a video's time stamps.

    Where recordings were joined, stamps go back or leap, or by years where a clock was set. Time
    then goes on by one frame from the one before.
    """

    def __init__(self, frames_per_second: float | None, *, may_start_anew: bool = False) -> None:
        """Begin with the next frame.

        Args:
            frames_per_second: None: the video does not say.
            may_start_anew: its format is one for broadcasts, in which stamps begin anywhere.
        """
        self._frame_seconds = 1.0 / (frames_per_second or _USUAL_FRAMES_PER_SECOND)
        self._most_ahead = (
            _MOST_AHEAD_OF_BROADCASTS_SECONDS if may_start_anew else _MOST_AHEAD_SECONDS
        )
        self._zero_at: float | None = None
        self._latest = 0.0

    def since_first(self, stamp_seconds: float) -> float:
        """When the next frame is shown, seconds since the first."""
        if self._zero_at is None:
            self._zero_at = stamp_seconds
        seconds = stamp_seconds - self._zero_at
        if not -_MOST_BACK_SECONDS <= seconds - self._latest <= self._most_ahead:
            seconds = self._latest + self._frame_seconds
            self._zero_at = stamp_seconds - seconds
        self._latest = seconds
        return seconds
