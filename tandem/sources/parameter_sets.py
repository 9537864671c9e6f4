"""Parameter sets of a file's header, and access units that have them in front."""

from __future__ import annotations

from collections.abc import Iterator

from common.domain.errors import InvalidInputError
from common.domain.video import VideoCodec
from common.vision.video.byte_stream import nal_units
from common.vision.video.h264 import H264Syntax
from common.vision.video.h265 import H265Syntax
from common.vision.video.parameter_sets import ParameterSets
from common.vision.video.parameters import RENEWED_BIT_BY_BIT
from common.vision.video.syntax import PARAMETER_SETS, Role

_START_CODES = (b"\0\0\1", b"\0\0\0\1")
# ITU-T H.264, table 7-1, and H.265, table 7-1: the access unit delimiter, which is always first.
_H264_DELIMITER, _H265_DELIMITER = 9, 35


class SetsInFront:
    """Sees to it that each key frame of a video has its parameter sets in front.

    Cameras may tell them once, in their description, and files in their header.
    """

    def __init__(self, codec: VideoCodec, header: bytes) -> None:
        """Begin with the sets of the header.

        Args:
            codec: of the video.
            header: what FFmpeg calls extradata: an Annex B byte stream, or as MP4 has it.

        Raises:
            InvalidInputError: the services do not decode such video; the sentence says why.
        """
        self._codec = codec
        self._syntax = H264Syntax() if codec is VideoCodec.H264 else H265Syntax()
        self._sets = ParameterSets(self._syntax)
        for unit in _units_of_header(header, codec):
            self._take(unit)

    def key_frame(self, data: bytes) -> bytes | None:
        """The same key frame, with its parameter sets in front if it had none.

        Returns:
            The frame; None if it is no key frame, though its container says so.

        Raises:
            InvalidInputError: from here on, the services do not decode such video.
        """
        try:
            places = nal_units(data)
        except InvalidInputError:
            # The services' answer will say what is wrong.
            return data
        units = [data[start:end] for start, end in places]
        own = [self._take(unit) for unit in units]
        if not any(map(self._syntax.is_certainly_key, units)):
            if self._codec is VideoCodec.H265:
                # It marks all of its key frames, and MP4 calls any frame one if it has no list.
                return None
            if any(map(self._renews, own, units)):
                raise InvalidInputError(RENEWED_BIT_BY_BIT)
        if Role.SEQUENCE_PARAMETERS in own and Role.PICTURE_PARAMETERS in own:
            return data
        at = places[0][1] if units and self._is_delimiter(units[0]) else 0
        return data[:at] + self._sets.byte_stream() + data[at:]

    def _take(self, unit: bytes) -> Role:
        """Note a parameter set; one that is damaged is left to the services, as all else is."""
        try:
            role = self._syntax.role(unit)
            if role not in PARAMETER_SETS:
                return role
            self._sets.add(role, unit)
        except InvalidInputError:
            return Role.OTHER
        if role is Role.SEQUENCE_PARAMETERS:
            self._syntax.read_sequence_parameters(unit)[1].check_served()
        return role

    def _renews(self, role: Role, unit: bytes) -> bool:
        """Whether it says that the picture is whole some frames later only."""
        return role is Role.RECOVERY_POINT and self._syntax.recovery_frames(unit) > 0

    def _is_delimiter(self, unit: bytes) -> bool:
        if self._codec is VideoCodec.H264:
            return unit[0] & 0x1F == _H264_DELIMITER
        return unit[0] >> 1 & 0x3F == _H265_DELIMITER


def _units_of_header(header: bytes, codec: VideoCodec) -> Iterator[bytes]:
    """The NAL units of a header, without start codes; what is cut off is left out."""
    if header.startswith(_START_CODES):
        yield from (header[start:end] for start, end in nal_units(header))
    elif codec is VideoCodec.H264:
        yield from _avc_units(header)
    else:
        yield from _hevc_units(header)


def _avc_units(header: bytes) -> Iterator[bytes]:
    """Of AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1)."""
    at = 5
    for mask in (0x1F, 0xFF):
        if at >= len(header):
            return
        count, at = header[at] & mask, at + 1
        for _ in range(count):
            unit, at = _sized(header, at)
            if unit:
                yield unit


def _hevc_units(header: bytes) -> Iterator[bytes]:
    """Of HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.3.1)."""
    at = 22
    arrays, at = int.from_bytes(header[at : at + 1], "big"), at + 1
    for _ in range(arrays):
        count, at = int.from_bytes(header[at + 1 : at + 3], "big"), at + 3
        for _ in range(count):
            unit, at = _sized(header, at)
            if not unit:
                return
            yield unit


def _sized(header: bytes, at: int) -> tuple[bytes, int]:
    """What stands behind its size of two bytes, and where that ends."""
    end = at + 2 + int.from_bytes(header[at : at + 2], "big")
    return header[at + 2 : end], end
