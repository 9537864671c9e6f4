"""Frames that cost their receiver dearly, sent beside a camera that must not notice."""

import asyncio
import contextlib
import json
import statistics
import time

import grpc
import psutil
import pytest
from google.rpc import code_pb2

from common.bundle import ShortestEdgeInput, load_bundle
from common.domain.errors import InvalidInputError, UnavailableError
from common.domain.frames import PixelFormat, RawImage
from common.domain.placement import Stage
from common.server.options import channel_options
from common.vision.limits import DecodingLimits
from common.wire.stage_client import StageStream
from protos.tandem.v1 import detector_pb2, stage_pb2
from services.backbone.pictures import Decoders, Pictures
from tests.harness import TOY_BUNDLE, ServiceProcess
from tests.poison import (
    chunk,
    endless_png,
    jpeg_of_empty_scans,
    large_png,
    png,
    segment,
    zeros_in_text,
)
from tests.streams import jpeg

pytestmark = pytest.mark.alone

ARGUMENTS = ("--bundle", str(TOY_BUNDLE), "--port", "0", "--metrics-port", "0", "--node", "edge")
MESSAGE_BYTES = 64 << 20
GREY = detector_pb2.PIXEL_FORMAT_GRAY8
GRACE_SECONDS = 0.5
# 64 MB of pixels may come in so many bytes, which inflate to a thousand times as much.
ENDLESS = endless_png(3 << 30, side=1000)


@pytest.fixture(scope="module")
def transformer():
    started = ServiceProcess("services.transformer", *ARGUMENTS)
    yield started
    started.close()


def start_backbone(transformer, *arguments):
    transformers = json.dumps({"edge": transformer.address})
    return ServiceProcess(
        "services.backbone", *ARGUMENTS, "--transformers", transformers, *arguments
    )


@pytest.fixture(scope="module")
def backbone(transformer):
    started = start_backbone(transformer)
    yield started
    started.close()


class Client:
    """One stream to a backbone."""

    def __init__(self, backbone, name):
        self._address, self._name = backbone.address, name
        self._sent = 0

    async def __aenter__(self):
        self._channel = grpc.aio.insecure_channel(self._address, channel_options(MESSAGE_BYTES))
        opening = stage_pb2.BackboneOpen(
            context=stage_pb2.StreamContext(session_id=self._name, sender="test"),
            downstream_node="edge",
        )
        request = stage_pb2.BackboneRequest(open=opening)
        self._stream = await StageStream.open(self._channel, Stage.BACKBONE, request, "backbone")
        return self

    async def __aexit__(self, *_):
        await self._stream.close()
        await self._channel.close()

    async def ask(self, **image):
        self._sent += 1
        frame = detector_pb2.Frame(frame_id=self._sent, **image)
        return await self._stream.ask(stage_pb2.BackboneRequest(frame=frame), self._sent)


class Camera(Client):
    """Sends one frame after the other until it is left, and minds the longest wait."""

    async def __aenter__(self):
        await super().__aenter__()
        # What the machine does beside these tests is part of what is usual.
        self._usual_seconds = statistics.median([await self._take() for _ in range(15)])
        self._longest_seconds = 0.0
        self._taking = asyncio.ensure_future(self._go_on())
        return self

    async def __aexit__(self, *error):
        self._taking.cancel()
        await asyncio.wait([self._taking])
        await super().__aexit__(*error)

    async def _go_on(self):
        while True:
            self._longest_seconds = max(self._longest_seconds, await self._take())

    async def _take(self):
        started = time.perf_counter()
        result = await self.ask(encoded=jpeg(1, 480, 640))
        assert result.WhichOneof("result") == "detections", result
        return time.perf_counter() - started

    def was_held_up(self):
        """Whether a frame took long; none may go wrong."""
        assert not self._taking.done()
        return self._longest_seconds > max(1, 100 * self._usual_seconds)


async def beside_a_camera(backbone, attack):
    """What comes of an attack that holds up no camera.

    Whatever else the machine does may hold one up now and then; an attack does so each time.
    """
    for _ in range(3):
        async with Camera(backbone, "camera") as camera:
            results = await attack()
            if not camera.was_held_up():
                return results
    raise AssertionError("the camera was held up each time")


FILE = jpeg(1)
POISON = {
    "25 kB of scans": (lambda: jpeg_of_empty_scans(7000, 7000, 2500), "in all scans together"),
    "300 kB of scans": (lambda: jpeg_of_empty_scans(7000, 7000, 30_000), "in all scans together"),
    "1 x 1,000,000": (lambda: png(1, 1_000_000), "64 times as long"),
    "markers": (lambda: FILE[:2] + segment(0xE0, b"") * 15_000_000 + FILE[2:], "limit of 4096"),
    "chunks": (lambda: png(9, 9, extra=chunk(b"tEXt", b"") * 5_000_000), "limit of 4096"),
    "endless": (lambda: ENDLESS, "s of CPU time"),
}


@pytest.mark.parametrize("name", POISON)
async def test_poison_is_refused_by_the_name_of_the_limit(backbone, name):
    make, words = POISON[name]
    data = make()
    # Large ones once: what the sender's side takes is not to be measured.
    count = 3 if len(data) < 1 << 20 else 1

    async def attack():
        async with Client(backbone, "attacker") as attacker:
            return await asyncio.gather(*(attacker.ask(encoded=data) for _ in range(count)))

    results = await beside_a_camera(backbone, attack)
    for result in results:
        assert result.error.code == code_pb2.INVALID_ARGUMENT
        assert words in result.error.message
        assert len(result.error.message) < 300


async def test_a_long_raw_frame_is_refused(backbone):
    raw = detector_pb2.RawImage(
        width=1, height=50_000_000, pixel_format=GREY, data=bytes(50_000_000)
    )

    async def attack():
        async with Client(backbone, "attacker") as attacker:
            return await attacker.ask(raw=raw)

    result = await beside_a_camera(backbone, attack)
    assert result.error.code == code_pb2.INVALID_ARGUMENT
    assert "64 times as long" in result.error.message


async def test_what_is_large_but_honest_is_served(backbone):
    png_file = large_png()
    square = detector_pb2.RawImage(
        width=7000, height=7000, pixel_format=GREY, data=bytes(49_000_000)
    )
    texts = png(64, 64, extra=zeros_in_text() * 500)

    async def three_clients():
        clients = [Client(backbone, str(number)) for number in range(3)]
        async with contextlib.AsyncExitStack() as stack:
            for client in clients:
                await stack.enter_async_context(client)
            asked = [client.ask(encoded=png_file) for client in clients]
            asked += [clients[0].ask(raw=square), clients[1].ask(encoded=texts)]
            return await asyncio.gather(*asked)

    results = await beside_a_camera(backbone, three_clients)
    assert [each.WhichOneof("result") for each in results] == ["detections"] * 5


async def until_decoding(backbone):
    """Wait until the lane for what is expensive is at work: a decoder at a lower priority."""
    service, deadline = psutil.Process(backbone.process.pid), time.monotonic() + 30
    while True:
        assert time.monotonic() < deadline
        for process in service.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.nice() > service.nice() and process.cpu_times().user > 0.1:
                    return
        await asyncio.sleep(0.01)


async def test_sigterm_while_an_endless_frame_is_decoded(transformer):
    backbone = start_backbone(transformer, "--grace-seconds", str(GRACE_SECONDS))
    try:
        async with Client(backbone, "attacker") as attacker:
            asked = [asyncio.ensure_future(attacker.ask(encoded=ENDLESS)) for _ in range(3)]
            await until_decoding(backbone)
            processes = psutil.Process(backbone.process.pid).children(recursive=True)
            started = time.monotonic()
            loop = asyncio.get_running_loop()
            assert await loop.run_in_executor(None, backbone.terminate) == 0
            assert time.monotonic() - started < GRACE_SECONDS + 5
            _, alive = psutil.wait_procs(processes, 30)
            assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(each) for each in outcomes} == {UnavailableError}
    finally:
        backbone.close()


def test_the_networks_input_is_limited_where_the_aspect_ratio_is_not():
    manifest = load_bundle(TOY_BUNDLE).manifest.model_copy(update={"input": ShortestEdgeInput()})
    decoders = Decoders(50_000_000, DecodingLimits(aspect_ratio=1e9))
    inputs = Pictures(manifest, decoders)
    try:
        for width, height in ((1, 50_000_000), (50_000_000, 1), (10, 5000)):
            raw = RawImage(width, height, PixelFormat.GRAY8, bytes(width * height))
            with pytest.raises(InvalidInputError, match="limit of the bundle's input policy is"):
                inputs.make(raw)
        allowed = inputs.make(RawImage(10, 640, PixelFormat.GRAY8, bytes(6400)))
        assert allowed.tensors["pixels"].shape == (1, 3, 1344, 21)
    finally:
        decoders.close()
