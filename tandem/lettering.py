"""Text as pixels, in any script that the machine has a font for; the rest in Latin letters.

Pillow draws, since OpenCV knows ASCII only.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np
from anyascii import anyascii
from PIL import Image, ImageDraw, ImageFont, features

Font = ImageFont.FreeTypeFont

_FOLDERS = (
    *("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts"),
    *("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts", "C:/Windows/Fonts"),
)
_SUFFIXES = {".ttf", ".otf", ".ttc", ".otc"}
# Plain upright letters are easiest to read on a picture; among those, what covers much.
_PREFERRED = ("dejavusans.", "notosans-regular", "arial.", "liberationsans-regular", "helvetica.")
_STYLED = (
    "bold",
    "italic",
    "oblique",
    "mono",
    "light",
    "thin",
    "condensed",
    "serif",
    "black",
    "math",
)
# Height of a capital letter, as a share of the font's size; nearly all fonts for screens agree.
_CAPITAL_SHARE = 0.72
_PROBE_PIXELS = 20
# No font has a glyph for it, so it shows what stands for a missing one.
_NO_CHARACTER = "\U0010ffff"
# Hebrew to Myanmar, and Khmer: their letters run leftwards or change with their neighbours.
_SHAPED = (range(0x0590, 0x10A0), range(0x1780, 0x1800))
_JOINERS = "\u200c\u200d"


@lru_cache(maxsize=512)
def lettered(text: str, capital_pixels: int) -> np.ndarray:
    """A line of text.

    Args:
        text: as `legible` returns it.
        capital_pixels: height of its capital letters.

    Returns:
        uint8 [height,width]: how much each pixel is covered, 0 to 255; read-only. The height is the
        same for all texts in the same fonts.
    """
    runs = [(run, _font(file, capital_pixels)) for file, run in _runs(text)]
    heights = [font.getmetrics() for _, font in runs] or [(1, 0)]
    ascent, descent = (max(sizes) for sizes in zip(*heights, strict=True))
    widths = [max(font.getlength(run), font.getbbox(run, anchor="ls")[2]) for run, font in runs]
    canvas = Image.new("L", (max(1, -int(-sum(widths) // 1)), ascent + descent))
    pen, left = ImageDraw.Draw(canvas), 0.0
    for (run, font), width in zip(runs, widths, strict=True):
        pen.text((left, ascent), run, fill=255, font=font, anchor="ls")
        left += width
    covered = np.asarray(canvas)
    covered.flags.writeable = False
    return covered


@lru_cache(maxsize=4096)
def legible(text: str) -> str:
    """The text with Latin letters where this machine has no font; empty if nothing is left."""
    parts = (
        cluster if _file_for(cluster) is not None else anyascii(cluster)
        for cluster in _clusters(text)
    )
    return " ".join("".join(parts).split())


def _runs(text: str) -> Iterator[tuple[Path | None, str]]:
    """The text in pieces of one font each; None is the font that Pillow brings along."""
    whole = _file_for(text)
    if whole is not None or not text:
        yield whole or _base_file(), text
        return
    files = ((_file_for(cluster) or _base_file(), cluster) for cluster in _clusters(text))
    for file, pairs in groupby(files, key=lambda pair: pair[0]):
        yield file, "".join(cluster for _, cluster in pairs)


def _clusters(text: str) -> Iterator[str]:
    """Characters, each with the marks that belong to it; what controls the layout is left out."""
    cluster = ""
    for character in unicodedata.normalize("NFC", text):
        category = unicodedata.category(character)
        is_mark = category.startswith("M") or character in _JOINERS
        if category == "Cf" and not is_mark:
            continue
        if cluster and not is_mark:
            yield cluster
            cluster = ""
        cluster += " " if category == "Cc" else character
    if cluster:
        yield cluster


@lru_cache(maxsize=4096)
def _file_for(text: str) -> Path | None:
    """The first font that has every character of it; None if there is none."""
    if any(ord(character) in block for character in text for block in _SHAPED) and not _shapes():
        return None
    return next((file for file in _files() if _covers(file, text)), None)


def _covers(file: Path, text: str) -> bool:
    missing = _glyph(file, _NO_CHARACTER)
    return missing is not None and all(
        character.isspace() or character in _JOINERS or _glyph(file, character) != missing
        for character in text
    )


@lru_cache(maxsize=65536)
def _glyph(file: Path, character: str) -> tuple[tuple[int, int], bytes] | None:
    """A picture of one character by itself; None if the font cannot be used."""
    try:
        mask = _probe(file).getmask(character, mode="1")
        return mask.size, bytes(mask)
    except (OSError, ValueError):
        # A font of pictures in one size, or a damaged one.
        return None


@lru_cache(maxsize=64)
def _probe(file: Path) -> Font:
    return ImageFont.truetype(str(file), _PROBE_PIXELS, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=64)
def _font(file: Path | None, capital_pixels: int) -> Font:
    size = capital_pixels / _CAPITAL_SHARE
    if file is None:
        font = ImageFont.load_default(size)
        if not isinstance(font, Font):
            raise TypeError("Pillow was built without FreeType")
        return font
    return ImageFont.truetype(str(file), size)


def _base_file() -> Path | None:
    return next((file for file in _files() if _covers(file, "Aa0%")), None)


@lru_cache(maxsize=1)
def _files() -> tuple[Path, ...]:
    """All fonts of this machine, the most suitable first."""
    found = [
        Path(folder, name)
        for root in _FOLDERS
        for folder, _, names in os.walk(Path(root).expanduser())
        for name in names
        if Path(name).suffix.lower() in _SUFFIXES
    ]
    return tuple(sorted(found, key=_suitability))


def _suitability(file: Path) -> tuple[int, int, str]:
    name = file.name.lower()
    preferred = next(
        (rank for rank, start in enumerate(_PREFERRED) if name.startswith(start)), len(_PREFERRED)
    )
    return preferred, sum(word in name for word in _STYLED), name


def _shapes() -> bool:
    """Whether Pillow finds the libraries that join letters and turn their direction."""
    return bool(features.check("raqm") and features.check("fribidi"))
