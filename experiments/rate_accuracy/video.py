"""Frames as a camera's video at low delay: encoded, and decoded as the other end sees them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray

from common.domain.errors import InternalError

KEY_FRAME_EVERY = 48  # frames
FRAMES_PER_SECOND = 24

Pixels = NDArray[np.uint8]


class VideoCodec(StrEnum):
    """Codecs of cameras."""

    H264 = "h264"
    H265 = "hevc"


# One thread each: more would cut the picture into parts that predict less, at some bytes.
_OPTIONS = {
    VideoCodec.H264: {"preset": "veryfast", "tune": "zerolatency", "bf": "0"},
    VideoCodec.H265: {
        "preset": "medium",
        "tune": "zerolatency",
        "x265-params": "bframes=0:pools=none:frame-threads=1:info=0:log-level=error",
    },
}
_ENCODERS = {VideoCodec.H264: "libx264", VideoCodec.H265: "libx265"}
_START_CODE = b"\x00\x00\x01"
_H264_SEI = 6  # type of a unit of supplementary information


@dataclass(frozen=True)
class VideoQuality:
    """How to encode.

    Attributes:
        codec: of the video.
        crf: constant rate factor, the lower the better.
    """

    codec: VideoCodec
    crf: int


def encode(frames: Iterable[Pixels], quality: VideoQuality) -> list[bytes]:
    """Encode frames of one size, RGB uint8 [H,W,3], each as soon as it comes.

    A key frame stands at every 48th frame, and where the encoder sees a cut. Parameter sets are
    in the key frames' packets, as on any link that a receiver may join later. What x264 and x265
    write about themselves into the stream is left out.

    Returns:
        One packet a frame: everything that a decoder needs.
    """
    packets: list[bytes] = []
    encoder: av.VideoCodecContext | None = None
    for number, pixels in enumerate(frames):
        even = _even(pixels)
        if encoder is None:
            encoder = _encoder(quality, even.shape[0], even.shape[1])
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        frame.pts = number
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    if encoder is not None:
        packets += [bytes(packet) for packet in encoder.encode(None)]
    if quality.codec is VideoCodec.H264:
        packets = [_without_sei(packet) for packet in packets]
    return packets


def decode(packets: Sequence[bytes], codec: VideoCodec, size: tuple[int, int]) -> Iterator[Pixels]:
    """Decode what `encode` made, and nothing but that.

    Args:
        packets: of one video, from its start.
        codec: of the video.
        size: height and width of its frames.

    Yields:
        One frame a packet, RGB uint8 [height,width,3].

    Raises:
        InternalError: a packet cannot be decoded, or packets and frames do not match.
    """
    decoder = _context(codec.value, "r")
    decoded = 0
    try:
        for data in (*packets, None):
            for frame in decoder.decode(None if data is None else av.Packet(data)):
                decoded += 1
                yield pixels_of(frame)[: size[0], : size[1]]
    except av.FFmpegError as error:
        raise InternalError(f"a packet of video cannot be decoded: {error}") from error
    if decoded != len(packets):
        raise InternalError(f"{len(packets)} packets of video became {decoded} frames")


def pixels_of(frame: av.VideoFrame) -> Pixels:
    """A decoded frame, RGB uint8 [H,W,3]."""
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def _encoder(quality: VideoQuality, height: int, width: int) -> av.VideoCodecContext:
    encoder = _context(_ENCODERS[quality.codec], "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base = Fraction(1, FRAMES_PER_SECOND)
    encoder.framerate = Fraction(FRAMES_PER_SECOND)
    encoder.gop_size = KEY_FRAME_EVERY
    encoder.options = {**_OPTIONS[quality.codec], "crf": str(quality.crf)}
    return encoder


def _context(name: str, mode: Literal["r", "w"]) -> av.VideoCodecContext:
    context = av.CodecContext.create(name, mode)
    if not isinstance(context, av.VideoCodecContext):
        raise InternalError(f"{name} is no codec of videos")
    context.thread_count = 1
    return context


def _even(pixels: Pixels) -> Pixels:
    """Repeat the last row or column where there is an odd number: 4:2:0 has pairs of them."""
    height, width = pixels.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return np.ascontiguousarray(pixels)
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _without_sei(packet: bytes) -> bytes:
    """Leave out H.264's supplementary information, which no decoder needs."""
    units = packet.split(_START_CODE)
    kept = [unit for unit in units[1:] if unit and unit[0] & 0x1F != _H264_SEI]
    return b"".join([units[0], *(_START_CODE + unit for unit in kept)])
