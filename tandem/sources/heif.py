"""AVIF and HEIC: the files of phones, often made of tiles (ISO/IEC 23008-12).

FFmpeg reads them as videos, one stream a tile, of which one would be detected on. So they are told
apart by their brands, before anything decodes them.
"""

from __future__ import annotations

from enum import Enum

# Brands that say nothing about the codec; those that follow do.
_STRUCTURAL = {b"mif1", b"mif2", b"msf1", b"miaf", b"MiHE", b"1pic"}
_AVIF = {b"avif"}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"jpeg", b"jpgs", b"j2ki", b"vvic", b"evbi", b"avci"}
_SEQUENCE = {b"avis", b"hevc", b"hevx", b"hevm", b"hevs", b"avcs", b"j2is", b"vvis"}


class HeifKind(Enum):
    """What is in the container; the value is for people."""

    AVIF = "AVIF picture"
    HEIC = "HEIC picture"
    SEQUENCE = "sequence of AVIF or HEIC pictures"


def heif_kind(head: bytes) -> HeifKind | None:
    """The kind of a file that begins so; None if it is none of them."""
    if head[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return kind_of_brands(head[8:12], [head[at : at + 4] for at in range(16, end, 4)])


def kind_of_brands(major: bytes, compatible: list[bytes]) -> HeifKind | None:
    """The same, of a file's brands."""
    if major in _SEQUENCE:
        return HeifKind.SEQUENCE
    if major in _AVIF:
        return HeifKind.AVIF
    if major in _HEIC:
        return HeifKind.HEIC
    if major not in _STRUCTURAL:
        return None
    if major == b"msf1":
        return HeifKind.SEQUENCE
    return HeifKind.AVIF if _AVIF.intersection(compatible) else HeifKind.HEIC


def refusal(name: str, kind: HeifKind) -> str:
    """Why a file is not taken, and what to do."""
    is_sequence = kind is HeifKind.SEQUENCE
    wanted = "a video" if is_sequence else "JPEG or PNG"
    is_a = "is a" if is_sequence else "is an"
    return f"{name} {is_a} {kind.value}, which Tandem does not read: convert it to {wanted}"
