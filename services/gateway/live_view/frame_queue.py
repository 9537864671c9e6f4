"""The frames of one camera on their way to one viewer: of video, never one without those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from common.domain.video import AccessUnit
from services.gateway.cameras.feed import CameraFrame

MOST_GROUP_BYTES = 4 << 20
"""Of one camera's access units that wait: about two seconds of a 4K camera's."""


class FrameQueue:
    """Frames that a viewer has yet to take.

    Of pictures the newest one wins. Access units are all taken, since later ones need them, until a
    newer group can be shown, or too much waits: then the rest of the group is left out, and it
    goes on with the next key frame.
    """

    def __init__(self, group: Iterable[CameraFrame] = ()) -> None:
        """Begin with the frames since the last key frame; without any, wait for one."""
        self._frames: deque[CameraFrame] = deque()
        self._bytes = 0
        self._needs_key = True
        for frame in group:
            self.put(frame)

    def put(self, frame: CameraFrame) -> None:
        """Let a frame wait to be taken."""
        if not isinstance(frame.picture, AccessUnit) or frame.is_damaged:
            self.lose()
            self._append(frame)
            return
        if frame.picture.key_frame:
            self._needs_key = False
        if self._needs_key:
            return
        self._append(frame)
        if frame.is_shown:
            self._skip_to_latest_group()
        if self._bytes > MOST_GROUP_BYTES:
            self.lose()

    def take(self) -> tuple[CameraFrame, ...]:
        """All up to the newest frame that is to be shown; nothing if none is.

        Either it is one picture, or an access unit that is damaged; or they are access units that
        follow on those taken before, or begin with a key frame.
        """
        count = max((at for at, each in enumerate(self._frames, 1) if each.is_shown), default=0)
        return tuple(self._first() for _ in range(count))

    def lose(self) -> None:
        """What was taken last cannot be followed: wait for the next key frame."""
        self._frames.clear()
        self._bytes = 0
        self._needs_key = True

    def _append(self, frame: CameraFrame) -> None:
        self._frames.append(frame)
        self._bytes += len(frame.picture.data)

    def _first(self) -> CameraFrame:
        frame = self._frames.popleft()
        self._bytes -= len(frame.picture.data)
        return frame

    def _skip_to_latest_group(self) -> None:
        for at in reversed(range(len(self._frames))):
            picture = self._frames[at].picture
            if isinstance(picture, AccessUnit) and picture.key_frame:
                for _ in range(at):
                    self._first()
                return


class LatestGroups:
    """Keeps of each camera the access units since its last key frame, for who joins amid them."""

    def __init__(self) -> None:
        """Nothing has come."""
        self._groups: dict[str, list[CameraFrame]] = {}
        self._bytes: dict[str, int] = {}

    def put(self, frame: CameraFrame) -> None:
        """Take a frame; see `Subscriber`."""
        camera, unit = frame.camera, frame.picture
        if not isinstance(unit, AccessUnit) or frame.is_damaged:
            self._groups.pop(camera, None)
            return
        if unit.key_frame:
            self._groups[camera], self._bytes[camera] = [], 0
        if camera not in self._groups:
            return
        self._groups[camera].append(frame)
        self._bytes[camera] += len(unit.data)
        # Whoever joins then waits for the next key frame.
        if self._bytes[camera] > MOST_GROUP_BYTES:
            del self._groups[camera]

    def of(self, camera: str) -> tuple[CameraFrame, ...]:
        """The group of a camera, as far as it has come; empty if it cannot be joined."""
        return tuple(self._groups.get(camera, ()))
