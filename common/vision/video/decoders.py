"""Decoders of video; they run inside a confined process only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Optional

import av
import av.logging
import numpy as np
from av.video.reformatter import VideoReformatter

from common.domain.video import VideoCodec
from common.vision.limits import ImageSize

_NAMES = {VideoCodec.H264: "h264", VideoCodec.H265: "hevc"}


class DamagedError(Exception):
    """An access unit cannot be decoded, or only by making up a part of the picture."""


class NoPictureError(Exception):
    """An access unit gave no picture of its own."""


class NoDecoderError(Exception):
    """The decoder does not work, whatever it is given."""


class Decoder(ABC):
    """Decodes one stream of video, from a key frame on."""

    @abstractmethod
    def decode(self, data: bytes, size: ImageSize, *, is_wanted: bool) -> Optional[np.ndarray]:
        """Decode the next access unit.

        Args:
            data: a byte stream; parameter sets come in front of the first.
            size: of its picture, pixels.
            is_wanted: whether its picture is wanted, and not only what later ones need of it.

        Returns:
            uint8 [size.height,size.width,3], RGB; None if it is not wanted.

        Raises:
            DamagedError: it cannot be decoded as a whole.
            NoPictureError: it gave no picture, or that of another access unit.
            NoDecoderError: the machine is at fault, not the access unit.
            MemoryError: there is not enough memory.
        """

    @abstractmethod
    def close(self) -> None:
        """Release all."""


class LibavDecoder(Decoder):
    """FFmpeg's own decoders, on the CPU, one thread."""

    def __init__(self, codec: VideoCodec) -> None:
        """Wait for a key frame of this codec."""
        # What FFmpeg complains about it has repaired as it thought fit. The complaints are counted;
        # they go to standard error, which leads nowhere in here.
        av.logging.set_level(av.logging.ERROR)
        av.logging.set_skip_repeated(False)
        # PyAV's stubs know no decoding by a context of any kind, and its own kinds have one.
        self._context: Any = av.CodecContext.create(_NAMES[codec], "r")
        self._context.thread_count = 1
        self._context.options = {
            "flags": "+low_delay",
            "err_detect": "crccheck+bitstream+buffer+explode",
        }
        self._reformatter = VideoReformatter()
        self._count = 0

    def decode(self, data: bytes, size: ImageSize, *, is_wanted: bool) -> Optional[np.ndarray]:
        """See `Decoder`."""
        frame = self.frame(data, size)
        if not is_wanted:
            return None
        # `tandem`'s own reader of files converts as this does, so that pixels are the same. A new
        # reformatter for each frame would take longer than decoding.
        return self._reformatter.reformat(frame, format="rgb24").to_ndarray()

    def frame(self, data: bytes, size: ImageSize) -> av.VideoFrame:
        """The picture of the next access unit, in the colours of the video; see `decode`.

        Raises:
            DamagedError: as `decode` does.
            NoPictureError: as `decode` does.
            MemoryError: as `decode` does.
        """
        complaints = av.logging.get_last_error()[0]
        self._count += 1
        packet = av.Packet(data)
        packet.pts = self._count
        try:
            frames = self._context.decode(packet)
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError) as error:
            raise DamagedError from error
        if av.logging.get_last_error()[0] != complaints:
            raise DamagedError
        if len(frames) != 1 or frames[0].pts != self._count:
            raise NoPictureError
        frame: av.VideoFrame = frames[0]
        if frame.is_corrupt or (frame.width, frame.height) != size:
            raise DamagedError
        return frame

    def close(self) -> None:
        """See `Decoder`; nothing outlives this object."""
