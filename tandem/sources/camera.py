"""Cameras of this machine, through OpenCV."""

from __future__ import annotations

import cv2

from common.domain.errors import UnavailableError
from tandem.pictures import quiet_opencv
from tandem.sources.reading import LostError, Picture, Reader


class CameraReader(Reader):
    """One opened camera.

    Attributes:
        frames_per_second: as the camera says; None if it does not.
    """

    timed = False

    def __init__(self, device: int | str, name: str) -> None:
        """Open.

        Args:
            device: the camera's number, or its path.
            name: for people.

        Raises:
            UnavailableError: there is none, or another program holds it.
        """
        super().__init__()
        self._capture = _open(device)
        if not self._capture.isOpened():
            raise UnavailableError(f"there is no {name} here, or another program holds it")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.frames_per_second = rate if 0 < rate < float("inf") else None

    def _read(self) -> Picture | None:
        # OpenCV itself waits ten seconds for a frame, no longer.
        try:
            with quiet_opencv():
                grabbed, pixels = self._capture.read()
        except cv2.error as error:
            raise LostError("it delivers no pictures any more") from error
        return Picture(pixels) if grabbed else None

    def _release(self) -> None:
        self._capture.release()


def _open(device: int | str) -> cv2.VideoCapture:
    is_device = isinstance(device, str) and device.startswith("/dev/")
    with quiet_opencv():
        return cv2.VideoCapture(device, cv2.CAP_V4L2 if is_device else cv2.CAP_ANY)
