"""Faults of a running cluster at random, never so many that no placement is complete.

Between them the placement is switched by hand, and left to the orchestrator again.
"""

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Dict, List, Optional, Set

from common.domain.errors import UnavailableError
from protos.tandem.v1 import operations_pb2
from tandem.client import DetectorClient
from tests.harness import Cluster
from tests.streams import status
from tests.system.cuttable import CuttableLink

LINK = "link"
# What each placement needs while the orchestrator is beside the edge.
NEEDS = {
    "full": {"edge.backbone", "edge.transformer"},
    "backbone": {"edge.backbone", LINK, "workstation.transformer"},
    "transformer": {LINK, "workstation.backbone", "edge.transformer"},
    "workstation": {LINK, "workstation.backbone", "workstation.transformer"},
}
MOST_AT_ONCE = 2
# From one event to the next; each has to be got over by then.
PAUSE_SECONDS = (5.0, 7.0)
# Of each pause, for how long one placement is set, and how long the choice is free after that.
SWITCHED_SECONDS, FREE_SECONDS = 1.0, 1.0
# Of the faults, how many are of something in use: the others go by unnoticed.
IN_USE_SHARE = 0.75


@dataclass(frozen=True)
class Event:
    """Something that broke, or that was mended; `at` by `time.monotonic`."""

    at: float
    kind: str
    part: str


def complete_placements(lost: Set[str]) -> List[str]:
    return [name for name, needs in NEEDS.items() if not needs & lost]


class Chaos:
    """Breaks and mends parts of a cluster.

    Attributes:
        events: so far.
    """

    def __init__(self, cluster: Cluster, link: Optional[CuttableLink], seed: int) -> None:
        self.events: List[Event] = []
        self._cluster = cluster
        self._link = link
        self._random = random.Random(seed)
        self._kinds: List[str] = []
        self._lost: Dict[str, str] = {}

    async def run(self, seconds: float) -> None:
        """Break and mend; in the end all is mended."""
        end = time.monotonic() + seconds
        await self._pause()
        while time.monotonic() < end:
            await self._step()
            await self._pause()
        for part in list(self._lost):
            await self._mend(part)
            await self._pause()

    async def _pause(self) -> None:
        seconds = self._random.uniform(*PAUSE_SECONDS)
        await asyncio.sleep(seconds - SWITCHED_SECONDS - FREE_SECONDS)
        async with DetectorClient(self._cluster.address) as operator:
            placement = self._random.choice(complete_placements(set(self._lost)))
            # Health may know less yet than is known here: then it stays as it is.
            with suppress(UnavailableError):
                await operator.set_placement(placement)
                self.events.append(Event(time.monotonic(), "switch", placement))
            await asyncio.sleep(SWITCHED_SECONDS)
            await operator.set_placement(None)
        await asyncio.sleep(FREE_SECONDS)

    async def _step(self) -> None:
        mends = len(self._lost) == MOST_AT_ONCE or (self._lost and self._random.random() < 0.5)
        parts = [] if mends else self._breakable(self._next_kind(), await self._in_use())
        if parts:
            self._break(self._kinds.pop(), self._random.choice(parts))
        elif self._lost:
            await self._mend(self._random.choice(sorted(self._lost)))

    def _next_kind(self) -> str:
        """Each kind comes as often as the others."""
        if not self._kinds:
            self._kinds = ["kill", "hang"] if self._link is None else ["kill", "hang", "cut"]
            self._random.shuffle(self._kinds)
        return self._kinds[-1]

    def _breakable(self, kind: str, in_use: Set[str]) -> List[str]:
        """What may suffer such a fault now."""
        parts = [LINK] if kind == "cut" else sorted(set.union(*NEEDS.values()) - {LINK})
        allowed = [
            part
            for part in parts
            if part not in self._lost and complete_placements({part, *self._lost})
        ]
        used = [part for part in allowed if part in in_use]
        return used if used and self._random.random() < IN_USE_SHARE else allowed

    async def _in_use(self) -> Set[str]:
        state: operations_pb2.SystemStatus = await status(self._cluster.address)
        pair = state.current
        across = {LINK} if "workstation" in (pair.backbone, pair.transformer) else set()
        return {f"{pair.backbone}.backbone", f"{pair.transformer}.transformer", *across}

    def _break(self, kind: str, part: str) -> None:
        self.events.append(Event(time.monotonic(), kind, part))
        self._lost[part] = kind
        if kind == "cut":
            self._link.cut()
        elif kind == "hang":
            self._cluster.stages[part].hang()
        else:
            self._cluster.stages[part].kill()

    async def _mend(self, part: str) -> None:
        kind = self._lost[part]
        if kind == "cut":
            self._link.restore()
        elif kind == "hang":
            self._cluster.stages[part].go_on()
        else:
            process = self._cluster.restart(part)
            await asyncio.get_running_loop().run_in_executor(None, lambda: process.announcement)
        del self._lost[part]
        self.events.append(Event(time.monotonic(), f"mended {kind}", part))
