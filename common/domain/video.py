"""Video as cameras encode it: access units of a codec, one to a frame."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional


class VideoCodec(str, Enum):
    """How a stream's video is encoded."""

    H264 = "h264"
    H265 = "h265"


class FrameCodec(str, Enum):
    """What pictures are encoded as, anew, before they cross a link."""

    JPEG = "jpeg"
    H264 = "h264"
    H265 = "h265"

    @property
    def video(self) -> Optional[VideoCodec]:
        """The codec of video that this is; None: each picture stays one of its own."""
        return None if self is FrameCodec.JPEG else VideoCodec(self.value)


@dataclass(frozen=True)
class VideoFormat:
    """What a stream's access units are of.

    Attributes:
        codec: how they are encoded.
        parameter_sets: an Annex B byte stream of SPS and PPS, for H.265 also VPS; empty: key frames
            have them in front.
    """

    codec: VideoCodec
    parameter_sets: bytes = b""


@dataclass(frozen=True)
class AccessUnit:
    """What an encoder made of one picture; they come in the order of decoding, and of display.

    Attributes:
        data: an Annex B byte stream: NAL units with start codes.
        key_frame: decoding can start here.
        decode_only: nothing is to be found in it, and later ones may need it.
    """

    data: bytes
    key_frame: bool
    decode_only: bool = False
