"""Pictures: one file, or a folder of them."""

from __future__ import annotations

import io
import stat
import warnings
from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.domain.errors import InvalidInputError, TandemError
from common.domain.frames import EncodedImage
from common.vision.jpeg_markers import JPEG_MAGIC
from common.vision.limits import DEFAULT_MAX_PIXELS
from common.vision.png_chunks import PNG_MAGIC
from tandem.pictures import decode_picture, encode_png
from tandem.sources.base import (
    JPEG_VIDEO_SUFFIXES,
    SourceFrame,
    SourceInfo,
    SourceKind,
    VideoForm,
)

# Picture files that the wire does not carry; they are sent as PNG, which loses nothing.
_CONVERTED_SUFFIXES = {".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".avif"}
# Those that are refused one by one: who has a folder of them shall hear of it.
_REFUSED_SUFFIXES = {".heic", ".heif", ".hif"}
PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png"} | _CONVERTED_SUFFIXES | _REFUSED_SUFFIXES
# A service can be told to take messages as large as this, no larger.
_MOST_BYTES = 1 << 30
_HEAD_BYTES = 256
_ORIENTATION_TAG = 0x0112
_UNDO_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


class PictureSource:
    """One picture file."""

    damaged_frames = 0

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self.info = SourceInfo(name, SourceKind.PICTURE, 1, None, (path,))

    def deliver(self, form: VideoForm) -> None:
        """Pictures come as they are."""

    def __iter__(self) -> Iterator[SourceFrame]:
        yield SourceFrame(self.info.name, load_picture(self._path))

    def close(self) -> None:
        """Nothing is held."""


class FolderSource:
    """The picture files of one folder, by name; folders and hidden files in it are left out.

    One that cannot be read becomes a frame that says why, and the others go on.
    """

    damaged_frames = 0

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in PICTURE_SUFFIXES
            and not (path.name.startswith(".") or path.is_dir())
        )
        if not self._paths:
            raise InvalidInputError(f"the folder {folder} holds no pictures (JPEG or PNG)")
        name = folder.resolve().name
        self.info = SourceInfo(name, SourceKind.FOLDER, len(self._paths), None, tuple(self._paths))

    def deliver(self, form: VideoForm) -> None:
        """Pictures come as they are."""

    def __iter__(self) -> Iterator[SourceFrame]:
        for path in self._paths:
            frame = SourceFrame(readable_name(path.name), EncodedImage(b""))
            try:
                yield replace(frame, content=load_picture(path))
            except TandemError as error:
                yield replace(frame, content=error)

    def close(self) -> None:
        """Nothing is held."""


def is_picture(path: Path) -> bool:
    """What a file is, by its content; by its name if that says nothing."""
    if path.name.lower().endswith(JPEG_VIDEO_SUFFIXES):
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith((JPEG_MAGIC, PNG_MAGIC)) or heif_kind(head) is not None:
        return True
    return path.suffix.lower() in PICTURE_SUFFIXES


def load_picture(path: Path) -> EncodedImage:
    """A JPEG or PNG file as it is, whatever is in it: the server's answer says what is wrong.

    Other pictures become PNG, their pixels as they are stored.

    Raises:
        InvalidInputError: it cannot be read, or is of a kind that is not taken, naming it.
    """
    name = readable_name(str(path))
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInputError(f"{name} is not a file")
        if status.st_size > _MOST_BYTES:
            raise InvalidInputError(
                f"{name} has {status.st_size >> 20} MiB, more than a picture can have"
            )
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{name} cannot be read: {error.strerror}") from error
    if data.startswith((JPEG_MAGIC, PNG_MAGIC)):
        return EncodedImage(data)
    kind = heif_kind(data[:_HEAD_BYTES])
    if kind is not None and kind is not HeifKind.AVIF:
        raise InvalidInputError(refusal(name, kind))
    if kind is None and path.suffix.lower() not in _CONVERTED_SUFFIXES:
        return EncodedImage(data)
    return _converted(data, name)


def readable_name(name: str) -> str:
    """A name for people: what is no text, or would move the terminal's cursor, is replaced."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _converted(data: bytes, name: str) -> EncodedImage:
    unreadable = f"{name} is not a picture that OpenCV can read"
    try:
        header = _Header.of(data)
    except Image.DecompressionBombError as error:
        raise InvalidInputError(
            f"{name} has more pixels than the limit of {DEFAULT_MAX_PIXELS}"
        ) from error
    except Exception as error:
        # Pillow's readers raise of all kinds.
        raise InvalidInputError(unreadable) from error
    if header.width * header.height > DEFAULT_MAX_PIXELS:
        raise InvalidInputError(
            f"{name} is {header.width} x {header.height} pixels, "
            f"{header.width * header.height} in all; the limit is {DEFAULT_MAX_PIXELS}"
        )
    if header.pictures > 1:
        raise InvalidInputError(
            f"{name} holds {header.pictures} pictures: make a video or single pictures of it first"
        )
    try:
        pixels = decode_picture(EncodedImage(data))
    except TandemError as error:
        raise InvalidInputError(unreadable) from error
    return encode_png(_as_stored(pixels, header) if header.format == "TIFF" else pixels)


class _Header(NamedTuple):
    """What a file says before it is decoded."""

    format: str | None
    width: int
    height: int
    pictures: int
    orientation: int

    @classmethod
    def of(cls, data: bytes) -> _Header:
        with warnings.catch_warnings():
            # Our own limit is lower than the one that it warns of.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as picture:
                orientation = picture.getexif().get(_ORIENTATION_TAG, 1)
                return cls(
                    picture.format, *picture.size, getattr(picture, "n_frames", 1), orientation
                )


def _as_stored(pixels: np.ndarray, header: _Header) -> np.ndarray:
    """Undo what OpenCV does to a TIFF with an orientation, even when it is told not to."""
    undo = _UNDO_ORIENTATION.get(header.orientation)
    if undo is None:
        return pixels
    return np.ascontiguousarray(Image.fromarray(pixels).transpose(undo))


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
