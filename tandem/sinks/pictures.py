"""Pictures with boxes drawn."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np

from common.domain.errors import UnavailableError
from common.files import replacing
from tandem.results import FrameResult
from tandem.sinks.base import annotated, told
from tandem.sources import SourceFrame

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png"}


class PictureSink:
    """One annotated picture."""

    def __init__(self, path: Path) -> None:
        """Write to `path`; its suffix is the format."""
        self._path = path

    def write(self, frame: SourceFrame, result: FrameResult) -> None:
        """Write the file; see `Sink`."""
        pixels = annotated(frame, result)
        if pixels is not None:
            _write_picture(self._path, pixels)

    def close(self) -> None:
        """The file is complete already."""


class FolderSink:
    """A folder of annotated pictures, named after the frames."""

    def __init__(self, folder: Path, names: Collection[str] = ()) -> None:
        """Write into `folder`, which exists; `names` are those of the source's files."""
        self._folder = folder
        self._names = names

    def write(self, frame: SourceFrame, result: FrameResult) -> None:
        """Write one file; see `Sink`."""
        name = Path(frame.name).name
        if Path(name).suffix.lower() not in PICTURE_SUFFIXES:
            name = f"{name}.jpg" if name in self._names else f"frame-{result.frame_id:06d}.jpg"
            # Another picture may bear this name already.
            while name in self._names:
                name = f"{Path(name).stem}.boxes.jpg"
        pixels = annotated(frame, result)
        if pixels is not None:
            _write_picture(self._folder / name, pixels)

    def close(self) -> None:
        """All files are complete already."""


def _write_picture(path: Path, pixels: np.ndarray) -> None:
    done, buffer = cv2.imencode(path.suffix, pixels)
    if not done:
        raise UnavailableError(f"{path} cannot be encoded")
    with told(path), replacing(path) as beside:
        beside.write_bytes(buffer.tobytes())
