"""One browser that looks at the live view, over a WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from common.domain.errors import CallerError, InvalidInputError
from common.domain.video import VideoCodec
from services.gateway.cameras.feed import CameraFeed, CameraFrame
from services.gateway.live_view.frame_queue import FrameQueue, LatestGroups
from services.gateway.live_view.messages import frame_message
from services.gateway.live_view.stills import Stills

STATE_INTERVAL_SECONDS = 1.0
# Messages of one camera on their way to a browser, which says of each that it has shown it. So one
# that is slow, or whose page is hidden, gets fewer frames, and they wait nowhere.
MOST_UNSEEN = 2

CountBytes = Callable[[CameraFrame, int], None]


@dataclass(frozen=True)
class Shown:
    """What all browsers see.

    Attributes:
        feed: the cameras' frames.
        groups: of video, those since the last key frame.
        stills: the same as pictures.
        count_bytes: told what was sent to a browser.
    """

    feed: CameraFeed
    groups: LatestGroups
    stills: Stills
    count_bytes: CountBytes


class Viewer:
    """Sends a browser the newest frames that it can take, and how all is once a second.

    Video that it decodes comes as access units, else as JPEG.
    """

    def __init__(
        self,
        socket: WebSocket,
        shown: Shown,
        decodes: frozenset[VideoCodec],
        state: Callable[[], str],
        check: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            socket: accepted.
            shown: what is to be seen.
            decodes: which video the browser decodes by itself.
            state: tells how all is now, as the page is told it.
            check: raises AccessDeniedError once the browser's user may not look any more.
        """
        self._socket = socket
        self._shown = shown
        self._decodes = decodes
        self._state = state
        self._check = check
        self._queues: dict[str, FrameQueue] = {}
        self._as_stills: set[str] = set()
        self._undecodable: set[str] = set()
        self._watching = ExitStack()
        self._unseen: Counter[str] = Counter()
        self._come = asyncio.Event()

    async def run(self) -> None:
        """Serve until the browser leaves.

        Raises:
            InvalidInputError: it sends what no page of ours sends.
            AccessDeniedError: its user may not look any more.
        """
        for state in self._shown.feed.states:
            self._join(state.name)
        with self._watching:
            self._watching.enter_context(self._shown.feed.telling(self))
            await self._serve()

    def put(self, frame: CameraFrame) -> None:
        """Take a frame; see `Subscriber`."""
        video, camera = frame.video, frame.camera
        if video is None:
            self._put(frame)
        elif camera in self._undecodable or video.codec not in self._decodes:
            if camera not in self._as_stills:
                self._as_stills.add(camera)
                self._watching.enter_context(self._shown.stills.watching(camera, self._put))
        else:
            self._put(frame)

    def _put(self, frame: CameraFrame) -> None:
        self._queues.setdefault(frame.camera, FrameQueue()).put(frame)
        self._come.set()

    def _join(self, camera: str) -> None:
        """Begin with what a camera has shown since its last key frame."""
        self._queues[camera] = FrameQueue()
        for frame in self._shown.groups.of(camera):
            self.put(frame)

    async def _serve(self) -> None:
        tasks = [
            asyncio.create_task(work)
            for work in (self._send_states(), self._send_frames(), self._read())
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, CallerError):
                raise result
        for task in done:
            error = task.exception()
            if error is not None and not isinstance(error, WebSocketDisconnect):
                raise error

    async def _send_states(self) -> None:
        while True:
            self._check()
            await self._socket.send_text(self._state())
            await asyncio.sleep(STATE_INTERVAL_SECONDS)

    async def _send_frames(self) -> None:
        while True:
            for camera, queue in tuple(self._queues.items()):
                if self._unseen[camera] < MOST_UNSEEN and (frames := queue.take()):
                    await self._send(camera, frames)
            await self._come.wait()
            self._come.clear()

    async def _send(self, camera: str, frames: Sequence[CameraFrame]) -> None:
        message = frame_message(frames)
        self._unseen[camera] += 1
        self._shown.count_bytes(frames[-1], len(message))
        await self._socket.send_bytes(message)

    async def _read(self) -> None:
        while True:
            message = await message_from(self._socket)
            camera = message.get("seen")
            if not isinstance(camera, str) or self._unseen[camera] < 1:
                raise InvalidInputError("a frame was seen that was not sent")
            self._unseen[camera] -= 1
            if message.get("cannot"):
                self._undecodable.add(camera)
            if message.get("lost") or message.get("cannot"):
                self._queues[camera].lose()
            self._come.set()


async def message_from(socket: WebSocket) -> dict[str, Any]:
    """The next message of a page.

    Raises:
        InvalidInputError: it is no text, or no JSON object.
        WebSocketDisconnect: the page has left.
    """
    try:
        return message_of(await socket.receive_text())
    except KeyError:
        raise InvalidInputError("a message is text") from None


def message_of(text: str) -> dict[str, Any]:
    """What a page sent.

    Raises:
        InvalidInputError: it is no JSON object.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise InvalidInputError("a message is a JSON object")
    return message
