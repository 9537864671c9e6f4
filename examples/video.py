"""Count what a video shows, frame by frame, in this process.

    python video.py BUNDLE VIDEO

`detect` takes any iterable of frames and yields one result a frame, in order, while it reads: a few
frames are under way at a time, so that decoding, backbone and transformer overlap and memory stays
bounded however long the video is. A frame that fails has an `error`, and the others go on.
"""

import sys
from collections import Counter
from collections.abc import Iterator

import cv2
import numpy as np

from tandem import LocalDetector, TandemError


def frames(path: str) -> Iterator[np.ndarray]:
    """The video's frames, RGB."""
    video = cv2.VideoCapture(path)
    if not video.isOpened():
        sys.exit(f"{path} is no video that OpenCV can read")
    try:
        while True:
            is_read, pixels = video.read()
            if not is_read:
                return
            yield pixels[..., ::-1]
    finally:
        video.release()


def main(bundle: str, video: str) -> None:
    """Print a line whenever what is seen changes."""
    before: Counter[str] = Counter()
    with LocalDetector(bundle) as detector:
        for result in detector.detect(frames(video)):
            if result.error is not None:
                print(f"frame {result.frame_id}: {result.error}")
                continue
            seen = Counter(found.category_name for found in result.detections)
            if seen != before:
                told = ", ".join(f"{count} {name}" for name, count in sorted(seen.items()))
                print(f"frame {result.frame_id}: {told or 'nothing'}")
                before = seen


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except TandemError as error:
        sys.exit(str(error))
