"""Several streams at once on a running system, with asyncio.

    tandem up                                                          # in another terminal
    python async_client.py 127.0.0.1 FOLDER FOLDER ...

Any number of streams share one `DetectorClient`; the system takes turns between them. Each stream
may say which node runs which half of the model (`placement`), how features travel (`codec`), and
which detections it wants.
"""

import asyncio
import sys
from pathlib import Path

from tandem import DetectorClient, Placement, TandemError


async def detect_folder(client: DetectorClient, folder: Path, placement: Placement) -> None:
    """Stream the pictures of one folder."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png"))
    pictures = (path.read_bytes() for path in paths)
    results = client.detect(pictures, placement=placement, score_threshold=0.5, max_detections=10)
    async for result in results:
        name = paths[result.frame_id].name
        if result.error is not None:
            print(f"{folder.name}/{name}: {result.error}")
            continue
        served_by = result.placement.value if result.placement else "no named placement"
        print(f"{folder.name}/{name}: {len(result.detections)} objects, by {served_by}")


async def main(server: str, folders: list[Path]) -> None:
    """Detect in all folders at the same time, one stream each."""
    async with DetectorClient(server) as client:
        status = await client.status()
        print(f"{sum(stage.healthy for stage in status.stages)} stages are up")
        placements = (Placement.FULL, Placement.BACKBONE)
        await asyncio.gather(
            *(
                detect_folder(client, folder, placements[index % len(placements)])
                for index, folder in enumerate(folders)
            )
        )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        asyncio.run(main(sys.argv[1], [Path(each) for each in sys.argv[2:]]))
    except TandemError as error:
        sys.exit(str(error))
