"""Boxes with names and scores on a picture."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from common.domain.detections import Box, Detection
from tandem.lettering import legible, lettered

Colour = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]

# Shares of the picture's short side, and the smallest that can be read or seen.
_LETTER_SHARE, _LETTER_MIN_PIXELS = 0.022, 9.0
_LINE_SHARE, _LINE_MIN_PIXELS = 0.004, 2
# Smaller pictures are enlarged before drawing, as long as they stay moderately large.
_SHORT_SIDE_WANTED_PIXELS, _LONG_SIDE_ALLOWED_PIXELS = 320, 1280
_GOLDEN_RATIO = 0.618033988749895
_BLACK: Colour = (0, 0, 0)
_WHITE: Colour = (255, 255, 255)


@dataclass(frozen=True)
class _Style:
    """Sizes in pixels that suit one picture's size."""

    line: int
    capital: int
    padding: int

    @classmethod
    def for_picture(cls, height: int, width: int) -> _Style:
        short = min(height, width)
        letter = max(_LETTER_MIN_PIXELS, _LETTER_SHARE * short)
        return cls(
            line=max(_LINE_MIN_PIXELS, round(_LINE_SHARE * short)),
            capital=round(letter),
            padding=max(1, round(letter / 6)),
        )


@dataclass(frozen=True)
class _Label:
    """Letters ([height,width], 0 to 255) in a filled rectangle (left, top, right, bottom)."""

    letters: np.ndarray
    rectangle: Rectangle


def draw_detections(pixels: np.ndarray, detections: Iterable[Detection]) -> np.ndarray:
    """Draw every detection; the highest score on top.

    Lines and letters grow with the picture; a small picture is enlarged first, since letters
    that can be read would hide it. A label stands above its box, in it or under it, wherever it
    covers no other label and does not leave the picture; a name wider than the picture is cut.

    Args:
        pixels: HxWx3, uint8, BGR; left as it is.
        detections: boxes in its pixels.

    Returns:
        A new picture, BGR, a whole number of times (mostly 1) as high and wide.
    """
    factor = enlargement(*pixels.shape[:2])
    drawn = np.ascontiguousarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))
    height, width = drawn.shape[:2]
    style = _Style.for_picture(height, width)
    scaled = (_scaled(detection, factor) for detection in detections)
    best_first = sorted(scaled, key=lambda detection: -detection.score)
    for detection in reversed(best_first):
        _draw_box(drawn, detection.box, category_colour(detection.category_id), style.line)
    labels: list[tuple[_Label, Colour]] = []
    for detection in best_first:
        taken = [label.rectangle for label, _ in labels]
        label = _place_label(detection, height, width, style, taken)
        if label is not None:
            labels.append((label, category_colour(detection.category_id)))
    for label, colour in reversed(labels):
        _draw_label(drawn, label, colour, style)
    return drawn


def enlargement(height: int, width: int) -> int:
    """How many times a picture of this size (pixels) is enlarged before drawing."""
    wanted = -(-_SHORT_SIDE_WANTED_PIXELS // min(height, width))
    return max(1, min(wanted, _LONG_SIDE_ALLOWED_PIXELS // max(height, width)))


def category_colour(category_id: int) -> Colour:
    """A category's own colour (BGR), the same in every picture and far from its neighbours'."""
    hue = category_id * _GOLDEN_RATIO % 1.0
    # Two rings of lightness keep categories apart whose hues come close.
    value = 1.0 if category_id % 2 else 0.8
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, value)
    return round(blue * 255), round(green * 255), round(red * 255)


def _scaled(detection: Detection, factor: int) -> Detection:
    box = Box(*(factor * value for value in vars(detection.box).values()))
    return replace(detection, box=box)


def _draw_box(drawn: np.ndarray, box: Box, colour: Colour, line: int) -> None:
    """Draw a box's lines within the picture, so that a box at the border stays visible."""
    height, width = drawn.shape[:2]
    inset = line // 2
    left = min(max(round(box.x_min), inset), width - 1 - inset)
    top = min(max(round(box.y_min), inset), height - 1 - inset)
    right = min(max(round(box.x_max), inset), width - 1 - inset)
    bottom = min(max(round(box.y_max), inset), height - 1 - inset)
    cv2.rectangle(drawn, (left, top), (right, bottom), colour, line, cv2.LINE_AA)


def _place_label(
    detection: Detection, height: int, width: int, style: _Style, taken: list[Rectangle]
) -> _Label | None:
    letters = _fit_text(detection, width, style)
    if letters is None:
        return None
    label_height, label_width = (size + 2 * style.padding for size in letters.shape)
    box = detection.box
    edge = style.line - style.line // 2
    lefts = (round(box.x_min) - edge, round(box.x_max) + edge - label_width)
    tops = (
        round(box.y_min) - edge - label_height,
        round(box.y_min) + edge,
        round(box.y_max) + edge,
        round(box.y_max) - edge - label_height,
    )
    lowest, rightmost = max(0, height - label_height), max(0, width - label_width)
    inside = [top for top in tops if 0 <= top <= lowest] or [min(max(tops[1], 0), lowest)]
    corners = ((min(max(left, 0), rightmost), top) for top in inside for left in lefts)
    rectangles = [(left, top, left + label_width, top + label_height) for left, top in corners]
    free = [one for one in rectangles if not any(_overlap(one, other) for other in taken)]
    return _Label(letters, (free or rectangles)[0])


def label_name(detection: Detection) -> str:
    """Its category, and its number where it is followed."""
    name = legible(detection.category_name) or f"category {detection.category_id}"
    return name if detection.track_id is None else f"{name} #{detection.track_id}"


def label_text(detection: Detection) -> str:
    """All that a label tells, where there is room."""
    return f"{label_name(detection)} {detection.score:.0%}"


def _fit_text(detection: Detection, width: int, style: _Style) -> np.ndarray | None:
    """The longest form of the label that fits into the picture, as letters."""
    name = label_name(detection)
    shortened = (name[:length] for length in range(len(name) - 1, 0, -1))
    for text in (label_text(detection), name, *shortened):
        letters = lettered(text, style.capital)
        if letters.shape[1] + 2 * style.padding <= width:
            return letters
    return None


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _draw_label(drawn: np.ndarray, label: _Label, colour: Colour, style: _Style) -> None:
    left, top, right, bottom = label.rectangle
    cv2.rectangle(drawn, (left, top), (right, bottom), colour, cv2.FILLED)
    text_colour = np.array(_BLACK if _luminance(colour) > 0.4 else _WHITE)
    height, width = label.letters.shape
    inside = drawn[top + style.padding :, left + style.padding :][:height, :width]
    # A label may be higher than a very flat picture.
    covered = label.letters[: inside.shape[0], : inside.shape[1], None] / 255
    inside[:] = np.round(covered * text_colour + (1 - covered) * inside)


def _luminance(colour: Colour) -> float:
    """Relative luminance of a BGR colour, 0 to 1 (ITU-R BT.709, without gamma)."""
    blue, green, red = (channel / 255 for channel in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
