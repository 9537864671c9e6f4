"""AP and bytes a frame of every codec, against the frame as JPEG of several qualities.

`python -m experiments.rate_accuracy --bundle DIR --images DIR --annotations FILE --output DIR
[--limit N]` streams a COCO-format set through one local cluster once for each setting of
`experiments.rate_accuracy.grid`, and writes a table, a CSV, a record and a plot. Answers are kept
as they come: a stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import commit, machine_facts
from common.bundle import Bundle, load_bundle
from common.domain.errors import ConfigurationError
from experiments.rate_accuracy.grid import Point, Setting, settings
from experiments.rate_accuracy.report import comparisons, markdown, write_all
from tandem.cli.console import frame_progress, show_line, show_notice
from tandem.cli.options import detector
from tandem.cli.running import exit_code_of, run
from tandem.cluster import ClusterOptions
from tandem.evaluation.answers import AnswerFile
from tandem.evaluation.picture_set import PictureSet, category_names, open_picture_set
from tandem.evaluation.report import versions
from tandem.evaluation.run import judge, stream

PROGRAM = "rate_accuracy"


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="a calibrated bundle's folder")
    parser.add_argument("--images", type=Path, required=True, help="folder of the pictures")
    parser.add_argument(
        "--annotations", type=Path, required=True, help="file in COCO's instances format"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for what is written")
    parser.add_argument("--limit", type=_count, help="only so many pictures, those of lowest id")
    options = parser.parse_args()
    sys.exit(exit_code_of(lambda: _run(options), PROGRAM))


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return count


def _run(options: argparse.Namespace) -> None:
    bundle = load_bundle(options.bundle)
    if bundle.manifest.codec.calibration is None:
        raise ConfigurationError(
            f"bundle {options.bundle} is not calibrated, so it has no codecs q6 to q2: run "
            "tandem model calibrate on frames that are not in this set"
        )
    pictures = open_picture_set(
        options.images,
        options.annotations,
        options.limit,
        model=category_names(bundle),
        say=show_notice,
    )
    points = run(_measure(bundle, pictures, options.output))
    write_all(options.output, points, _about(bundle, pictures))
    show_line(markdown(points))
    for one in comparisons(points):
        show_line(one.sentence())
    show_line(f"written to {options.output}")


async def _measure(bundle: Bundle, pictures: PictureSet, output: Path) -> list[Point]:
    """Every setting, on one cluster."""
    points = []
    total = len(pictures.pictures)
    async with detector(ClusterOptions(bundle=bundle.folder)) as client:
        for setting in settings(bundle.manifest.input):
            path = output / "answers" / f"{setting.key}.jsonl"
            with AnswerFile(path, _identity(setting, bundle, pictures)) as file:
                if file.resumed < total:
                    with frame_progress(setting.key, total - file.resumed) as advance:
                        await stream(client, pictures, setting.plan, file, advance)
            points.append(_point(setting, pictures, file))
            sys.stderr.write(f"{setting.key}: AP {points[-1].ap:.4f}, ")
            sys.stderr.write(f"{points[-1].bytes_per_frame:,.0f} bytes a frame\n")
    return points


def _point(setting: Setting, pictures: PictureSet, file: AnswerFile) -> Point:
    evaluation = judge(pictures, file.answers)
    if evaluation.bytes_per_frame is None:
        raise ConfigurationError(f"{setting.key}: the server did not tell the placement of a frame")
    return Point(
        series=setting.series,
        name=setting.name,
        bytes_per_frame=evaluation.bytes_per_frame,
        figures=evaluation.scores.figures,
        frames=evaluation.frames,
        fps=evaluation.fps,
    )


def _identity(setting: Setting, bundle: Bundle, pictures: PictureSet) -> Mapping[str, Any]:
    return {"setting": setting.key, "bundle": bundle.digest, "set": pictures.digest}


def _about(bundle: Bundle, pictures: PictureSet) -> Mapping[str, Any]:
    calibration = bundle.manifest.codec.calibration
    name = bundle.manifest.name
    return {
        "title": f"{name}: {len(pictures.pictures)} pictures through two nodes",
        "bundle": name,
        "bundle_digest": bundle.digest,
        "calibrated_on_frames": calibration.frames if calibration else 0,
        "set": pictures.digest,
        "frames": len(pictures.pictures),
        "machine": machine_facts(),
        "versions": versions(),
        **commit(),
    }


if __name__ == "__main__":
    main()
