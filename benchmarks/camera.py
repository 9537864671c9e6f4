"""Clients of a running system, in a process of their own.

`python -m benchmarks.camera ADDRESS PLAN` takes a `CameraPlan` as JSON and prints what
came back of each frame as JSON. Benchmarks start it on the core, and in the network, where the
cameras are said to be.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from common.domain.detections import OverloadPolicy, StageTiming
from common.domain.errors import ServiceError, TandemError
from common.domain.frames import EncodedImage
from common.domain.placement import WORKSTATION
from common.security.identity import Identity, Role
from tandem.access import Credentials
from tandem.client import DetectorClient
from tandem.results import FrameResult

# More than any window that a server finds for itself.
MOST_IN_FLIGHT = 33
_LIVE_IN_FLIGHT = 256
_NO_TIMING = StageTiming(node="")
_OWN_STEPS = ("decode", "preprocess", "execute", "encode", "postprocess")


@dataclass(frozen=True)
class CameraPlan:
    """What to send.

    Attributes:
        frames: folder of JPEG files, sent in turn, over and over.
        placement: of every stream.
        codec: name of the feature codec; empty leaves it to the server.
        count: frames measured, over all clients.
        warm_up: frames answered before, over all clients; left out of what is printed.
        clients: concurrent streams, each over a connection of its own.
        in_flight: frames of a stream sent and not yet answered.
        camera_fps: frames a second of a live camera, whose newest frame wins; 0: as fast as
            they are taken.
        seconds: after which no more frames are sent, however many there are; 0: no limit.
        certificates: folder of an authority, as of `LocalCluster`; empty: no TLS.
    """

    frames: str
    placement: str
    codec: str
    count: int = 300
    warm_up: int = 60
    clients: int = 1
    in_flight: int = MOST_IN_FLIGHT
    camera_fps: float = 0.0
    seconds: float = 0.0
    certificates: str = ""


@dataclass(frozen=True)
class Answer:
    """One frame's; times in seconds.

    Attributes:
        answered_at: when, by a steady clock.
        round_trip: from handing the frame over to its answer, in the client.
        served: in the orchestrator, from reading the frame to its answer.
        own_steps: decode, preprocess, execute, encode and postprocess of both stages.
        backbone_steps: of these, the backbone's.
        transformer_steps: the transformer's.
        backbone_held: in the backbone, from reading the frame to its answer.
        backbone_transfer: to the backbone and back.
        transformer_held: in the transformer.
        transformer_transfer: to the transformer and back.
        backbone_execute: in the backbone's engine.
        transformer_execute: in the transformer's engine.
        frame_bytes: of the picture, as the backbone got it.
        feature_bytes: of the features, as the transformer got them.
        dropped: a newer frame took its place.
        placement: that served it; empty when none did.
        codec: by which its features travelled; empty where that was not told.
    """

    answered_at: float
    round_trip: float
    served: float
    own_steps: float
    backbone_steps: float
    transformer_steps: float
    backbone_held: float
    backbone_transfer: float
    transformer_held: float
    transformer_transfer: float
    backbone_execute: float
    transformer_execute: float
    frame_bytes: int
    feature_bytes: int
    dropped: bool
    placement: str = ""
    codec: str = ""


async def stream(address: str, plan: CameraPlan) -> list[Answer]:
    """Send the plan's frames to the orchestrator at `address`; answers as they came.

    Raises:
        ServiceError: a frame failed: a benchmark of failures says nothing.
        TandemError: the server was lost.
    """
    images = [EncodedImage(path.read_bytes()) for path in sorted(Path(plan.frames).iterdir())]
    supply: Iterator[EncodedImage]
    supply = itertools.islice(itertools.cycle(images), plan.warm_up + plan.count)
    if plan.seconds > 0:
        end = time.perf_counter() + plan.seconds
        supply = itertools.takewhile(lambda _: time.perf_counter() < end, supply)
    answers: list[Answer] = []
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as streams:
        for _ in range(plan.clients):
            client = DetectorClient(
                address, reconnect_seconds=0, credentials=client_credentials(plan.certificates)
            )
            await stack.enter_async_context(client)
            streams.create_task(_one_stream(client, supply, plan, answers))
    return answers[plan.warm_up :]


def client_credentials(certificates: str) -> Credentials | None:
    """Of the client in the folder of an authority; None where there is no folder."""
    if not certificates:
        return None
    own = Path(certificates) / "client"
    name = Identity(Role.ORCHESTRATOR, WORKSTATION).server_name
    return Credentials(
        own / "peers-ca.crt", own / "client.crt", own / "client.key", server_name=name
    )


async def _one_stream(
    client: DetectorClient,
    supply: Iterator[EncodedImage],
    plan: CameraPlan,
    answers: list[Answer],
) -> None:
    live = plan.camera_fps > 0
    async for result in client.detect(
        _paced(supply, plan.camera_fps),
        placement=plan.placement,
        codec=plan.codec or None,
        overload=OverloadPolicy.DROP_OLDEST if live else OverloadPolicy.BLOCK,
        max_in_flight=_LIVE_IN_FLIGHT if live else plan.in_flight,
    ):
        if result.error is not None:
            raise ServiceError(f"{plan.placement}: a frame failed: {result.error}")
        answers.append(_answer(result))


async def _paced(supply: Iterator[EncodedImage], fps: float) -> AsyncIterator[EncodedImage]:
    """All clients draw from one supply, so that none ends long before the others."""
    due = time.perf_counter()
    for image in supply:
        if fps > 0:
            due += 1 / fps
            await asyncio.sleep(due - time.perf_counter())
        yield image


def _answer(result: FrameResult) -> Answer:
    timing = result.timing
    backbone, transformer = timing.backbone or _NO_TIMING, timing.transformer or _NO_TIMING
    backbone_steps, transformer_steps = _own_steps(backbone), _own_steps(transformer)
    return Answer(
        answered_at=time.perf_counter(),
        round_trip=result.round_trip_seconds,
        served=timing.total_seconds,
        own_steps=backbone_steps + transformer_steps,
        backbone_steps=backbone_steps,
        transformer_steps=transformer_steps,
        backbone_held=backbone.held_seconds,
        backbone_transfer=backbone.transfer_seconds,
        transformer_held=transformer.held_seconds,
        transformer_transfer=transformer.transfer_seconds,
        backbone_execute=backbone.execute_seconds,
        transformer_execute=transformer.execute_seconds,
        frame_bytes=backbone.request_bytes,
        feature_bytes=transformer.request_bytes,
        dropped=result.dropped,
        placement=result.node_pair.name if result.node_pair else "",
        codec=backbone.codec.value if backbone.codec else "",
    )


def _own_steps(stage: StageTiming) -> float:
    return sum(float(getattr(stage, f"{step}_seconds")) for step in _OWN_STEPS)


def main() -> None:
    """Stream and print."""
    address, plan = sys.argv[1:]
    try:
        answers = asyncio.run(stream(address, CameraPlan(**json.loads(plan))))
    except* TandemError as failed:
        raise SystemExit("; ".join(str(error) for error in failed.exceptions)) from None
    json.dump([asdict(answer) for answer in answers], sys.stdout)


if __name__ == "__main__":
    main()
