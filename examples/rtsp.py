"""Detect objects in a network camera's stream, on a running system, as live as it gets.

    tandem up                                                          # in another terminal
    python rtsp.py 127.0.0.1 rtsp://user:password@camera/stream [FRAMES]

`open_source` reads cameras and URLs, and opens them anew when they hang up. With
`OverloadPolicy.DROP_OLDEST` the newest frame wins: where frames come faster than they are served,
older ones are answered as dropped, and what is printed is never far behind the camera.
"""

import asyncio
import itertools
import sys
from contextlib import closing

from tandem import DetectorClient, OverloadPolicy, TandemError
from tandem.sources import open_source


async def main(server: str, url: str, frames: int | None) -> None:
    """Print what each frame shows, and how old the answer is."""
    with closing(open_source(url, live=True, tell=print)) as camera:
        images = (frame.image for frame in itertools.islice(camera, frames))
        async with DetectorClient(server) as client:
            async for result in client.detect(images, overload=OverloadPolicy.DROP_OLDEST):
                if result.dropped:
                    print(f"frame {result.frame_id}: dropped for a newer one")
                elif result.error is not None:
                    print(f"frame {result.frame_id}: {result.error}")
                else:
                    names = ", ".join(found.category_name for found in result.detections)
                    milliseconds = 1000 * result.round_trip_seconds
                    print(f"frame {result.frame_id}: {names or 'nothing'} ({milliseconds:.0f} ms)")


if __name__ == "__main__":
    server, url, *rest = sys.argv[1:]
    try:
        asyncio.run(main(server, url, int(rest[0]) if rest else None))
    except TandemError as error:
        sys.exit(str(error))
