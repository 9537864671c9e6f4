"""What callers ask of a stream, checked before it begins."""

from __future__ import annotations

import contextlib

from common.domain.codec import Codec
from common.domain.errors import InvalidInputError
from common.domain.placement import NodePair, Placement


def pair_named(name: Placement | NodePair | str | None) -> NodePair | None:
    """The nodes of this name; None for None and `auto`.

    Raises:
        InvalidInputError: the text is no placement.
    """
    if name is None or name == "auto":
        return None
    if isinstance(name, NodePair):
        return name
    return name.node_pair if isinstance(name, Placement) else NodePair.parse(name)


def checked_limit(bits_per_second: int, codec: Codec | str | None) -> int:
    """The most bits a second of a stream's features; 0: no limit.

    Raises:
        InvalidInputError: it is out of range, or a codec is named as well.
    """
    if not 0 <= bits_per_second < 1 << 64:
        raise InvalidInputError(f"max_link_bits_per_second is {bits_per_second}, not 0 or more")
    if bits_per_second and codec is not None:
        raise InvalidInputError(
            "with max_link_bits_per_second the server chooses the codec: give one of them"
        )
    return bits_per_second


def codec_named(name: Codec | str | None) -> Codec | None:
    """The codec of this name; None for None.

    Raises:
        InvalidInputError: there is none.
    """
    if name is None:
        return None
    with contextlib.suppress(ValueError):
        return Codec(name)
    known = ", ".join(codec.value for codec in Codec)
    raise InvalidInputError(f"unknown codec {name!r}; codecs: {known}")
