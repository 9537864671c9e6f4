"""Encoders of video at low delay: one picture in, one access unit out."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple, cast

import av
import numpy as np

from common.domain.video import VideoCodec
from common.vision.limits import ImageSize

# Only x264's and x265's control of rates uses it, and a constant quality has little of that.
_FRAMES_PER_SECOND = 25
# Far beyond the length of any stream: key frames come where they are asked for, and at cuts.
_NO_KEY_FRAMES = 1 << 30

_NAMES = {VideoCodec.H264: "libx264", VideoCodec.H265: "libx265"}
# One thread each: more would cut the picture into parts that predict less, at some bytes.
_OPTIONS = {
    VideoCodec.H264: {"preset": "veryfast", "tune": "zerolatency", "bf": "0"},
    VideoCodec.H265: {
        "preset": "medium",
        "tune": "zerolatency",
        "x265-params": "bframes=0:pools=none:frame-threads=1:info=0:keyint=-1:log-level=none",
    },
}


class UnencodableError(Exception):
    """The encoder refuses pictures of this size, or made no access unit of one."""


class Encoded(NamedTuple):
    """One picture, encoded.

    Attributes:
        data: an Annex B byte stream; a key frame has the parameter sets in front.
        key_frame: decoding can start here.
    """

    data: bytes
    key_frame: bool


class LibavEncoder:
    """Encodes pictures of one size as one video; the first one is a key frame."""

    def __init__(self, codec: VideoCodec, size: ImageSize, quality: int) -> None:
        """Begin a video.

        Args:
            codec: of the video.
            size: of its pictures, which lose their last row or column if that makes a side odd.
            quality: the constant rate factor (CRF) of x264 or x265, the lower the better.

        Raises:
            UnencodableError: no such video can be encoded.
        """
        self.size = size
        self._width, self._height = size.width & ~1, size.height & ~1
        self._pictures = 0
        if not self._width or not self._height:
            raise UnencodableError
        context = cast("av.VideoCodecContext", av.CodecContext.create(_NAMES[codec], "w"))
        context.width, context.height, context.pix_fmt = self._width, self._height, "yuv420p"
        context.time_base = Fraction(1, _FRAMES_PER_SECOND)
        context.framerate = Fraction(_FRAMES_PER_SECOND)
        context.gop_size = _NO_KEY_FRAMES
        context.thread_count = 1
        context.options = {**_OPTIONS[codec], "crf": str(quality)}
        try:
            context.open()
        except av.error.FFmpegError as error:
            raise UnencodableError from error
        self._context = context

    def encode(self, rgb: np.ndarray) -> Encoded:
        """Encode the next picture.

        Args:
            rgb: uint8 [H,W,3], of the video's size.

        Raises:
            UnencodableError: that failed.
        """
        even = np.ascontiguousarray(rgb[: self._height, : self._width])
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        frame.pts = self._pictures
        self._pictures += 1
        try:
            packets = list(self._context.encode(frame))
        except av.error.FFmpegError as error:
            raise UnencodableError from error
        if len(packets) != 1:
            raise UnencodableError
        return Encoded(bytes(packets[0]), packets[0].is_keyframe)
