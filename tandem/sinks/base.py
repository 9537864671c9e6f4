"""What every sink has in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import av
import numpy as np

from common.domain.errors import InvalidInputError, TandemError, UnavailableError
from common.files import Replacement
from tandem.drawing import draw_detections
from tandem.pictures import decode_picture
from tandem.results import FrameResult
from tandem.sources import SourceFrame
from tandem.sources.ffmpeg import reason


class Sink(Protocol):
    """Takes each frame with its result, in order."""

    @abstractmethod
    def write(self, frame: SourceFrame, result: FrameResult) -> None:
        """Add one frame; blocks.

        A frame that was not served is shown without boxes; one that is no picture is left out.

        Raises:
            TandemError: it cannot be written.
        """

    @abstractmethod
    def close(self) -> None:
        """Complete the file, however the run ended; without a frame there is none.

        Raises:
            TandemError: it cannot be stored; what had its name before stays.
        """


def annotated(frame: SourceFrame, result: FrameResult) -> np.ndarray | None:
    """The very picture that was sent, with its detections.

    Returns:
        HxWx3, uint8, BGR; None if it is no picture, for which the server has refused it.

    Raises:
        InvalidInputError: the frame is no picture, though it was served.
    """
    if isinstance(frame.content, TandemError):
        return None
    try:
        return draw_detections(decode_picture(frame.image), result.detections)
    except InvalidInputError:
        if result.error is None:
            raise
        return None


def settle(replacement: Replacement, is_whole: bool) -> None:
    """Give a file its name, or remove it."""
    if is_whole:
        replacement.complete()
    else:
        replacement.discard()


@contextmanager
def told(path: Path) -> Iterator[None]:
    """What goes wrong with a file, as a sentence that names it."""
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        raise UnavailableError(f"{path} cannot be written: {reason(error)}") from error
