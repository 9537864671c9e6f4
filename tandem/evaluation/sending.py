"""How a picture of the set is sent: as it is, or as a JPEG of a given quality and size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.bundle import InputPolicy
from common.domain.errors import InvalidInputError
from common.domain.frames import EncodedImage, Image
from common.vision.preprocess import resized_size
from common.vision.resize import resize_bilinear
from tandem.evaluation.picture_set import Picture
from tandem.pictures import decode_picture, encode_jpeg


@dataclass(frozen=True)
class JpegSending:
    """Encode each picture anew.

    Attributes:
        quality: 1 to 100.
        policy: reduce it first to the size that a model of this input policy sees; None: leave
            its size.
    """

    quality: int
    policy: InputPolicy | None = None


@dataclass(frozen=True)
class SentPicture:
    """What goes over the wire.

    Attributes:
        image: what the client sends.
        scale_x: boxes come in the sent picture's pixels; times this they are in the set's.
        scale_y: likewise.
        link_bytes: what crosses the link for it, where that is not what the client sends; None:
            as the services count.
    """

    image: Image
    scale_x: float = 1.0
    scale_y: float = 1.0
    link_bytes: int | None = None


def load(picture: Picture, jpeg: JpegSending | None) -> SentPicture:
    """Read a picture and make it ready to be sent.

    One that cannot be decoded goes as it is: the server's answer says what is wrong.

    Raises:
        InvalidInputError: the file cannot be read.
    """
    try:
        image = EncodedImage(picture.path.read_bytes())
    except OSError as error:
        raise InvalidInputError(f"{picture.path} cannot be read: {error.strerror}") from error
    if jpeg is None:
        return SentPicture(image)
    try:
        bgr = decode_picture(image)
    except InvalidInputError:
        return SentPicture(image)
    return as_jpeg(bgr, jpeg)


def as_jpeg(bgr: np.ndarray, jpeg: JpegSending) -> SentPicture:
    """Reduce and encode a frame, [H,W,3] uint8."""
    small = reduced(bgr, jpeg.policy)
    return SentPicture(
        encode_jpeg(small, jpeg.quality),
        scale_x=bgr.shape[1] / small.shape[1],
        scale_y=bgr.shape[0] / small.shape[0],
    )


def reduced(bgr: np.ndarray, policy: InputPolicy | None) -> np.ndarray:
    """[H,W,3] to the size that the network sees, never enlarged."""
    if policy is None:
        return bgr
    height, width = bgr.shape[:2]
    seen_height, seen_width = resized_size(height, width, policy)
    return resize_bilinear(bgr, min(height, seen_height), min(width, seen_width))
