"""Videos and network streams, decoded by FFmpeg; one damaged frame does not end them."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

import av
import numpy as np

from common.domain.errors import InvalidInputError, TandemError, UnavailableError
from common.domain.redaction import masked_url
from common.vision.headers import read_header
from common.vision.jpeg_markers import JPEG_MAGIC
from common.vision.limits import DEFAULT_MAX_PIXELS
from tandem.sources.base import JPEG_VIDEO_SUFFIXES
from tandem.sources.readers import SILENCE_SECONDS, SILENT, LostError, Picture, Reader
from tandem.sources.stills import kind_of_brands, refusal

# Places in a row where nothing can be read; then the rest is taken to be no better.
_MOST_UNREADABLE = 100
# Of a picture in a stream: more than any camera has.
_MOST_HEADER_PIXELS = 1 << 28
# Their demuxers count frames at a rate that they assume, since nothing in the data tells the time.
_UNTIMED = {"mpjpeg", "mjpeg", "h264", "hevc", "m4v", "mpegvideo", "obu"}
# What FFmpeg calls it when a connection ends in the midst of something.
_HUNG_UP = {errno.EIO, errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED}
# Somebody answers, but with something else.
_NO_VIDEO = (av.error.InvalidDataError, av.error.PatchWelcomeError, av.error.DecoderNotFoundError)
# A list of addresses has a length, what it lists may still have none.
_LISTS = {"hls", "dash", "rtsp", "sdp"}
# Within one picture, a rotation is its EXIF orientation, which Tandem leaves as it is stored.
_PICTURE_CODECS = {"mjpeg", "png", "webp", "tiff", "bmp", "jpegxl"}


# Of any stream, though only a video's are decoded.
VideoPacket: TypeAlias = "av.Packet[Any]"


class Readable(Protocol):
    """What FFmpeg can read from, beside a path or a URL."""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes; none at the end."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class FFmpegReader(Reader):
    """One opened file, pipe or connection.

    Frames are turned upright where a video says that the camera was held on its side.

    Attributes:
        frame_count: as the header says; None if it does not.
        frames_per_second: mean, as the header says; None if it does not.
        finite: it is known to have an end.
        timed: its time stamps are its own.
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
        self._container = _open(file, name, connect_seconds)
        try:
            self._stream = self._video_stream()
        except TandemError:
            self._release()
            raise
        # Slices and frames in parallel: decoding must not be what limits the stream.
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.options = {"max_pixels": str(DEFAULT_MAX_PIXELS)}
        format_name, rate = self._container.format.name, self._stream.average_rate
        self._is_list = format_name in _LISTS
        self.timed = not (format_name in _UNTIMED or format_name.endswith("_pipe"))
        self._knows_durations = "mp4" in format_name
        self.frame_count = self._stream.frames or None
        self.frames_per_second = float(rate) if rate else None
        self._frames = self._decoded()
        self._first_seconds: float | None = None

    @property
    def finite(self) -> bool:
        """A file, though it may come over the network."""
        known = self._container.duration is not None or self.frame_count is not None
        return known or (self._container.size > 0 and not self._is_list)

    def _read(self) -> Picture | None:
        try:
            frame = next(self._frames, None)
        except av.error.ExitError as error:
            raise LostError(SILENT) from _quotable(error, self._is_remote)
        except (av.FFmpegError, OSError) as error:
            if self._is_remote:
                told = "it hung up" if error.errno in _HUNG_UP else reason(error)
                raise LostError(told) from None
            raise InvalidInputError(f"{self._name} cannot be decoded: {reason(error)}") from error
        return None if frame is None else self._picture(frame)

    def _release(self) -> None:
        self._container.close()
        if self._file is not None:
            self._file.close()

    def _video_stream(self) -> av.VideoStream:
        tags = self._container.metadata
        brands = tags.get("compatible_brands", "").encode("utf-8", "replace")
        kind = kind_of_brands(
            tags.get("major_brand", "").encode("utf-8", "replace"),
            [brands[at : at + 4] for at in range(0, len(brands), 4)],
        )
        if kind is not None:
            raise InvalidInputError(refusal(self._name, kind))
        if not self._container.streams.video:
            raise InvalidInputError(f"{self._name} is neither a picture nor a video")
        stream = self._container.streams.video[0]
        # Though the type says otherwise.
        if getattr(stream, "codec_context", None) is None:
            raise InvalidInputError(f"{self._name} is a video in a format that is not known")
        return stream

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Frames; what cannot be decoded is counted and left out."""
        frame_at = time.monotonic()
        for packet in self._packets():
            # Sound may go on where the picture does not; and what FFmpeg held back when it was
            # broken off is no sign of life.
            if self._is_remote and time.monotonic() - frame_at > SILENCE_SECONDS:
                raise LostError(SILENT)
            for frame in self._of_packet(packet):
                yield frame
                # The time that the consumer took is not the camera's silence.
                frame_at = time.monotonic()

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
        if packet.stream is not self._stream:
            return []
        if packet.size and self._is_cut_jpeg(packet):
            self.damaged += 1
            return []
        try:
            frames = packet.decode()
        except (av.FFmpegError, ValueError):
            self.damaged += 1
            return []
        whole = [frame for frame in frames if not frame.is_corrupt]
        self.damaged += len(frames) - len(whole)
        return whole

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
        if frame.pts is None or frame.time_base is None:
            return Picture(pixels)
        seconds = float(frame.pts * frame.time_base)
        if self._first_seconds is None:
            self._first_seconds = seconds
        duration = float(frame.duration * frame.time_base) if self._knows_durations else None
        return Picture(pixels, seconds - self._first_seconds, duration or None)


def reason(error: Exception) -> str:
    """FFmpeg's words, without the address, which may hold a password."""
    return getattr(error, "strerror", None) or type(error).__name__


def _open(
    file: str | Readable, name: str, connect_seconds: float | None
) -> av.container.InputContainer:
    is_remote = connect_seconds is not None
    # Over TCP a lossy link delays an RTSP camera's pictures; over UDP it smears them.
    is_rtsp = isinstance(file, str) and is_remote and file.startswith("rtsp")
    # Otherwise a colon in a file's name makes a protocol of what stands before it.
    where = f"file:{file}" if isinstance(file, str) and not is_remote else file
    # By its content it would be taken for one picture.
    is_jpeg_video = not is_remote and name.lower().endswith(JPEG_VIDEO_SUFFIXES)
    try:
        return av.open(
            where,
            "r",
            format="mjpeg" if is_jpeg_video else None,
            options={"rtsp_transport": "tcp"} if is_rtsp else {},
            timeout=(connect_seconds, SILENCE_SECONDS) if connect_seconds is not None else None,
            metadata_errors="replace",
        )
    except av.error.ExitError as error:
        raise UnavailableError(
            f"{name} does not answer: nothing to see for {connect_seconds:.0f} s"
        ) from _quotable(error, is_remote)
    except (av.FFmpegError, OSError, ValueError) as error:
        if is_remote and not isinstance(error, _NO_VIDEO):
            cause = _unknown_host(where) if isinstance(where, str) else None
            raise UnavailableError(f"{name} does not answer: {cause or reason(error)}") from None
        raise InvalidInputError(f"{name} is neither a picture nor a video") from _quotable(
            error, is_remote
        )


def _quotable(error: Exception, is_remote: bool) -> Exception | None:
    """The cause for a traceback; none of a URL, since FFmpeg's own words repeat it."""
    return None if is_remote else error


def _unknown_host(url: str) -> str | None:
    """That the name of its host is not found, which FFmpeg calls an input/output error."""
    try:
        host = urlsplit(url).hostname
        # Before a slash in a password stands what is taken for a host.
        if host and host in masked_url(url).lower():
            socket.getaddrinfo(host, None)
    except socket.gaierror:
        return f"the name {host} is not found"
    except ValueError:  # no address at all, which FFmpeg has said
        pass
    return None


def _upright(pixels: np.ndarray, rotation_degrees: int) -> np.ndarray:
    """Apply a video's display rotation, counted anticlockwise; only quarter turns occur."""
    quarter_turns = round(rotation_degrees / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns))
