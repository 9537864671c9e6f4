"""AP and time of every way to answer a fixed camera's frames, in this process on one thread.

`python -m experiments.regions --bundle DIR --clips DIR`, of clips that
`python -m scenes clips --still-camera` has made. The ways take turns frame by frame, so that
whatever else the machine does slows all of them alike.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from common.bundle import Bundle, load_bundle
from detr.coco.average_precision import ResultRow, coco_scores
from experiments.rate_accuracy.material import Material, open_clips
from experiments.regions.ways import (
    CroppedFeatures,
    CroppedFrames,
    EveryNth,
    Model,
    StillSkipped,
    Way,
)
from tandem.cli.console import show_line, show_notice
from tandem.cli.running import exit_code_of
from tandem.evaluation.picture_set import category_names

WAYS: tuple[Callable[[Model], Way], ...] = (
    lambda model: EveryNth(model, 1),
    lambda model: EveryNth(model, 2),
    lambda model: EveryNth(model, 3),
    StillSkipped,
    CroppedFrames,
    CroppedFeatures,
)


@dataclass
class Result:
    """What one way made of all clips.

    Attributes:
        name: of the way.
        seconds: that it took, from resizing to boxes.
        cells: that its backbone computed.
        rows: its detections.
    """

    name: str = ""
    seconds: float = 0.0
    cells: int = 0
    rows: list[ResultRow] = field(default_factory=list)


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(prog="regions", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="the model's folder")
    parser.add_argument("--clips", type=Path, required=True, help="folder of a clip, or of such")
    parser.add_argument("--noise", type=float, default=0.0, help="of the sensor, grey levels")
    parser.add_argument(
        "--every", type=int, default=1, help="take each so many'th frame: a slower camera"
    )
    options = parser.parse_args()
    sys.exit(exit_code_of(lambda: _run(options), "regions"))


def _run(options: argparse.Namespace) -> None:
    bundle = load_bundle(options.bundle)
    material = open_clips(
        options.clips, noise=options.noise, model=category_names(bundle), say=show_notice
    )
    cv2.setNumThreads(1)
    results, image_ids = measure(bundle, material, max(1, options.every))
    title = f"{material.title}; one frame in {options.every}"
    for line in (title, "", *table(material, results, image_ids)):
        show_line(line)


def measure(bundle: Bundle, material: Material, every: int) -> tuple[list[Result], list[int]]:
    """Every way on every clip; returns the results, and the ids of the frames that were taken."""
    results = [Result() for _ in WAYS]
    taken: list[int] = []
    for clip in material.clips:
        frames = clip.frames()[::every]
        model = Model(bundle, *frames[0].shape[:2])
        ways = [make(model) for make in WAYS]
        for number, (image_id, rgb) in enumerate(zip(clip.image_ids[::every], frames, strict=True)):
            taken.append(image_id)
            first = number % len(ways)
            pairs = [*zip(ways, results, strict=True)]
            for way, result in pairs[first:] + pairs[:first]:
                began = time.perf_counter()
                found = way.answer(rgb)
                result.seconds += time.perf_counter() - began
                result.rows += material.pictures.rows(image_id, found)
        for way, result in zip(ways, results, strict=True):
            result.name = way.name
            result.cells += way.cells
    return results, taken


def table(material: Material, results: Sequence[Result], image_ids: Sequence[int]) -> list[str]:
    """Lines of Markdown: AP, frames a second and the backbone's cells, against the first result."""
    lines = ["| way | AP | points | frames/s, times | cells |", "|---|--:|--:|--:|--:|"]
    pictures, base = material.pictures, results[0]
    images = set(image_ids)
    truth = {
        **pictures.instances,
        "images": [one for one in pictures.instances["images"] if one["id"] in images],
        "annotations": [
            one for one in pictures.instances["annotations"] if one["image_id"] in images
        ],
    }
    reference = None
    for result in results:
        precision = coco_scores(truth, result.rows, image_ids).figures["AP"]
        reference = precision if reference is None else reference
        lines.append(
            f"| {result.name} | {precision:.4f} | {100 * (precision - reference):+.1f} "
            f"| {base.seconds / result.seconds:.2f} | {result.cells / base.cells:.2f} |"
        )
    return lines


if __name__ == "__main__":
    main()
