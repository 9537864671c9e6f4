"""A video's access units as they are, where the services can decode them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias, cast

import av
from av.bitstream import BitStreamFilterContext

from common.domain.errors import InvalidInputError
from common.domain.video import AccessUnit, VideoCodec, VideoFormat
from common.vision.video.parameters import B_FRAMES
from tandem.sources.parameter_sets import SetsInFront

# Of any stream, though only a video's are looked at.
VideoPacket: TypeAlias = "av.Packet[Any]"

# What makes an Annex B byte stream of MP4's and Matroska's form, by FFmpeg's name of the codec.
_FILTERS = {
    "h264": (VideoCodec.H264, "h264_mp4toannexb"),
    "hevc": (VideoCodec.H265, "hevc_mp4toannexb"),
}
_CUT = "an edit list leaves out parts of the video"


class NotPassableError(Exception):
    """The video cannot be passed through; the text is the reason, a sentence without its end."""


class TimedUnit(NamedTuple):
    """An access unit, and when and how long it is shown, in ticks of `time_base` (seconds).

    Its packet is the `number`-th of the stream, from 0 on.
    """

    unit: AccessUnit
    number: int
    shown_at: int | None
    duration: int | None
    time_base: Fraction | None


class PassThrough:
    """Makes access units of a stream's packets: Annex B, parameter sets before each key frame.

    What comes before the first key frame is left out, since nothing can decode it, and so is what
    is too damaged to be taken out of its container's form.

    Attributes:
        format: what the access units are; their parameter sets are in them.
    """

    def __init__(self, stream: av.VideoStream, on_damage: Callable[[], None]) -> None:
        """Look at what the stream's header tells.

        Args:
            stream: of one of the codecs that can be passed through.
            on_damage: called for each packet that is left out since it is damaged.

        Raises:
            NotPassableError: the services do not decode such video.
        """
        context = stream.codec_context
        codec, filter_name = _FILTERS[context.name]
        if context.has_b_frames:
            raise NotPassableError(B_FRAMES)
        try:
            self._sets = SetsInFront(codec, context.extradata or b"")
        except InvalidInputError as error:
            raise NotPassableError(str(error)) from error
        self.format = VideoFormat(codec)
        self._filter = BitStreamFilterContext(filter_name, stream)
        self._on_damage = on_damage
        self._began = False

    def units(self, packets: Iterable[VideoPacket], *, looks_ahead: bool) -> Iterator[TimedUnit]:
        """The access units of packets, which are empty afterwards.

        Args:
            packets: of the stream, in order, and each with its number as `opaque`.
            looks_ahead: hold each access unit until the next one shows that no B frame follows.

        Raises:
            NotPassableError: what follows cannot be passed through; nothing of it has been.
        """
        units = (unit for packet in packets if packet.size for unit in self._of(packet))
        return _in_order_of_display(units) if looks_ahead else units

    def _of(self, packet: VideoPacket) -> list[TimedUnit]:
        if packet.is_discard:
            raise NotPassableError(_CUT)
        shown_at = packet.dts if packet.pts is None else packet.pts
        number, duration, time_base = packet_number(packet), packet.duration, packet.time_base
        try:
            every = self._filter.filter(packet)
        except av.FFmpegError:
            # The sizes within it are wrong. The services notice that a picture is missing.
            self._on_damage()
            return []
        return [
            TimedUnit(unit, number, shown_at, duration, time_base)
            for filtered in every
            if (unit := self._unit(bytes(filtered), filtered.is_keyframe)) is not None
        ]

    def _unit(self, data: bytes, is_key_frame: bool) -> AccessUnit | None:
        try:
            key_frame = self._sets.key_frame(data) if is_key_frame and data else None
        except InvalidInputError as error:
            raise NotPassableError(str(error)) from error
        self._began = self._began or key_frame is not None
        if not self._began or not data:
            return None
        return AccessUnit(key_frame or data, key_frame is not None)


def packet_number(of: VideoPacket | av.VideoFrame) -> int:
    """Of a packet that was numbered, or of the one whose picture a frame is."""
    return cast(int, of.opaque)


def is_known(stream: av.VideoStream) -> bool:
    """Whether its codec is one that can be passed through."""
    return stream.codec_context.name in _FILTERS


def check_packet(packet: VideoPacket) -> None:
    """Look at a packet before the first picture is decoded.

    Raises:
        NotPassableError: it is not shown.
    """
    if packet.is_discard:
        raise NotPassableError(_CUT)


def check_picture(frame: av.VideoFrame) -> None:
    """Look at a decoded frame, which tells what the header does not.

    Raises:
        NotPassableError: it is not to be shown as it is stored.
    """
    if frame.rotation % 360:
        raise NotPassableError("the video is turned when it is shown")


def _in_order_of_display(units: Iterator[TimedUnit]) -> Iterator[TimedUnit]:
    held: TimedUnit | None = None
    for unit in units:
        if held is not None:
            if _is_later(held, unit):
                raise NotPassableError(B_FRAMES)
            yield held
        held = unit
    if held is not None:
        yield held


def _is_later(one: TimedUnit, other: TimedUnit) -> bool:
    """Whether it is shown later than one that is decoded behind it."""
    if other.unit.key_frame or one.shown_at is None or other.shown_at is None:
        # None is shown after a key frame that follows it: there, another recording begins.
        return False
    return one.shown_at > other.shown_at
