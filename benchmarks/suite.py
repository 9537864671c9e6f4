"""The small suite: what Tandem reaches as a share of what the same machine could, at the same time.

No figure is a lone time: each stands beside the least that the work takes, measured in the same
repetition, so that records of a busy or a slow hour can be compared. More is always better.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.camera import CameraPlan
from benchmarks.cluster import Cluster, ClusterPlan
from benchmarks.engines import alone_ms
from benchmarks.hosts import LOCAL_EDGE, LOCAL_WORKSTATION
from benchmarks.relaying import relay_rates
from benchmarks.report import frames_per_second
from common.codec.feature_codec import FeatureCodec
from common.domain.codec import Codec
from common.domain.frames import EncodedImage
from common.domain.placement import Placement, Stage
from tandem.shipped import shipped_bundle, shipped_clip
from tandem.sources import open_source

REPETITIONS = 3
PACE_MS = 20.0
_FRAMES = 100
_CLIENTS = 16
_REAL_FRAMES = 60
_ALONE_SECONDS = 2.0
# Of a full-width ResNet-50 at 800x1066, after the projection.
_FEATURES_SHAPE = (1, 256, 25, 34)
_ENCODINGS = 40
_CLIP_FRAMES = 30

Ratios = dict[str, list[float]]


@dataclass(frozen=True)
class Suite:
    """What all parts of the suite measure with.

    Attributes:
        bundle: folder of the model.
        frames: folder of JPEG files.
        repetitions: of each measurement.
        on_ratio: called with the name and the value of each.
    """

    bundle: Path
    frames: Path
    repetitions: int
    on_ratio: Callable[[str, float], None]

    async def run(self) -> Ratios:
        """Measure everything."""
        ratios: Ratios = {}
        for part in (self._codec, self._orchestrator, self._paced, self._real):
            async for name, value in part():
                ratios.setdefault(name, []).append(value)
                self.on_ratio(name, value)
        return ratios

    def _camera(self, placement: Placement, **others: float) -> CameraPlan:
        plan = CameraPlan(str(self.frames), placement.value, "int8", count=_FRAMES, warm_up=20)
        return replace(plan, **others)  # type: ignore[arg-type]

    async def _codec(self) -> AsyncIterator[tuple[str, float]]:
        """Encoding and decoding int8 beside copying the same float32 features once."""
        for repetition in range(self.repetitions):
            features = np.random.default_rng(repetition).standard_normal(
                _FEATURES_SHAPE, dtype=np.float32
            )
            codec, copy = FeatureCodec(), np.empty_like(features)
            encoded = codec.encode(features, Codec.INT8)
            copying = median_seconds(partial(np.copyto, copy, features))
            encoding = median_seconds(partial(codec.encode, features, Codec.INT8))
            decoding = median_seconds(partial(codec.decode, encoded))
            yield "copying the features / encoding them as int8", copying / encoding
            yield "copying the features / decoding them from int8", copying / decoding

    async def _orchestrator(self) -> AsyncIterator[tuple[str, float]]:
        """The orchestrator's rate on one core beside that of a bare relay."""
        async for relay, orchestrator in relay_rates(self.repetitions):
            ratio = orchestrator.frames_per_second / relay.frames_per_second
            yield "frames/s of the orchestrator / of a bare relay", ratio

    async def _paced(self) -> AsyncIterator[tuple[str, float]]:
        """Each placement beside its ideal, and many clients beside one, at a known speed."""
        paced = dict.fromkeys(Stage, PACE_MS)
        plan = ClusterPlan(self.bundle, engine="none", paced_milliseconds=paced)
        async with Cluster(plan) as cluster:
            for _ in range(self.repetitions):
                for placement in Placement:
                    fps = frames_per_second(await cluster.stream(self._camera(placement)))
                    name = f"frames/s of paced engines, {placement.value} / ideal"
                    yield name, fps * PACE_MS / 1000
                    if placement is Placement.BACKBONE:
                        one = fps
                crowd = self._camera(
                    Placement.BACKBONE, clients=_CLIENTS, count=2 * _FRAMES, warm_up=6 * _CLIENTS
                )
                many = frames_per_second(await cluster.stream(crowd))
                yield f"frames/s with {_CLIENTS} clients / with 1", many / one

    async def _real(self) -> AsyncIterator[tuple[str, float]]:
        """The shipped model on one node beside its two halves in a loop, on the same core."""
        plan = ClusterPlan(self.bundle, cameras=LOCAL_WORKSTATION)
        camera = self._camera(Placement.FULL, count=_REAL_FRAMES)
        async with Cluster(plan) as cluster:
            for _ in range(self.repetitions):
                (alone,) = await alone_ms(self.bundle, _ALONE_SECONDS, (LOCAL_EDGE, list(Stage)))
                fps = frames_per_second(await cluster.stream(camera))
                yield "frames/s of full, real engines / of the engines alone", fps * alone / 1000


def median_seconds(work: Callable[[], object]) -> float:
    """The usual duration of a piece of work, which is done again and again."""
    durations = []
    for _ in range(_ENCODINGS):
        began = time.perf_counter()
        work()
        durations.append(time.perf_counter() - began)
    return statistics.median(durations)


async def measure(folder: Path, repetitions: int, on_ratio: Callable[[str, float], None]) -> Ratios:
    """Run the suite with the shipped model and clip.

    Args:
        folder: for the clip's frames; exists and is empty.
        repetitions: of each measurement.
        on_ratio: called with the name and the value of each.

    Returns:
        What each repetition gave, by the measurement's name.

    Raises:
        ServiceError: a frame failed, or a process did.
    """
    for index, image in enumerate(clip_images()):
        (folder / f"{index:03}.jpg").write_bytes(image.data)
    return await Suite(shipped_bundle(), folder, repetitions, on_ratio).run()


def clip_images() -> Iterator[EncodedImage]:
    """Frames of the shipped clip, spread over it, as the JPEG files that clients send."""
    with closing(open_source(str(shipped_clip()))) as source:
        images = [frame.image for frame in source]
    for image in images[:: max(1, len(images) // _CLIP_FRAMES)]:
        if not isinstance(image, EncodedImage):
            raise TypeError("the clip's frames are not encoded")
        yield image
