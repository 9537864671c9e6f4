"""Access units to pixels, for who draws on what was sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import av
import numpy as np

from common.domain.video import AccessUnit, VideoCodec
from common.vision.limits import DEFAULT_MAX_PIXELS

DecodeUnit: TypeAlias = Callable[[AccessUnit], "np.ndarray | None"]
"""Makes HxWx3, uint8, BGR of a video's access units, each once and in order; None of damage."""

_FFMPEG_NAMES = {VideoCodec.H264: "h264", VideoCodec.H265: "hevc"}


class UnitDecoder:
    """Decodes one video's access units: one goes in, its picture comes out."""

    def __init__(self, codec: VideoCodec) -> None:
        """Prepare; parameter sets are in the access units."""
        context = av.CodecContext.create(_FFMPEG_NAMES[codec], "r")
        assert isinstance(context, av.VideoCodecContext)
        self._context = context
        # Frames in parallel would come late; slices do not.
        self._context.thread_type = "SLICE"
        self._context.options = {"max_pixels": str(DEFAULT_MAX_PIXELS)}

    def __call__(self, unit: AccessUnit) -> np.ndarray | None:
        """Decode the next one; see `DecodeUnit`."""
        whole = [frame for frame in self._frames(unit) if not frame.is_corrupt]
        return whole[-1].to_ndarray(format="bgr24") if whole else None

    def follow(self, unit: AccessUnit) -> None:
        """Decode the next one only because later ones need its picture."""
        self._frames(unit)

    def _frames(self, unit: AccessUnit) -> list[av.VideoFrame]:
        try:
            return self._context.decode(av.Packet(unit.data))
        except (av.FFmpegError, ValueError):
            return []
