"""Clients that stream until told to end, and write down what they were answered."""

import asyncio
import itertools
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass, field
from typing import AsyncIterator, Callable, Dict, List, Optional

import numpy as np

from common.domain.detections import OverloadPolicy
from common.domain.placement import NodePair
from tandem.client import DetectorClient
from tandem.results import FrameResult
from tests.streams import jpeg
from tests.waiting import PATIENCE_SECONDS

PICTURES = 8
"""How many pictures a camera shows in turn: frame n is picture n modulo this."""


@dataclass
class Camera:
    """One client.

    Attributes:
        fps: frames a second of a live one; 0: as fast as they are taken, none dropped.
        placement: that it asks for.
        codec: that it asks for; None leaves it to the server.
        sent: frames, so far.
        ids: of the frames answered, as they came.
        outcomes: counted; an error by its text.
        served_at: when each detection came; `time.monotonic`.
        failed_at: when each error came.
        latencies: of the detections, in the server; seconds.
        pair: nodes that served the latest of them.
        boxes: of every frame with detections, by its id; float64 [n,4], pixels.
    """

    name: str
    fps: float = 0.0
    placement: str = "auto"
    codec: Optional[str] = None
    sent: int = 0
    ids: List[int] = field(default_factory=list)
    outcomes: "Counter[str]" = field(default_factory=Counter)
    served_at: List[float] = field(default_factory=list)
    failed_at: List[float] = field(default_factory=list)
    latencies: List[float] = field(default_factory=list)
    pair: Optional[NodePair] = None
    boxes: Dict[int, np.ndarray] = field(default_factory=dict)
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, address: str, ended: asyncio.Event) -> None:
        """Stream until `ended`, and take every answer."""
        overload = OverloadPolicy.DROP_OLDEST if self.fps else OverloadPolicy.BLOCK
        async with DetectorClient(address) as client:
            async for result in client.detect(
                self._frames(ended),
                placement=self.placement,
                overload=overload,
                codec=self.codec,
            ):
                self._take(result)

    async def _frames(self, ended: asyncio.Event) -> AsyncIterator[bytes]:
        due = time.monotonic()
        for picture in itertools.cycle([jpeg(seed) for seed in range(PICTURES)]):
            if ended.is_set():
                return
            if self.fps:
                due += 1 / self.fps
                await asyncio.sleep(due - time.monotonic())
            self.sent += 1
            yield picture

    def _take(self, result: FrameResult) -> None:
        self.ids.append(result.frame_id)
        if result.error is not None:
            self.outcomes[f"error: {result.error}"] += 1
            self.failed_at.append(time.monotonic())
        elif result.dropped:
            self.outcomes["dropped"] += 1
        else:
            self.outcomes["detections"] += 1
            self.served_at.append(time.monotonic())
            self.latencies.append(result.timing.total_seconds)
            self.pair = result.node_pair
            boxes = [astuple(each.box) for each in result.detections]
            self.boxes[result.frame_id] = np.array(boxes).reshape(-1, 4)
        self._came.set()

    async def until(self, condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Wait for an answer after which `condition` holds."""
        end = time.monotonic() + seconds
        while not condition():
            self._came.clear()
            await asyncio.wait_for(self._came.wait(), end - time.monotonic())

    async def served(self, more: int) -> None:
        """Wait for so many more detections."""
        enough = len(self.served_at) + more
        await self.until(lambda: len(self.served_at) >= enough)


@asynccontextmanager
async def streaming(address: str, *cameras: Camera) -> AsyncIterator[None]:
    """Let the cameras stream meanwhile; afterwards all their frames have been answered in order."""
    ended = asyncio.Event()
    streams = [asyncio.ensure_future(each.run(address, ended)) for each in cameras]
    try:
        yield
    finally:
        ended.set()
        await asyncio.gather(*streams)
    for camera in cameras:
        assert camera.ids == list(range(camera.sent)), camera.name


async def boxes_of_pictures(address: str, codec: str) -> List[np.ndarray]:
    """The boxes of each of a camera's pictures while nothing disturbs it."""
    camera = Camera("undisturbed", codec=codec)
    async with streaming(address, camera):
        await camera.served(2 * PICTURES)
    for number, boxes in camera.boxes.items():
        np.testing.assert_allclose(boxes, camera.boxes[number % PICTURES], atol=1e-3)
    return [camera.boxes[number] for number in range(PICTURES)]


def assert_own_boxes(camera: Camera, expected: List[np.ndarray]) -> None:
    """Every frame with detections has the boxes of its own picture, to 1e-3 pixels.

    Args:
        camera: that has streamed.
        expected: of each picture that it shows in turn.
    """
    # Or equal boxes would say little.
    for one, other in zip(expected, expected[1:]):
        assert one.shape != other.shape or np.abs(one - other).max() > 1
    for number, boxes in camera.boxes.items():
        own = expected[number % len(expected)]
        assert boxes.shape == own.shape, f"{camera.name}, frame {number}"
        np.testing.assert_allclose(boxes, own, atol=1e-3, err_msg=f"{camera.name}, frame {number}")
