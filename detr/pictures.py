"""The one reader of picture files: pixels as stored, exactly as the services decode them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.domain.errors import InvalidInputError
from common.domain.frames import EncodedImage
from common.vision.decode import decode_image
from common.vision.headers import read_header
from common.vision.limits import DEFAULT_MAX_PIXELS, ImageSize


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Return a picture's pixels, RGB uint8 [H,W,3]; EXIF orientation is not applied.

    Raises:
        InvalidInputError: it is missing, neither JPEG nor PNG, cut off, damaged or too large.
    """
    data = _read(path)
    try:
        return np.asarray(decode_image(EncodedImage(data), DEFAULT_MAX_PIXELS), np.uint8)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from error


def stored_size(path: Path) -> ImageSize:
    """Return a picture's size as stored, without decoding it; errors as `read_picture`."""
    data = _read(path)
    try:
        return read_header(data, DEFAULT_MAX_PIXELS).size
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InvalidInputError(f"{path} is missing") from error
    # ValueError: a name that no file can have, such as one with a zero byte.
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(f"{str(path)!r} cannot be read: {reason}") from error
