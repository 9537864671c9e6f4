"""What does video cost that is passed through, beside the same frames as pictures?

`python -m benchmarks.passed_video` streams the demo clip as a camera encodes it through the real
system with the demo model: the bytes from the client to the orchestrator beside the file's, average
precision through `workstation` beside that of the same frames as PNG, and frames a second of `full`
beside the same frames as JPEG.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from benchmarks.encryption import CountingProxy
from benchmarks.hosts import run_to_end
from benchmarks.report import Row, conclude
from common.domain.errors import ServiceError
from common.domain.frames import EncodedImage
from common.domain.placement import Placement
from common.domain.video import AccessUnit, VideoFormat
from detr.coco.average_precision import coco_scores, result_rows
from tandem.bench import BenchPlan, Sample, measure
from tandem.cli.bench import load_units
from tandem.client import DetectorClient
from tandem.cluster import ClusterOptions, LocalCluster
from tandem.pictures import encode_jpeg, encode_png
from tandem.shipped import camera_clip, shipped_bundle
from tandem.sources import VideoForm, open_source

_MOST_BYTES = 1.03
_LEAST_RATE = 0.95
_SAME_AP = 0.00005


async def bytes_ratio(address: str, units: list[AccessUnit]) -> Row:
    """The file's bytes as a share of those that a client sends for it, connection and all."""
    proxy = CountingProxy(address)
    async with proxy.listening() as counted, DetectorClient(counted) as client:
        results = [one async for one in client.detect_video(str(camera_clip()))]
    failed = [one.error for one in results if one.error is not None]
    if failed or len(results) != len(units):
        raise ServiceError(f"{len(results)} of {len(units)} frames; errors: {failed[:1]}")
    file_bytes = sum(len(unit.data) for unit in units)
    return Row(
        "bytes of the file's video / from the client to the orchestrator",
        file_bytes / proxy.sent,
        "",
        1 / _MOST_BYTES,
        f"{file_bytes} / {proxy.sent}",
    )


async def average_precision(
    address: str, frames: list[EncodedImage] | list[AccessUnit], video: VideoFormat | None
) -> float:
    """Of the clip's frames, through `workstation`."""
    plan = BenchPlan(Placement.WORKSTATION, frames=len(frames), warm_up_frames=0)
    samples = await measure(address, frames, replace(plan, score_threshold=0.0), video=video)
    return _average_precision(samples)


def _average_precision(samples: Iterable[Sample]) -> float:
    instances = json.loads(camera_clip().with_name("annotations.json").read_text())
    rows = [
        row
        for number, sample in enumerate(samples)
        for row in result_rows(number, sample.result.detections)
    ]
    ids = [picture["id"] for picture in instances["images"]]
    return coco_scores(instances, rows, ids).figures["AP"]


async def rate_ratio(
    address: str,
    units: list[AccessUnit],
    video: VideoFormat,
    jpegs: list[EncodedImage],
    repetitions: int,
) -> Row:
    """The rate of `full` from video as a share of that from JPEG, measured in turn."""
    plan = BenchPlan(Placement.FULL, frames=len(units), warm_up_frames=24)
    pairs = []
    for _ in range(repetitions):
        of_video = _rate(await measure(address, units, plan, video=video))
        pairs.append((of_video, _rate(await measure(address, jpegs, plan))))
    return Row(
        "full: frames/s from H.264 / from JPEG",
        statistics.median(video / jpeg for video, jpeg in pairs),
        "",
        _LEAST_RATE,
        "; ".join(f"{video:.1f} / {jpeg:.1f}" for video, jpeg in pairs),
    )


def _rate(samples: list[Sample]) -> float:
    seconds = samples[-1].answered_at - samples[0].answered_at
    return (len(samples) - 1) / seconds


async def measure_all(repetitions: int) -> list[Row]:
    """Measure everything in one run."""
    units, video = load_units(str(camera_clip()))
    with closing(open_source(str(camera_clip()))) as source:
        source.deliver(VideoForm.PIXELS)
        pictures = [frame.pixels() for frame in itertools.islice(source, len(units))]
    whole = [picture for picture in pictures if picture is not None]
    async with LocalCluster(ClusterOptions(shipped_bundle())) as cluster:
        address = cluster.orchestrator.address
        rows = [await bytes_ratio(address, units)]
        of_video = await average_precision(address, units, video)
        of_png = await average_precision(address, [encode_png(each) for each in whole], None)
        rows.append(
            Row(
                "workstation: 1 - difference of AP from H.264 and from PNG",
                1 - abs(of_video - of_png),
                "",
                1 - _SAME_AP,
                f"AP {of_video:.4f} / {of_png:.4f}",
            )
        )
        jpegs = [encode_jpeg(each) for each in whole]
        rows.append(await rate_ratio(address, units, video, jpegs, repetitions))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.passed_video", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3, help="of the rates")
    parser.add_argument("--csv", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    rows = run_to_end(measure_all(options.repetitions))
    conclude("Video that is passed through", rows, options.csv)


if __name__ == "__main__":
    main()
