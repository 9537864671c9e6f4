"""Detect objects in one picture, in this process, and write it with boxes drawn.

    python picture.py BUNDLE PICTURE OUTPUT

`LocalDetector` loads a bundle, both halves of a model, and needs no services. Pictures are JPEG or
PNG bytes as they are, or arrays of height x width x 3 in RGB; OpenCV's arrays are BGR, hence the
reversed channels.
"""

import sys

import cv2

from tandem import LocalDetector, TandemError
from tandem.drawing import draw_detections


def main(bundle: str, picture: str, output: str) -> None:
    """Print each detection and write the picture with all of them."""
    pixels = cv2.imread(picture)
    if pixels is None:
        sys.exit(f"{picture} is no picture that OpenCV can read")
    with LocalDetector(bundle) as detector:
        detections = detector.detect_one(pixels[..., ::-1], score_threshold=0.5)
    for found in detections:
        box = found.box
        print(
            f"{found.category_name} {found.score:.0%}: "
            f"x {box.x_min:.0f} to {box.x_max:.0f}, y {box.y_min:.0f} to {box.y_max:.0f}"
        )
    cv2.imwrite(output, draw_detections(pixels, detections))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except TandemError as error:
        sys.exit(str(error))
