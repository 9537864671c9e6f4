"""One browser that looks at the live view, over a WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from common.domain.errors import CallerError, InvalidInputError
from services.gateway.cameras.feed import Subscription
from services.gateway.live_view.messages import frame_message

STATE_INTERVAL_SECONDS = 1.0
# Frames of one camera on their way to a browser, which says of each that it has shown it. So one
# that is slow, or whose page is hidden, gets fewer frames, and they wait nowhere.
MOST_UNSEEN = 2


class Viewer:
    """Sends a browser the newest frames that it can take, and how all is once a second."""

    def __init__(
        self,
        socket: WebSocket,
        subscription: Subscription,
        state: Callable[[], str],
        cameras: tuple[str, ...],
        check: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            socket: accepted.
            subscription: to the cameras' frames.
            state: tells how all is now, as the page is told it.
            cameras: names of the cameras.
            check: raises AccessDeniedError once the browser's user may not look any more.
        """
        self._socket = socket
        self._subscription = subscription
        self._state = state
        self._cameras = cameras
        self._check = check
        self._unseen: Counter[str] = Counter()

    async def run(self) -> None:
        """Serve until the browser leaves.

        Raises:
            InvalidInputError: it sends what no page of ours sends.
            AccessDeniedError: its user may not look any more.
        """
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
            await self._subscription.wait()
            for camera in self._cameras:
                if self._unseen[camera] >= MOST_UNSEEN:
                    continue
                frame = self._subscription.take(camera)
                if frame is not None:
                    self._unseen[camera] += 1
                    await self._socket.send_bytes(frame_message(frame))

    async def _read(self) -> None:
        while True:
            camera = message_of(await self._socket.receive_text()).get("seen")
            if not isinstance(camera, str) or self._unseen[camera] < 1:
                raise InvalidInputError("a frame was seen that was not sent")
            self._unseen[camera] -= 1
            self._subscription.wake()


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
