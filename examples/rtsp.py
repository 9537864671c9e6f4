"""Detect objects in a network camera's stream, on a running system, as live as it gets.

    tandem up                                                          # in another terminal
    python rtsp.py 127.0.0.1 rtsp://user:password@camera/stream [FRAMES]

`detect_video` reads cameras, files and URLs, and opens cameras anew when they hang up. H.264 and
H.265 are sent as the camera made them. Of a camera the newest frame wins: where frames come faster
than they are served, older ones are answered as dropped, and what is printed is never far behind.
"""

import asyncio
import sys

from tandem import DetectorClient, TandemError


async def main(server: str, url: str, frames: int | None) -> None:
    """Print what each frame shows, and how old the answer is."""
    async with DetectorClient(server) as client:
        async for result in client.detect_video(url, live=True, tell=print):
            if result.dropped:
                print(f"frame {result.frame_id}: dropped for a newer one")
            elif result.error is not None:
                print(f"frame {result.frame_id}: {result.error}")
            else:
                names = ", ".join(found.category_name for found in result.detections)
                milliseconds = 1000 * result.round_trip_seconds
                print(f"frame {result.frame_id}: {names or 'nothing'} ({milliseconds:.0f} ms)")
            if result.frame_id + 1 == frames:
                return


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    server, url, *rest = sys.argv[1:]
    try:
        asyncio.run(main(server, url, int(rest[0]) if rest else None))
    except TandemError as error:
        sys.exit(str(error))
