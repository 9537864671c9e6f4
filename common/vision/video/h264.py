"""H.264's headers, as far as they have to be known before decoding (ITU-T H.264, clause 7.3)."""

from __future__ import annotations

from typing import Optional, Tuple

from common.domain.errors import InvalidInputError
from common.vision.limits import ImageSize
from common.vision.video.byte_stream import Bits, DamagedHeaderError, below
from common.vision.video.parameters import (
    PictureKind,
    PictureParameters,
    SequenceParameters,
    SliceStart,
)
from common.vision.video.syntax import Role, Syntax

_IDR_SLICE, _SEI = 5, 6
_ROLES = {1: Role.SLICE, 5: Role.SLICE, 7: Role.SEQUENCE_PARAMETERS, 8: Role.PICTURE_PARAMETERS}
_PARTITIONS = (2, 3, 4)
# What the first NAL units of H.265 look like: VPS and SPS, each with a second byte of 1.
_OF_H265 = (b"\x40\x01", b"\x42\x01", b"\x26\x01", b"\x28\x01", b"\x02\x01")

# Their sequence parameter sets tell chroma format and bit depth; all others are 4:2:0 of 8 bits.
_HIGH_PROFILES = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))
_INTRA_SLICES = (2, 4, 7, 9)
_MAX_SPS, _MAX_PPS = 32, 256
_EXTENDED_ASPECT = 255
_RECOVERY_POINT = 6
# Beyond any picture, so that what is computed of sides stays small.
_MOST_BLOCKS = 1 << 12


class H264Syntax(Syntax):
    """Reads what H.264's NAL units hold."""

    def role(self, unit: bytes) -> Role:
        """See `Syntax`."""
        if unit[:2] in _OF_H265:
            raise InvalidInputError(
                "the access unit looks like H.265, and the stream's options say that it is H.264"
            )
        kind = unit[0] & 0x1F
        if kind in _PARTITIONS:
            raise InvalidInputError("the video's slices are partitioned, which is not served")
        if kind == _SEI and recovery_frames(unit[1:]) is not None:
            return Role.RECOVERY_POINT
        return _ROLES.get(kind, Role.OTHER)

    def read_sequence_parameters(self, unit: bytes) -> Tuple[int, SequenceParameters]:
        """See `Syntax`."""
        return read_sps(unit[1:])

    def read_picture_parameters(self, unit: bytes) -> Tuple[int, PictureParameters]:
        """See `Syntax`."""
        bits = Bits(unit[1:17])
        set_id = below(bits.unsigned(), _MAX_PPS)
        return set_id, PictureParameters(below(bits.unsigned(), _MAX_SPS))

    def picture_parameters_id(self, unit: bytes) -> int:
        """See `Syntax`."""
        bits = Bits(unit[1:17])
        bits.unsigned()
        bits.unsigned()
        return below(bits.unsigned(), _MAX_PPS)

    def read_slice(
        self, unit: bytes, picture: PictureParameters, sequence: SequenceParameters
    ) -> SliceStart:
        """See `Syntax`."""
        bits = Bits(unit[1:33])
        is_first = bits.unsigned() == 0
        slice_kind = bits.unsigned()
        bits.unsigned()
        number = bits.take(sequence.number_bits)
        is_restart = unit[0] & 0x1F == _IDR_SLICE
        if is_restart:
            bits.unsigned()
        is_reference = bool(unit[0] & 0x60)
        return SliceStart(
            is_first=is_first,
            kind=PictureKind.RESTART if is_restart else PictureKind.OTHER,
            is_intra=slice_kind in _INTRA_SLICES,
            is_reference=is_reference,
            order=None if sequence.order_bits is None else bits.take(sequence.order_bits),
            counts_for_order=is_reference,
            number=number,
        )

    def is_certainly_key(self, unit: bytes) -> bool:
        """See `Syntax`."""
        return unit[0] & 0x1F == _IDR_SLICE

    def recovery_frames(self, unit: bytes) -> int:
        """See `Syntax`."""
        return recovery_frames(unit[1:]) or 0


def read_sps(payload: bytes) -> Tuple[int, SequenceParameters]:
    """A sequence parameter set: its id, and what it says.

    Raises:
        InvalidInputError: it is damaged, or says what cannot be.
    """
    bits = Bits(payload)
    profile = bits.take(8)
    bits.skip(16)
    set_id = below(bits.unsigned(), _MAX_SPS)
    chroma_format, depth, separate_planes = 1, 8, False
    if profile in _HIGH_PROFILES:
        chroma_format, depth, separate_planes = _colours(bits)
    number_bits = 4 + below(bits.unsigned(), 13)
    order_bits = _order_bits(bits)
    references = below(bits.unsigned(), 17)
    numbers_have_gaps = bits.flag()
    columns, rows = (1 + below(bits.unsigned(), _MOST_BLOCKS) for _ in range(2))
    is_progressive = bits.flag()
    if not is_progressive:
        bits.skip(1)
    bits.skip(1)
    coded = ImageSize(16 * columns, 16 * rows * (1 if is_progressive else 2))
    size = _cropped(bits, coded, 0 if separate_planes else chroma_format, is_progressive)
    reordered, kept = _reordering(bits) if bits.flag() else (None, None)
    return set_id, SequenceParameters(
        size=size,
        coded_size=coded,
        bit_depth=depth,
        chroma_format=chroma_format,
        kept_pictures=max(references, kept or 0),
        reordered_pictures=reordered,
        is_interlaced=not is_progressive,
        order_bits=order_bits,
        number_bits=number_bits,
        numbers_have_gaps=numbers_have_gaps,
        separate_planes=separate_planes,
    )


def _colours(bits: Bits) -> Tuple[int, int, bool]:
    """Chroma format, bit depth, and whether the colours are coded on their own."""
    chroma_format = below(bits.unsigned(), 4)
    separate_planes = chroma_format == 3 and bits.flag()
    depths = [8 + below(bits.unsigned(), 7) for _ in range(2)]
    bits.skip(1)
    if bits.flag():
        for index in range(12 if chroma_format == 3 else 8):
            if bits.flag():
                _skip_scaling_list(bits, 16 if index < 6 else 64)
    return chroma_format, max(depths[: 2 if chroma_format else 1]), separate_planes


def _skip_scaling_list(bits: Bits, size: int) -> None:
    scale = 8
    for _ in range(size):
        scale = (scale + bits.signed()) % 256
        if scale == 0:
            return


def _order_bits(bits: Bits) -> Optional[int]:
    kind = below(bits.unsigned(), 3)
    if kind == 0:
        return 4 + below(bits.unsigned(), 13)
    if kind == 1:
        bits.skip(1)
        bits.signed()
        bits.signed()
        for _ in range(below(bits.unsigned(), 256)):
            bits.signed()
    return None


def _cropped(bits: Bits, coded: ImageSize, chroma_format: int, is_progressive: bool) -> ImageSize:
    if not bits.flag():
        return coded
    left, right, top, bottom = (bits.unsigned() for _ in range(4))
    across = 2 if chroma_format in (1, 2) else 1
    down = (2 if chroma_format == 1 else 1) * (1 if is_progressive else 2)
    width = coded.width - across * (left + right)
    height = coded.height - down * (top + bottom)
    if width < 1 or height < 1:
        raise InvalidInputError("the video's parameter set crops all of the picture away")
    return ImageSize(width, height)


def _reordering(bits: Bits) -> Tuple[Optional[int], Optional[int]]:
    """What the usability information says: pictures that are reordered, and that are kept."""
    try:
        _skip_usability(bits)
        if not bits.flag():
            return None, None
        bits.skip(1)
        for _ in range(4):
            bits.unsigned()
        reordered = bits.unsigned()
        return reordered, below(bits.unsigned(), 17)
    except DamagedHeaderError:
        # Some cameras cut it off, and decoders forgive that.
        return None, None


def _skip_usability(bits: Bits) -> None:
    """Go on to the last part of the video usability information, annex E."""
    if bits.flag() and bits.take(8) == _EXTENDED_ASPECT:
        bits.skip(32)
    if bits.flag():
        bits.skip(1)
    if bits.flag():
        bits.skip(4)
        if bits.flag():
            bits.skip(24)
    if bits.flag():
        bits.unsigned()
        bits.unsigned()
    if bits.flag():
        bits.skip(65)
    has_rates = [_skip_rates(bits) for _ in range(2)]
    if any(has_rates):
        bits.skip(1)
    bits.skip(1)


def _skip_rates(bits: Bits) -> bool:
    if not bits.flag():
        return False
    count = 1 + below(bits.unsigned(), 32)
    bits.skip(8)
    for _ in range(count):
        bits.unsigned()
        bits.unsigned()
        bits.skip(1)
    bits.skip(20)
    return True


def recovery_frames(payload: bytes) -> Optional[int]:
    """After how many pictures all is whole if decoding starts here, as an SEI says; None: none.

    A damaged SEI says nothing.
    """
    at = 0
    while at + 2 < len(payload):
        kind, at = _sei_number(payload, at)
        size, at = _sei_number(payload, at)
        if kind == _RECOVERY_POINT:
            try:
                return Bits(payload[at : at + 16]).unsigned()
            except DamagedHeaderError:
                return None
        at += size
    return None


def _sei_number(payload: bytes, at: int) -> Tuple[int, int]:
    value = 0
    while at < len(payload) and payload[at] == 0xFF:
        value += 0xFF
        at += 1
    return value + (payload[at] if at < len(payload) else 0), at + 1
