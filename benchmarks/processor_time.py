"""How much processor time the services take on each core."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress

import psutil


def seconds_by_core() -> dict[int | None, float]:
    """Processor time so far of this process's descendants, by the core that each is pinned to.

    Clients have ended when it is read, so that only services and their decoders count.
    """
    seconds: dict[int | None, float] = defaultdict(float)
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            cores, times = process.cpu_affinity(), process.cpu_times()
            if len(cores) == 1:
                seconds[cores[0]] += times.user + times.system
    return seconds
