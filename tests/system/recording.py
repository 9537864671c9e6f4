"""Clients that write down when each frame was answered, and how long they had to wait."""

import asyncio
import itertools
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import AsyncIterator, Dict, List, Sequence

from client.detector import DetectorClient
from client.results import FrameResult
from common.domain.stream import OverloadPolicy
from tests.streams import jpeg
from tests.system.faults import Event


@dataclass
class Camera:
    """One client.

    Attributes:
        fps: frames a second of a live one; 0: as fast as they are taken, none dropped.
        sent: frames, so far.
        ids: of the frames answered, as they came.
        outcomes: counted; an error by its text.
        served_at: when each detection came; `time.monotonic`.
        gaps: of `served_at`, once it has ended.
    """

    name: str
    fps: float = 0.0
    placement: str = "auto"
    sent: int = 0
    ids: List[int] = field(default_factory=list)
    outcomes: "Counter[str]" = field(default_factory=Counter)
    served_at: List[float] = field(default_factory=list)

    async def run(self, address: str, ended: asyncio.Event) -> None:
        """Stream until `ended`, and take every answer."""
        overload = OverloadPolicy.DROP_OLDEST if self.fps else OverloadPolicy.BLOCK
        async with DetectorClient(address) as client:
            async for result in client.detect(
                self._frames(ended), placement=self.placement, overload=overload
            ):
                self._take(result)

    async def _frames(self, ended: asyncio.Event) -> AsyncIterator[bytes]:
        due = time.monotonic()
        for picture in itertools.cycle([jpeg(seed) for seed in range(8)]):
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
        elif result.dropped:
            self.outcomes["dropped"] += 1
        else:
            self.outcomes["detections"] += 1
            self.served_at.append(time.monotonic())


def longest_gaps(served_at: Sequence[float], events: Sequence[Event]) -> Dict[Event, float]:
    """The longest time without a detection that each event caused.

    A gap belongs to the first event within it, and else to the last one before.
    """
    longest: Dict[Event, float] = {}
    for before, after in itertools.pairwise(served_at):
        within = [event for event in events if before < event.at <= after]
        earlier = [event for event in events if event.at <= before]
        if not within and not earlier:
            continue
        event = within[0] if within else earlier[-1]
        longest[event] = max(longest.get(event, 0.0), after - before)
    return longest


def table(gaps: Dict[str, Sequence[float]]) -> List[str]:
    """Count, median and longest of the gaps of each kind of event."""
    return [
        f"{kind:12} {len(seconds):3}  median {statistics.median(seconds):5.2f} s"
        f"  longest {max(seconds):5.2f} s"
        for kind, seconds in sorted(gaps.items())
    ]
