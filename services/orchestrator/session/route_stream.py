"""One stream along a route, and the frames under way on it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import List, Optional

from common.domain.codec import Codec
from common.domain.errors import UnavailableError
from common.wire.stage_client import StageStream


@dataclass(eq=False)
class RouteStream:
    """A stream along a route, or its opening, and the frames under way on it.

    Attributes:
        opening: gives the stream.
        codec: by which its features travel; None is the bundle's default.
        frames: of each a mark, in the order asked.
        extra_seconds: that they may take, all together, since they are large.
        progress: when the oldest of them was answered last, or one came to an idle stream, or it
            began to open; by `time.monotonic`. Not one of the others: a stage that passes over a
            frame would seem to make progress while its client waits for just that frame.
        given_up: why the route was given up; None while it is not.
        was_used: whether any frame has been on it.
    """

    opening: asyncio.Task[StageStream]
    codec: Optional[Codec] = None
    frames: List[object] = field(default_factory=list)
    extra_seconds: float = 0.0
    progress: float = field(default_factory=time.monotonic)
    given_up: Optional[UnavailableError] = None
    was_used: bool = False

    @property
    def ended(self) -> bool:
        """Whether another has to be opened: it could not be, or its stream ended since."""
        if self.given_up is not None:
            return True
        if not self.opening.done():
            return False
        failed = self.opening.cancelled() or self.opening.exception() is not None
        return failed or self.opening.result().lost

    @property
    def open(self) -> bool:
        """Whether a frame can be sent without waiting for the opening."""
        return self.opening.done() and not self.ended

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way, not even its opening."""
        return self.opening.done() and not self.frames

    def give_up(self, error: UnavailableError) -> None:
        """Fail the frames under way on it."""
        self.given_up = error
        if self.opening.done():
            self.opening.result().abandon()
        else:
            self.opening.cancel()
