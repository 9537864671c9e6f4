"""How well objects keep their numbers in the demo clip, whose objects are known.

`python -m benchmarks.tracks` counts by CLEAR MOT's rules (Bernardin and Stiefelhagen, 2008,
https://doi.org/10.1155/2008/246309): an object that had a number keeps the box of that number while
it covers the object; any other box that does has switched the object's number.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from common.domain.detections import DEFAULT_SCORE_THRESHOLD, Box, Detection
from common.tracking import Tracker, asked_threshold
from scenes.clip import FRAMES_PER_SHOT
from tandem import LocalDetector
from tandem.shipped import iou
from tandem.sources import open_source

_MODELS = Path(__file__).parents[1] / "models"
_COVERS = 0.5  # intersection over union

# In a shot of the clip, no two objects are of one category: shot and category name the object.
Object = tuple[int, int]
Frame = tuple[Detection, ...]
Looks = Callable[[int], bool]


def main() -> None:
    """Detect once, follow in several ways, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=_MODELS / "demo-r50")
    bundle = parser.parse_args().bundle
    detections, known = _detected(bundle), _known_objects(_MODELS / "demo-clip/annotations.json")
    rows = ["| frames looked at | objects found | switches | numbers given | ms a frame |"]
    rows.append("|---|---|---|---|---|")
    rows += [_row(name, looks, detections, known) for name, looks in _ways()]
    sys.stdout.write("\n".join(rows) + "\n")


def _ways() -> Iterator[tuple[str, Looks]]:
    yield "all", lambda _: True
    yield "every 2nd", lambda number: number % 2 == 0
    yield "every 4th", lambda number: number % 4 == 0
    yield "every 8th", lambda number: number % 8 == 0
    chance = random.Random(1)
    yield "each with a chance of 1/3", lambda _: chance.random() < 1 / 3
    yield "all but a second of the first shot", lambda number: not 30 <= number < 54


def _row(name: str, looks: Looks, detections: list[Frame], known: list[dict[Object, Box]]) -> str:
    tracker = Tracker(DEFAULT_SCORE_THRESHOLD)
    milliseconds: list[float] = []
    numbers_of: dict[Object, int] = {}
    matched = switches = objects = 0
    given: set[int] = set()
    for number, frame in enumerate(detections):
        if not looks(number):
            continue
        began = time.perf_counter()
        followed = tracker.follow(frame)
        milliseconds.append((time.perf_counter() - began) * 1e3)
        shown = [
            (each.box, track)
            for each, track in zip(frame, followed, strict=True)
            if each.score >= DEFAULT_SCORE_THRESHOLD and track is not None
        ]
        given |= {track for _, track in shown}
        objects += len(known[number])
        for each, track in _matched(known[number], shown, numbers_of).items():
            matched += 1
            switches += numbers_of.get(each, track) != track
            numbers_of[each] = track
    return (
        f"| {name} | {matched} of {objects} | {switches} | {len(given)} | "
        f"{statistics.median(milliseconds):.2f} |"
    )


def _matched(
    objects: dict[Object, Box], shown: list[tuple[Box, int]], numbers_of: dict[Object, int]
) -> dict[Object, int]:
    """The track that covers each object; first those that go on as they were."""
    left = list(shown)
    found: dict[Object, int] = {}
    for continued in (True, False):
        for each in objects.keys() - found.keys():
            fitting = [
                (iou(box, objects[each]), at)
                for at, (box, track) in enumerate(left)
                if not continued or track == numbers_of.get(each)
            ]
            best, at = max(fitting, default=(0.0, -1))
            if best >= _COVERS:
                found[each] = left.pop(at)[1]
    return found


def _detected(bundle: Path) -> list[Frame]:
    source = open_source(str(_MODELS / "demo-clip/clip.mp4"))
    with LocalDetector(bundle) as detector:
        images = (frame.image for frame in source)
        threshold = asked_threshold(DEFAULT_SCORE_THRESHOLD)
        return [each.detections for each in detector.detect(images, score_threshold=threshold)]


def _known_objects(annotations: Path) -> list[dict[Object, Box]]:
    """Of each frame, the objects in it."""
    content = json.loads(annotations.read_text())
    frames: list[dict[Object, Box]] = [{} for _ in content["images"]]
    for each in content["annotations"]:
        number, (left, top, width, height) = each["image_id"], each["bbox"]
        box = Box(left, top, left + width, top + height)
        frames[number][number // FRAMES_PER_SHOT, each["category_id"]] = box
    return frames


if __name__ == "__main__":
    main()
