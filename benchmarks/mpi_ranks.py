"""The thesis's way: both halves over MPI, one rank each. Started by `benchmarks.mpi`.

`mpirun -n 2 python -m benchmarks.mpi_ranks PLAN`: rank 0 takes a frame from its JPEG to
features and sends them, non-blocking, while it works on the next; rank 1 posts its receive before
it computes, and takes features to boxes. Features are raw fp32. The frame's way to rank 0 and the
boxes' way back cost nothing here, which is in MPI's favour. Rank 1 prints the frames a second.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mpi4py import MPI

from common.bundle import Bundle, FixedInput, load_bundle, require_detr
from common.domain.detections import DetectionOptions
from common.domain.frames import EncodedImage, FrameGeometry
from common.domain.placement import Stage
from common.engines.base import Engine
from common.engines.paced import PacedEngine
from common.engines.registry import load_engine
from common.vision.decode import decode_image
from common.vision.position import inputs_beside_cut
from common.vision.postprocess import detections
from common.vision.preprocess import preprocess

_MAX_PIXELS = 1 << 24
_BUFFERS = 2


@dataclass(frozen=True)
class RanksPlan:
    """What both ranks do.

    Attributes:
        bundle: folder of the model.
        frames: folder of JPEG files.
        count: frames measured.
        warm_up: frames before.
        paced_milliseconds: simulated durations, by stage; stages that it names compute nothing.
        cores: of rank 0 and rank 1.
    """

    bundle: str
    frames: str
    count: int
    warm_up: int
    paced_milliseconds: dict[str, float]
    cores: tuple[int, int]


def main() -> None:
    """Run this rank's half."""
    plan = RanksPlan(**json.loads(sys.argv[1]))
    world = MPI.COMM_WORLD
    os.sched_setaffinity(0, {plan.cores[world.rank]})
    bundle = load_bundle(plan.bundle)
    if world.rank == 0:
        _backbone(plan, bundle, world)
    else:
        _transformer(plan, bundle, world)


def _backbone(plan: RanksPlan, bundle: Bundle, world: MPI.Intracomm) -> None:
    engine = _engine(plan, bundle, Stage.BACKBONE)
    images = [EncodedImage(path.read_bytes()) for path in sorted(Path(plan.frames).iterdir())]
    policy, normalization = bundle.manifest.input, bundle.manifest.normalization
    requests = [MPI.REQUEST_NULL] * _BUFFERS
    under_way: list[np.ndarray | None] = [None] * _BUFFERS
    world.Barrier()
    for index in range(plan.warm_up + plan.count):
        rgb = decode_image(images[index % len(images)], _MAX_PIXELS)
        pixels, _ = preprocess(rgb, policy, normalization)
        features = engine.run({"pixels": pixels})["features"]
        slot = index % _BUFFERS
        requests[slot].Wait()
        # Kept until it is sent: MPI holds no reference.
        under_way[slot] = features
        requests[slot] = world.Isend(features, dest=1)
    MPI.Request.Waitall(requests)


def _transformer(plan: RanksPlan, bundle: Bundle, world: MPI.Intracomm) -> None:
    engine = _engine(plan, bundle, Stage.TRANSFORMER)
    manifest, geometry = bundle.manifest, _geometry(bundle)
    (tensor,) = require_detr(manifest, "the MPI baseline").cut
    shape = (1, tensor.channels, *tensor.grid(geometry.input_height, geometry.input_width))
    buffers = [np.empty(shape, np.float32) for _ in range(_BUFFERS)]
    total = plan.warm_up + plan.count
    world.Barrier()
    request = world.Irecv(buffers[0], source=0)
    for index in range(total):
        request.Wait()
        if index + 1 < total:
            request = world.Irecv(buffers[(index + 1) % _BUFFERS], source=0)
        beside = inputs_beside_cut(manifest, geometry)
        outputs = engine.run({"features": buffers[index % _BUFFERS], **beside})
        detections(
            outputs["logits"][0],
            outputs["boxes"][0],
            geometry,
            manifest.categories,
            DetectionOptions(),
            scoring=manifest.scoring,
        )
        if index + 1 == plan.warm_up:
            started = time.perf_counter()
    sys.stdout.write(f"{plan.count / (time.perf_counter() - started)}\n")


def _engine(plan: RanksPlan, bundle: Bundle, stage: Stage) -> Engine:
    pace_ms = plan.paced_milliseconds.get(stage.value)
    if pace_ms is None:
        return load_engine("onnxruntime", bundle.onnx_path(stage), 1)
    return PacedEngine(load_engine("none", bundle.onnx_path(stage), 1), pace_ms / 1000)


def _geometry(bundle: Bundle) -> FrameGeometry:
    policy = bundle.manifest.input
    if not isinstance(policy, FixedInput):
        raise SystemExit("a fixed input size is needed")
    sides = (policy.height, policy.width)
    return FrameGeometry(*sides, *sides, *sides)


if __name__ == "__main__":
    main()
