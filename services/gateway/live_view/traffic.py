"""What crosses each link now, by the timing of the cameras' frames."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tandem.results import FrameResult

_WINDOW_SECONDS = 5.0
ORCHESTRATOR = "orchestrator"


@dataclass(frozen=True)
class LinkTraffic:
    """What goes from one place to another.

    Attributes:
        source: the sender: a node's name, or `orchestrator`.
        destination: the receiver: a node's name. Of features it may be the sender itself.
        content: `frames` or `features`.
        bytes_per_second: over the last seconds.
        frames_per_second: likewise.
    """

    source: str
    destination: str
    content: str
    bytes_per_second: float
    frames_per_second: float


class Traffic:
    """Adds up what the latest frames took of each link."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing has crossed; `clock` is in seconds."""
        self._clock = clock
        self._crossings: deque[tuple[float, tuple[str, str, str], int]] = deque()

    def note(self, result: FrameResult) -> None:
        """Note the way that a frame took."""
        backbone, transformer = result.timing.backbone, result.timing.transformer
        pair = result.node_pair
        if pair is None:
            return
        now = self._clock()
        if backbone is not None:
            link = (ORCHESTRATOR, pair.backbone, "frames")
            self._crossings.append((now, link, backbone.request_bytes))
        if transformer is not None:
            link = (pair.backbone, pair.transformer, "features")
            self._crossings.append((now, link, transformer.request_bytes))
        self._forget(now)

    def links(self) -> tuple[LinkTraffic, ...]:
        """What goes over each link, those in use alone; in the order of their names."""
        self._forget(self._clock())
        found: dict[tuple[str, str, str], list[int]] = {}
        for _, link, size in self._crossings:
            found.setdefault(link, []).append(size)
        return tuple(
            LinkTraffic(*link, sum(sizes) / _WINDOW_SECONDS, len(sizes) / _WINDOW_SECONDS)
            for link, sizes in sorted(found.items())
        )

    def _forget(self, now: float) -> None:
        while self._crossings and self._crossings[0][0] < now - _WINDOW_SECONDS:
            self._crossings.popleft()
