"""What was read from what moves, as the frame that is sent; and what a user is told of it."""

from __future__ import annotations

from common.domain.frames import Image, PixelFormat, RawImage
from tandem.pictures import encode_jpeg
from tandem.sources.base import SourceFrame, SourceOptions, Tell, VideoForm
from tandem.sources.readers import EncodedPicture, Picture, ReadFrame


class Damage:
    """Tells of damaged frames: of the first, then whenever there are twice as many."""

    def __init__(self, name: str, tell: Tell) -> None:
        self._name, self._tell, self._next = name, tell, 1

    def note(self, damaged: int) -> None:
        """So many frames were left out so far."""
        if damaged >= self._next:
            self._next = 2 * damaged
            frames = "1 damaged frame" if damaged == 1 else f"{damaged} damaged frames"
            self._tell(f"{self._name}: {frames} left out so far")


def sent_as_jpeg(name: str, why: str) -> str:
    """What a user is told whose video is not passed through."""
    return f"{name}: its frames are sent as JPEG: {why}"


def source_frame(
    name: str, read: ReadFrame, seconds: float | None, form: VideoForm, options: SourceOptions
) -> SourceFrame:
    """A frame to be sent, in the form that was asked for."""
    if isinstance(read, EncodedPicture):
        duration, decode = read.duration_seconds, read.decode
        return SourceFrame(name, read.unit, seconds, duration, read.video, decode)
    return SourceFrame(name, _image(read, form, options), seconds, read.duration_seconds)


def _image(picture: Picture, form: VideoForm, options: SourceOptions) -> Image:
    if form is not VideoForm.PIXELS:
        return encode_jpeg(picture.pixels, options.jpeg_quality)
    height, width = picture.pixels.shape[:2]
    return RawImage(width, height, PixelFormat.BGR8, picture.pixels.tobytes())
