"""H.265's headers, as far as they have to be known before decoding (ITU-T H.265, clause 7.3)."""

from __future__ import annotations

from typing import Tuple

from common.domain.errors import InvalidInputError
from common.vision.limits import ImageSize
from common.vision.video.byte_stream import Bits, below
from common.vision.video.parameters import (
    PictureKind,
    PictureParameters,
    SequenceParameters,
    SliceStart,
)
from common.vision.video.syntax import Role, Syntax

_SLICES = (*range(10), *range(16, 22))
_ROLES = {
    32: Role.VIDEO_PARAMETERS,
    33: Role.SEQUENCE_PARAMETERS,
    34: Role.PICTURE_PARAMETERS,
    **{kind: Role.SLICE for kind in _SLICES},
}
# The first bytes of H.264's SPS, PPS, IDR and other slices, as most encoders make them.
_OF_H264 = (0x67, 0x68, 0x65, 0x61, 0x41, 0x27, 0x28, 0x25, 0x21)

# IDR pictures, and those of broken links: the order of display starts anew.
_RESTARTS = (16, 17, 18, 19, 20)
_IDR = (19, 20)
_KEYS = range(16, 24)
_LEADING = range(6, 10)
_FIRST_OTHER_REFERENCE = 16
_INTRA_SLICE = 2
_MAX_SPS, _MAX_PPS, _MAX_SUB_LAYERS = 16, 64, 7
_MOST_SIDE = 1 << 16


class H265Syntax(Syntax):
    """Reads what H.265's NAL units hold."""

    def role(self, unit: bytes) -> Role:
        """See `Syntax`."""
        # The second byte is 1 for the layer and the sub-layer of nearly all video, and never 0.
        if unit[0] in _OF_H264 and (len(unit) < 2 or unit[1] & 0x07 == 0 or unit[0] > 0x4F):
            raise InvalidInputError(
                "the access unit looks like H.264, and the stream's options say that it is H.265"
            )
        layer = (unit[0] & 1) << 5 | unit[1] >> 3 if len(unit) > 1 else 1
        return Role.OTHER if layer else _ROLES.get(_nal_kind(unit), Role.OTHER)

    def read_sequence_parameters(self, unit: bytes) -> Tuple[int, SequenceParameters]:
        """See `Syntax`."""
        return read_sps(unit[2:])

    def read_picture_parameters(self, unit: bytes) -> Tuple[int, PictureParameters]:
        """See `Syntax`."""
        bits = Bits(unit[2:18])
        set_id = below(bits.unsigned(), _MAX_PPS)
        sequence_id = below(bits.unsigned(), _MAX_SPS)
        bits.skip(1)
        return set_id, PictureParameters(sequence_id, bits.flag(), bits.take(3))

    def picture_parameters_id(self, unit: bytes) -> int:
        """See `Syntax`."""
        bits = Bits(unit[2:18])
        bits.skip(2 if _nal_kind(unit) in _KEYS else 1)
        return below(bits.unsigned(), _MAX_PPS)

    def read_slice(
        self, unit: bytes, picture: PictureParameters, sequence: SequenceParameters
    ) -> SliceStart:
        """See `Syntax`."""
        nal_kind = _nal_kind(unit)
        bits = Bits(unit[2:34])
        is_first = bits.flag()
        if nal_kind in _KEYS:
            bits.skip(1)
        bits.unsigned()
        if not is_first:
            return SliceStart(is_first)
        bits.skip(picture.extra_bits)
        slice_kind = bits.unsigned()
        if picture.has_output_flag:
            bits.skip(1)
        order = 0 if nal_kind in _IDR else bits.take(sequence.order_bits or 0)
        is_base = unit[1] & 0x07 == 1
        is_odd_one_out = nal_kind < _FIRST_OTHER_REFERENCE and nal_kind % 2 == 0
        return SliceStart(
            is_first=True,
            kind=_kind(nal_kind),
            is_intra=slice_kind == _INTRA_SLICE,
            order=order,
            counts_for_order=is_base and nal_kind not in _LEADING and not is_odd_one_out,
        )

    def is_certainly_key(self, unit: bytes) -> bool:
        """See `Syntax`."""
        return _nal_kind(unit) in _KEYS

    def recovery_frames(self, unit: bytes) -> int:
        """See `Syntax`; H.265 marks key frames by their NAL units."""
        return 0


def _nal_kind(unit: bytes) -> int:
    return (unit[0] >> 1) & 0x3F


def read_sps(payload: bytes) -> Tuple[int, SequenceParameters]:
    """A sequence parameter set: its id, and what it says.

    Raises:
        InvalidInputError: it is damaged, or says what cannot be.
    """
    bits = Bits(payload[:512])
    bits.skip(4)
    sub_layers = 1 + below(bits.take(3), _MAX_SUB_LAYERS)
    bits.skip(1)
    is_interlaced = _skip_profile(bits, sub_layers)
    set_id = below(bits.unsigned(), _MAX_SPS)
    chroma_format = below(bits.unsigned(), 4)
    separate_planes = chroma_format == 3 and bits.flag()
    coded = ImageSize(*(below(bits.unsigned(), _MOST_SIDE) for _ in range(2)))
    size = _cropped(bits, coded, chroma_format)
    depths = [8 + below(bits.unsigned(), 9) for _ in range(2)]
    order_bits = 4 + below(bits.unsigned(), 13)
    kept, reordered = _buffering(bits, sub_layers)
    return set_id, SequenceParameters(
        size=size,
        coded_size=coded,
        bit_depth=max(depths[: 2 if chroma_format else 1]),
        chroma_format=chroma_format,
        kept_pictures=kept,
        reordered_pictures=reordered,
        is_interlaced=is_interlaced,
        order_bits=order_bits,
        separate_planes=separate_planes,
    )


def _skip_profile(bits: Bits, sub_layers: int) -> bool:
    """Skip profile, tier and level; returns whether the source is said to be interlaced."""
    bits.skip(8 + 32)
    is_progressive, may_be_interlaced = bits.flag(), bits.flag()
    bits.skip(46 + 8)
    present = [(bits.flag(), bits.flag()) for _ in range(sub_layers - 1)]
    if sub_layers > 1:
        bits.skip(2 * (9 - sub_layers))
    for has_profile, has_level in present:
        bits.skip(88 * has_profile + 8 * has_level)
    return may_be_interlaced and not is_progressive


def _cropped(bits: Bits, coded: ImageSize, chroma_format: int) -> ImageSize:
    left = right = top = bottom = 0
    if bits.flag():
        left, right, top, bottom = (bits.unsigned() for _ in range(4))
    across = 2 if chroma_format in (1, 2) else 1
    down = 2 if chroma_format == 1 else 1
    width = coded.width - across * (left + right)
    height = coded.height - down * (top + bottom)
    if width < 1 or height < 1:
        raise InvalidInputError("the video's parameter set leaves nothing of the picture")
    return ImageSize(width, height)


def _buffering(bits: Bits, sub_layers: int) -> Tuple[int, int]:
    """How many pictures are kept, and how many are reordered, in the highest sub-layer."""
    kept = reordered = 0
    for _ in range(sub_layers if bits.flag() else 1):
        kept = 1 + below(bits.unsigned(), 16)
        reordered = below(bits.unsigned(), 16)
        bits.unsigned()
    return kept, reordered


def _kind(nal_kind: int) -> PictureKind:
    if nal_kind in _RESTARTS:
        return PictureKind.RESTART
    return PictureKind.KEY if nal_kind in _KEYS else PictureKind.OTHER
