"""Changing the placement under load costs hardly anything.

`benchmarks.switching` is the same for a minute, with all figures.
"""

import asyncio
import itertools
import statistics
import time

import pytest

from common.domain.placement import Placement
from tandem.client import DetectorClient
from tests.cameras import Camera, streaming
from tests.harness import Cluster
from tests.system.faults import Event
from tests.system.gaps import longest_gaps

pytestmark = [pytest.mark.slow, pytest.mark.alone]

PACE_SECONDS = 0.02
# A probe takes a frame's time; here a switch is looked at.
ORCHESTRATOR = ("--probe-share", "0")
SWITCHES = 8
INTERVAL_SECONDS = 1.0


async def test_frequent_switches_lose_nothing_and_hardly_any_time():
    cluster = Cluster(
        stage_arguments=("--paced-milliseconds", str(1000 * PACE_SECONDS)),
        orchestrator_arguments=ORCHESTRATOR,
    )
    camera, switches = Camera("camera"), []
    try:
        async with streaming(cluster.address, camera), DetectorClient(cluster.address) as operator:
            await camera.served(30)
            still_from = time.monotonic()
            await asyncio.sleep(SWITCHES * INTERVAL_SECONDS / 2)
            for placement in itertools.islice(itertools.cycle(Placement), SWITCHES):
                switches.append(Event(time.monotonic(), "set", placement.value))
                await operator.set_placement(placement)
                await asyncio.sleep(INTERVAL_SECONDS)
            ended = time.monotonic()
    finally:
        cluster.close()
    assert set(camera.outcomes) == {"detections"}

    def rate(begin, end):
        return sum(begin <= at < end for at in camera.served_at) / (end - begin)

    assert rate(switches[0].at, ended) >= 0.9 * rate(still_from, switches[0].at)
    # Two frames, each through both stages; the longest gap also tells of the machine's other work.
    gaps = longest_gaps(camera.served_at, switches)
    assert statistics.median(gaps.values()) <= 2 * 2 * PACE_SECONDS
