"""The demo: the shipped clip through every placement, on two nodes of this machine.

`python -m tandem.cli.demo`, or `make demo`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from common.bundle import Bundle, load_bundle
from common.domain.codec import Codec
from common.domain.detections import DEFAULT_SCORE_THRESHOLD
from common.domain.errors import ServiceError
from common.domain.frames import EncodedImage
from common.domain.placement import Placement
from common.domain.video import AccessUnit, VideoFormat
from tandem.bench import BenchPlan, Sample, measure, report
from tandem.cli.bench import load_units, show_reports
from tandem.cli.console import frame_progress, show_line, show_table
from tandem.cli.crossings import (
    JPEGS,
    VIDEO,
    compared_codecs,
    crossing,
    crossing_name,
    crossings_table,
)
from tandem.cli.options import local_cluster
from tandem.cli.running import exit_code_of, run
from tandem.cluster import ClusterOptions
from tandem.results import FrameResult
from tandem.shipped import (
    MATCH_IOU,
    Tally,
    TrueObject,
    camera_clip,
    check_clip_accuracy,
    load_objects,
    match_frame,
    shipped_bundle,
    tally,
)
from tandem.sinks import PictureSink, Sink, VideoSink
from tandem.sources import Source, SourceFrame, open_source

PROGRAM = "python -m tandem.cli.demo"
# A random model is sure of nothing: its best guesses show at least that boxes are drawn.
_UNTRAINED_THRESHOLD, _UNTRAINED_BOXES = 0.0, 3
# Placements differ in where things run, not in what is computed.
_SAME_PIXELS = 1e-3


def main() -> None:
    """Run the demo; exits with its code."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    parser.add_argument(
        "--bundle", type=Path, help="folder of the model; default: the best shipped"
    )
    parser.add_argument("--frames", type=int, help="of the clip; default: all")
    parser.add_argument("--output", type=Path, default=Path("output/demo"), help="folder to write")
    options = parser.parse_args()
    sys.exit(
        exit_code_of(lambda: demonstrate(options.bundle, options.frames, options.output), PROGRAM)
    )


def demonstrate(bundle_folder: Path | None, frame_count: int | None, output: Path) -> None:
    """Show everything once.

    Raises:
        TandemError: something did not work.
        ServiceError: the placements disagreed, or a shipped model found too little.
    """
    bundle = load_bundle(bundle_folder or shipped_bundle())
    units, video = load_units(str(camera_clip()))
    sent = units[:frame_count]
    with closing(open_source(str(camera_clip()))) as source:
        frames = list(source)[:frame_count]
        show_line(f"Model {bundle.manifest.name}, clip {source.info.name}: {len(frames)} frames")
        if not bundle.manifest.trained:
            show_line("This model has random weights: its boxes mean NOTHING yet.")
        runs = run(_run_all(bundle, sent, video, [frame.image for frame in frames]))
        _show_agreement(runs.placements)
        objects = None
        if bundle.manifest.trained:
            objects = load_objects(camera_clip().with_name("annotations.json"))
        _show_crossings(runs, objects)
        results = runs.placements[Placement.BACKBONE]
        pictured = max(results, key=lambda result: len(result.detections))
        clip = _tally(results, objects)
        if clip is not None and objects is not None:
            show_line(accuracy_sentence(clip))
            pictured = best_frame(results, objects)
        _write(source, frames, results, pictured, output)
        if clip is not None and frame_count is None:
            check_clip_accuracy(bundle.manifest.name, clip)


@dataclass(frozen=True)
class _Runs:
    """The clip's results: by placement, with the bundle's own codec; as JPEGs; and by codec."""

    placements: dict[Placement, list[FrameResult]]
    jpegs: list[FrameResult]
    codecs: dict[Codec, list[FrameResult]]


async def _run_all(
    bundle: Bundle, units: list[AccessUnit], video: VideoFormat, jpegs: list[EncodedImage]
) -> _Runs:
    """The clip goes through the system as its camera made it, and once as JPEGs."""
    placements = [_plan(placement, bundle, len(units)) for placement in Placement]
    backbone = _plan(Placement.BACKBONE, bundle, len(units))
    workstation = _plan(Placement.WORKSTATION, bundle, len(units))
    codecs = {codec: replace(backbone, codec=codec) for codec in compared_codecs(bundle)}
    async with local_cluster(ClusterOptions(bundle.folder)) as cluster:
        show_line("An edge node and a workstation node run on this machine.")

        async def measured(
            plan: BenchPlan, text: str, pictures: list[EncodedImage] | None = None
        ) -> list[Sample]:
            address = cluster.orchestrator.address
            with frame_progress(text, plan.frames) as advance:
                if pictures is not None:
                    return await measure(address, pictures, plan, advance)
                return await measure(address, units, plan, advance, video=video)

        runs = [await measured(plan, f"placement {plan.placement.value}") for plan in placements]
        as_jpegs = await measured(workstation, "JPEGs", jpegs)
        by_codec = {
            codec: _results(await measured(plan, f"codec {codec.value}"))
            for codec, plan in codecs.items()
        }
    codec = bundle.manifest.codec.default
    show_reports([report(plan, one, codec, {}) for plan, one in zip(placements, runs, strict=True)])
    by_placement = dict(zip(Placement, map(_results, runs), strict=True))
    return _Runs(by_placement, _results(as_jpegs), by_codec)


def _results(samples: Sequence[Sample]) -> list[FrameResult]:
    return [sample.result for sample in samples]


def _plan(placement: Placement, bundle: Bundle, frames: int) -> BenchPlan:
    trained = bundle.manifest.trained
    return BenchPlan(
        placement=placement,
        frames=frames,
        warm_up_frames=0,
        score_threshold=DEFAULT_SCORE_THRESHOLD if trained else _UNTRAINED_THRESHOLD,
        max_detections=0 if trained else _UNTRAINED_BOXES,
    )


def _show_agreement(runs: dict[Placement, list[FrameResult]]) -> None:
    first, *others = runs.values()
    difference = max(largest_difference(first, other) for other in others)
    boxes = sum(len(result.detections) for result in first)
    if difference > _SAME_PIXELS:
        raise ServiceError(f"the placements disagree: boxes differ by {difference:g} pixels")
    show_line(
        f"All placements gave the same {boxes} boxes (largest difference {difference:g} pixels)."
    )


def _show_crossings(runs: _Runs, objects: Mapping[int, Sequence[TrueObject]] | None) -> None:
    """What crosses between the nodes, and what is found with it."""
    by_camera = {JPEGS: runs.jpegs, VIDEO: runs.placements[Placement.WORKSTATION]}
    found = [
        crossing(name, Placement.WORKSTATION, frames, _tally(frames, objects))
        for name, frames in by_camera.items()
    ]
    found += [
        crossing(crossing_name(codec), Placement.BACKBONE, results, _tally(results, objects))
        for codec, results in runs.codecs.items()
    ]
    show_table(crossings_table(found))


def _tally(
    results: Sequence[FrameResult], objects: Mapping[int, Sequence[TrueObject]] | None
) -> Tally | None:
    if objects is None:
        return None
    return tally(match_frame(one.detections, objects[one.frame_id]) for one in results)


def largest_difference(one: Sequence[FrameResult], other: Sequence[FrameResult]) -> float:
    """Largest distance of two runs' box sides, pixels; infinite if they found different things."""
    largest = 0.0
    for left, right in zip(one, other, strict=True):
        names = [[found.category_id for found in side.detections] for side in (left, right)]
        if names[0] != names[1]:
            return float("inf")
        for here, there in zip(left.detections, right.detections, strict=True):
            sides = zip(vars(here.box).values(), vars(there.box).values(), strict=True)
            largest = max(largest, *(abs(a - b) for a, b in sides))
    return largest


def accuracy_sentence(clip: Tally) -> str:
    """How well a run's boxes compare with the objects of each frame."""
    return (
        f"Found {clip.found} of {clip.objects} objects and invented {clip.invented} "
        f"(score {DEFAULT_SCORE_THRESHOLD:g}, IoU {MATCH_IOU:g}, the right category); "
        f"{clip.perfect_frames / clip.frames:.1%} of the frames are perfect."
    )


def best_frame(
    results: Sequence[FrameResult], objects: Mapping[int, Sequence[TrueObject]]
) -> FrameResult:
    """The first frame with the most objects found, each invented one taken off."""

    def rightness(result: FrameResult) -> int:
        match = match_frame(result.detections, objects[result.frame_id])
        return match.found - match.invented

    return max(results, key=rightness)


def _write(
    source: Source,
    frames: Sequence[SourceFrame],
    results: Sequence[FrameResult],
    pictured: FrameResult,
    output: Path,
) -> None:
    output.mkdir(parents=True, exist_ok=True)
    video_path, picture_path = output / "clip.mp4", output / "frame.jpg"
    rate = source.info.frames_per_second or 25.0
    with closing(VideoSink(video_path, rate)) as video:
        _write_all(video, frames, results)
    number = pictured.frame_id
    _write_all(PictureSink(picture_path), frames[number : number + 1], [pictured])
    show_line(f"Video with boxes: {video_path.resolve()}")
    show_line(f"Picture with boxes: {picture_path.resolve()}")


def _write_all(sink: Sink, frames: Sequence[SourceFrame], results: Sequence[FrameResult]) -> None:
    for frame, result in zip(frames, results, strict=True):
        sink.write(frame, result)


if __name__ == "__main__":
    main()
