"""Streams until told to end: `steady.py SERVER PLACEMENT CLIENTS FILE` ends once FILE is there.

Who streams is told by TANDEM_TLS_CA, TANDEM_TLS_CERTIFICATE and TANDEM_TLS_KEY. Prints how many
frames came back, and the longest that a client waited between two. Fails unless every client has
one answer to each frame, in order, and all of them are detections.
"""

import asyncio
import collections
import itertools
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tandem.access import Credentials  # noqa: E402
from tandem.client import DetectorClient  # noqa: E402
from tests.streams import jpeg  # noqa: E402

SIZE = (360, 640)


async def frames(sent, stop):
    pictures = [jpeg(seed, *SIZE) for seed in range(4)]
    for picture in itertools.cycle(pictures):
        if stop.exists():
            return
        sent.append(None)
        yield picture


async def stream(server, placement, stop):
    """The outcomes of one client's frames, counted, and its longest gap in seconds."""
    credentials = Credentials(
        *(os.environ[f"TANDEM_TLS_{name}"] for name in ("CA", "CERTIFICATE", "KEY"))
    )
    sent, ids, outcomes, came_at = [], [], collections.Counter(), []
    async with DetectorClient(server, credentials=credentials) as client:
        async for result in client.detect(frames(sent, stop), placement=placement):
            ids.append(result.frame_id)
            came_at.append(time.monotonic())
            outcomes[result.error and str(result.error) or "detections"] += 1
    if ids != list(range(len(sent))):
        outcomes["out of order, lost or repeated"] += 1
    gaps = [later - earlier for earlier, later in itertools.pairwise(came_at)]
    return outcomes, max(gaps, default=0.0)


async def main(server, placement, clients, stop):
    streams = [stream(server, placement, Path(stop)) for _ in range(int(clients))]
    done = await asyncio.gather(*streams)
    outcomes = sum((each for each, _ in done), collections.Counter())
    sys.stdout.write(", ".join(f"{count} {name}" for name, count in outcomes.items()))
    sys.stdout.write(f"; longest gap {max(gap for _, gap in done):.2f} s\n")
    return 0 if set(outcomes) == {"detections"} else "not every frame was answered as it should be"


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
