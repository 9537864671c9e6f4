"""Videos and network streams, decoded by FFmpeg; one damaged frame does not end them."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain, count

import av
import numpy as np
from av.codec.context import Flags

from common.domain.errors import InvalidInputError, TandemError
from common.vision.headers import read_header
from common.vision.jpeg_markers import JPEG_MAGIC
from common.vision.limits import DEFAULT_MAX_PIXELS
from tandem.sources.containers import (
    Readable,
    open_container,
    quotable,
    reason,
    video_stream,
)
from tandem.sources.decoding import UnitDecoder
from tandem.sources.passing import (
    NotPassableError,
    PassThrough,
    VideoPacket,
    check_packet,
    check_picture,
    is_known,
    packet_number,
)
from tandem.sources.readers import (
    SILENCE_SECONDS,
    SILENT,
    EncodedPicture,
    LostError,
    Picture,
    Reader,
    ReadFrame,
)
from tandem.sources.times import FrameTimes

# Places in a row where nothing can be read; then the rest is taken to be no better.
_MOST_UNREADABLE = 100
# Of a picture in a stream: more than any camera has.
_MOST_HEADER_PIXELS = 1 << 28
# Their demuxers count frames at a rate that they assume, since nothing in the data tells the time.
_UNTIMED = {"mpjpeg", "mjpeg", "h264", "hevc", "m4v", "mpegvideo", "obu"}
# What FFmpeg calls it when a connection ends in the midst of something.
_HUNG_UP = {errno.EIO, errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED}
# A list of addresses has a length, what it lists may still have none.
_LISTS = {"hls", "dash", "rtsp", "sdp"}
# AVFMT_TS_DISCONT of libavformat, which PyAV has no name for.
_MAY_START_ANEW = 0x0200
# Within one picture, a rotation is its EXIF orientation, which Tandem leaves as it is stored.
_PICTURE_CODECS = {"mjpeg", "png", "webp", "tiff", "bmp", "jpegxl"}

# Packets until a picture shows what a video is: as many as the longest groups of cameras have.
_MOST_PROBED = 300


class FFmpegReader(Reader):
    """One opened file, pipe or connection.

    Frames are turned upright where a video says that the camera was held on its side. Of access
    units only the first is decoded here, to see what they are.

    Attributes:
        frame_count: as the header says; None if it does not.
        frames_per_second: mean, as the header says; None if it does not.
        finite: it is known to have an end.
        timed: its time stamps are its own.
        passes: whether frames come as access units, if they can; set before the first is read.
        not_passed: why they do not, a clause about `it`; None as long as they do, and of a video
            of another codec.
    """

    def __init__(
        self, file: str | Readable, name: str, connect_seconds: float | None = None
    ) -> None:
        """Open; blocks, a URL no longer than it may.

        Args:
            file: a file's path, a URL, or something to read from.
            name: for people.
            connect_seconds: how long a URL may take to answer; each frame may take
                `SILENCE_SECONDS`. None: it is no URL, and takes as long as it takes.

        Raises:
            InvalidInputError: it holds no video, or pictures of a kind that is not taken.
            UnavailableError: it is a URL where nobody answers.
        """
        super().__init__()
        self._name = name
        self._is_remote = connect_seconds is not None
        self._file = None if isinstance(file, str) else file
        self._container = open_container(file, name, connect_seconds)
        try:
            self._stream = video_stream(self._container, name)
        except TandemError:
            self._release()
            raise
        self._stream.codec_context.options = {"max_pixels": str(DEFAULT_MAX_PIXELS)}
        format_name, rate = self._container.format.name, self._stream.average_rate
        self._is_list = format_name in _LISTS
        self.timed = not (format_name in _UNTIMED or format_name.endswith("_pipe"))
        self._knows_durations = "mp4" in format_name
        self.frame_count = self._stream.frames or None
        self.frames_per_second = float(rate) if rate else None
        self._frames = self._delivered()
        self._frame_at = time.monotonic()
        may_start_anew = bool(self._container.format.flags & _MAY_START_ANEW)
        self._times = FrameTimes(self.frames_per_second, may_start_anew=may_start_anew)
        # So many packets have gone on as access units, or were left out before one that did.
        self._packets_passed = 0

    def go_on_from(self, other: FFmpegReader) -> None:
        """Deliver pictures of what another reader of the same file has not passed through."""
        self._packets_passed = other._packets_passed
        self._times, self.damaged = other._times, other.damaged

    @property
    def finite(self) -> bool:
        """A file, though it may come over the network."""
        known = self._container.duration is not None or self.frame_count is not None
        return known or (self._container.size > 0 and not self._is_list)

    def _read(self) -> ReadFrame | None:
        try:
            return next(self._frames, None)
        except av.error.ExitError as error:
            raise LostError(SILENT) from quotable(error, self._is_remote)
        except (av.FFmpegError, OSError) as error:
            if self._is_remote:
                told = "it hung up" if error.errno in _HUNG_UP else reason(error)
                raise LostError(told) from None
            raise InvalidInputError(f"{self._name} cannot be decoded: {reason(error)}") from error

    def _release(self) -> None:
        self._container.close()
        if self._file is not None:
            self._file.close()

    def _delivered(self) -> Iterator[ReadFrame]:
        packets, first, passing = self._video_packets(), list[VideoPacket](), None
        if self.passes and is_known(self._stream):
            try:
                passing = PassThrough(self._stream, self._left_out)
                self._probe(packets, first)
            except NotPassableError as error:
                passing, self.not_passed = None, str(error)
        every = chain(first, packets)
        for frame in self._decoded(every) if passing is None else self._passed(passing, every):
            yield frame
            # The time that the consumer took is not the camera's silence.
            self._frame_at = time.monotonic()

    def _probe(self, packets: Iterator[VideoPacket], read: list[VideoPacket]) -> None:
        """Decode the first picture; `read` takes the packets from its key frame on.

        Raises:
            NotPassableError: the services do not decode such video.
        """
        # With frames in parallel, the first picture would come late.
        self._stream.thread_type = "SLICE"
        for packet in packets:
            if not read and not packet.is_keyframe:
                continue
            read.append(packet)
            check_packet(packet)
            counted = self.damaged
            frames = self._of_packet(packet)
            # It is looked at once more when it is delivered.
            self.damaged = counted
            for frame in frames:
                return check_picture(frame)
            if len(read) == _MOST_PROBED:
                break
        raise NotPassableError("its first pictures cannot be decoded here")

    def _left_out(self) -> None:
        self.damaged += 1

    def _passed(
        self, passing: PassThrough, packets: Iterable[VideoPacket]
    ) -> Iterator[EncodedPicture]:
        """Access units as they are.

        Raises:
            NotPassableError: the services could not decode what comes next.
        """
        decode = UnitDecoder(passing.format.codec)
        # A look ahead would make a camera's frames late.
        for timed in passing.units(packets, looks_ahead=not self._is_remote or self.finite):
            seconds, duration = self._timed(timed.shown_at, timed.duration, timed.time_base)
            self._packets_passed = timed.number + 1
            yield EncodedPicture(timed.unit, passing.format, decode, seconds, duration)

    def _decoded(self, packets: Iterable[VideoPacket]) -> Iterator[Picture]:
        """Pictures; what cannot be decoded is counted and left out."""
        context = self._stream.codec_context
        if self._packets_passed:
            # Damage in what was passed makes fewer pictures: they cannot be counted.
            context.flags |= Flags.copy_opaque
        if context.is_open:
            context.flush_buffers()
        else:
            # Slices and frames in parallel: decoding must not be what limits the stream.
            self._stream.thread_type = "AUTO"
        for packet in packets:
            for frame in self._of_packet(packet):
                yield self._picture(frame)

    def _video_packets(self) -> Iterator[VideoPacket]:
        """Those of the video, as long as frames come of them."""
        self._frame_at, numbers = time.monotonic(), count()
        for packet in self._packets():
            # Sound may go on where the picture does not; and what FFmpeg held back when it was
            # broken off is no sign of life.
            if self._is_remote and time.monotonic() - self._frame_at > SILENCE_SECONDS:
                raise LostError(SILENT)
            if packet.stream is self._stream:
                packet.opaque = next(numbers)
                yield packet

    def _packets(self) -> Iterator[VideoPacket]:
        """Of all streams, so that silence can be seen between them."""
        packets, unreadable = self._container.demux(), 0
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.InvalidDataError:
                # Reading goes on behind the damage.
                unreadable += 1
                if unreadable > _MOST_UNREADABLE:
                    raise
                self.damaged += 1
                packets = self._container.demux()
                continue
            unreadable = 0
            yield packet

    def _of_packet(self, packet: VideoPacket) -> list[av.VideoFrame]:
        if packet.size and self._is_cut_jpeg(packet):
            self.damaged += 1
            return []
        try:
            frames = packet.decode()
        except (av.FFmpegError, ValueError):
            self.damaged += self._is_due(packet)
            return []
        due = [frame for frame in frames if self._is_due(frame)]
        whole = [frame for frame in due if not frame.is_corrupt]
        self.damaged += len(due) - len(whole)
        return whole

    def _is_due(self, of: VideoPacket | av.VideoFrame) -> bool:
        """Whether it has not been passed through."""
        return not self._packets_passed or packet_number(of) >= self._packets_passed

    def _is_cut_jpeg(self, packet: VideoPacket) -> bool:
        """FFmpeg makes up the rest of a JPEG that was cut off, without a word."""
        if self._stream.codec_context.name != "mjpeg":
            return False
        data = bytes(packet)
        if not data.startswith(JPEG_MAGIC):
            return False
        try:
            read_header(data, _MOST_HEADER_PIXELS)
        except InvalidInputError:
            return True
        return False

    def _picture(self, frame: av.VideoFrame) -> Picture:
        pixels = frame.to_ndarray(format="bgr24")
        if self._stream.codec_context.name not in _PICTURE_CODECS:
            pixels = _upright(pixels, frame.rotation)
        return Picture(pixels, *self._timed(frame.pts, frame.duration, frame.time_base))

    def _timed(
        self, shown_at: int | None, duration: int | None, time_base: Fraction | None
    ) -> tuple[float | None, float | None]:
        """When a frame is shown, since the first, and how long; None of what is not known."""
        if shown_at is None or time_base is None:
            return None, None
        known = float(duration * time_base) if self._knows_durations and duration else None
        return self._times.since_first(float(shown_at * time_base)), known


def _upright(pixels: np.ndarray, rotation_degrees: int) -> np.ndarray:
    """Apply a video's display rotation, counted anticlockwise; only quarter turns occur."""
    quarter_turns = round(rotation_degrees / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns))
