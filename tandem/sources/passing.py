"""A video's access units as they are, where the services can decode them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

import av
from av.bitstream import BitStreamFilterContext

from common.domain.video import AccessUnit, VideoCodec, VideoFormat
from tandem.sources.nal_units import parameter_sets, with_sets_before

# Of any stream, though only a video's are looked at.
VideoPacket: TypeAlias = "av.Packet[Any]"

# What makes an Annex B byte stream of MP4's and Matroska's form, by FFmpeg's name of the codec.
_FILTERS = {
    "h264": (VideoCodec.H264, "h264_mp4toannexb"),
    "hevc": (VideoCodec.H265, "hevc_mp4toannexb"),
}
# How many kinds of parameter sets decoding takes: SPS and PPS, and the VPS of H.265.
_KINDS_OF_SETS = {VideoCodec.H264: 2, VideoCodec.H265: 3}
# What the services decode: 8 bit, 4:2:0; with a J, of the full range.
_PIXEL_FORMATS = {"yuv420p", "yuvj420p"}
# FFmpeg's AV_FIELD_UNKNOWN and AV_FIELD_PROGRESSIVE; the others are of interlaced video.
_PROGRESSIVE = (0, 1)

_START_CODES = (b"\0\0\1", b"\0\0\0\1")
_B_FRAMES = "it has B frames"


class NotPassableError(Exception):
    """The video cannot be passed through; the text is the reason, a clause about `it`."""


class TimedUnit(NamedTuple):
    """An access unit, and when and how long it is shown, in ticks of `time_base` (seconds)."""

    unit: AccessUnit
    shown_at: int | None
    duration: int | None
    time_base: Fraction | None


class PassThrough:
    """Makes access units of a stream's packets: Annex B, parameter sets before each key frame.

    What comes before the first key frame is left out, since nothing can decode it.

    Attributes:
        format: what the access units are; their parameter sets are in them.
    """

    def __init__(self, stream: av.VideoStream) -> None:
        """Look at what the stream's header tells.

        Raises:
            NotPassableError: the services do not decode such video.
        """
        context = stream.codec_context
        codec, filter_name = _FILTERS[context.name]
        reason = _obstacle(context)
        if reason is not None:
            raise NotPassableError(reason)
        self.format = VideoFormat(codec)
        self._filter = BitStreamFilterContext(filter_name, stream)
        # Else they are in MP4's form, and the filter puts them before the first key frame.
        head = context.extradata or b""
        self._sets = parameter_sets(head, codec) if head.startswith(_START_CODES) else {}
        self._began = False

    def units(self, packets: Iterable[VideoPacket], *, looks_ahead: bool) -> Iterator[TimedUnit]:
        """The access units of packets, which are empty afterwards.

        Args:
            packets: of the stream, in order.
            looks_ahead: hold each access unit until the next one shows that no B frame follows.

        Raises:
            NotPassableError: what follows cannot be passed through; nothing of it has been.
        """
        units = (unit for packet in packets if packet.size for unit in self._of(packet))
        return _in_order_of_display(units) if looks_ahead else units

    def _of(self, packet: VideoPacket) -> list[TimedUnit]:
        if packet.is_discard:
            raise NotPassableError("an edit list cuts parts of it out")
        shown_at = packet.dts if packet.pts is None else packet.pts
        duration, time_base = packet.duration, packet.time_base
        return [
            TimedUnit(unit, shown_at, duration, time_base)
            for filtered in self._filter.filter(packet)
            if (unit := self._unit(bytes(filtered), filtered.is_keyframe)) is not None
        ]

    def _unit(self, data: bytes, is_key_frame: bool) -> AccessUnit | None:
        self._began = self._began or is_key_frame
        if not self._began or not data:
            return None
        return AccessUnit(self._with_sets(data) if is_key_frame else data, is_key_frame)

    def _with_sets(self, data: bytes) -> bytes:
        codec = self.format.codec
        own = parameter_sets(data, codec)
        self._sets |= own
        if len(self._sets) < _KINDS_OF_SETS[codec]:
            raise NotPassableError("it lacks a parameter set")
        if len(own) == len(self._sets):
            return data
        return with_sets_before(
            data, b"".join(self._sets[kind] for kind in sorted(self._sets)), codec
        )


def _in_order_of_display(units: Iterator[TimedUnit]) -> Iterator[TimedUnit]:
    held: TimedUnit | None = None
    for unit in units:
        if held is not None:
            if _is_later(held, unit):
                raise NotPassableError(_B_FRAMES)
            yield held
        held = unit
    if held is not None:
        yield held


def _is_later(one: TimedUnit, other: TimedUnit) -> bool:
    return one.shown_at is not None and other.shown_at is not None and one.shown_at > other.shown_at


def is_known(stream: av.VideoStream) -> bool:
    """Whether its codec is one that can be passed through."""
    return stream.codec_context.name in _FILTERS


def check_picture(frame: av.VideoFrame) -> None:
    """Look at a decoded frame, which tells what the header does not.

    Raises:
        NotPassableError: the services do not decode such video, or not as it is shown.
    """
    if frame.format.name not in _PIXEL_FORMATS:
        raise NotPassableError(_colours(frame.format.name))
    if frame.interlaced_frame:
        raise NotPassableError("it is interlaced")
    if frame.rotation % 360:
        raise NotPassableError("it is turned when it is shown")


def _obstacle(context: av.VideoCodecContext) -> str | None:
    if context.has_b_frames:
        return _B_FRAMES
    if context.pix_fmt is not None and context.pix_fmt not in _PIXEL_FORMATS:
        return _colours(context.pix_fmt)
    # Versions of PyAV before 15 do not tell.
    if getattr(context, "field_order", 0) not in _PROGRESSIVE:
        return "it is interlaced"
    return None


def _colours(pixel_format: str) -> str:
    return f"its pixels are {pixel_format}, not 4:2:0 of 8 bit"
