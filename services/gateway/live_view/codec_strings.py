"""What browsers call the kind of a video, as its parameter sets tell it."""

from __future__ import annotations

from common.domain.errors import InvalidInputError
from common.domain.video import VideoCodec
from common.vision.video.byte_stream import Bits, nal_units

# ITU-T H.264, table 7-1, and H.265, table 7-1.
_H264_SPS, _H265_SPS = 7, 33
# More than what is read of them takes.
_MOST_BYTES = 64


def codec_string(codec: VideoCodec, key_frame: bytes) -> str:
    """Codec, profile and level, as `VideoDecoder.configure` takes them; empty if nothing tells.

    Source: https://www.w3.org/TR/webcodecs-codec-registry/

    Args:
        codec: of the video.
        key_frame: a byte stream with parameter sets in front.
    """
    try:
        for start, end in nal_units(key_frame):
            unit = key_frame[start : min(end, start + _MOST_BYTES)]
            if codec is VideoCodec.H264 and unit[0] & 0x1F == _H264_SPS:
                return _avc(Bits(unit[1:]))
            if codec is VideoCodec.H265 and unit[0] >> 1 & 0x3F == _H265_SPS:
                return _hevc(Bits(unit[2:]))
    except InvalidInputError:
        pass
    return ""


def _avc(bits: Bits) -> str:
    return f"avc1.{bits.take(24):06X}"


def _hevc(bits: Bits) -> str:
    """ISO/IEC 14496-15, annex E.3."""
    bits.take(8)
    space, tier, profile = bits.take(2), bits.take(1), bits.take(5)
    # The flags are told with the last one first.
    compatible = int(f"{bits.take(32):032b}"[::-1], 2)
    constraints = [bits.take(8) for _ in range(6)]
    level = bits.take(8)
    while constraints and not constraints[-1]:
        constraints.pop()
    parts = [
        f"{['', 'A', 'B', 'C'][space]}{profile}",
        f"{compatible:X}",
        f"{'LH'[tier]}{level}",
        *(f"{each:X}" for each in constraints),
    ]
    return f"hev1.{'.'.join(parts)}"
