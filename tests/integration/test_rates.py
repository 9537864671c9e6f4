"""A link that becomes slow: features take a coarser rate, and every frame is answered once."""

import asyncio
import time
from collections import deque
from contextlib import ExitStack, asynccontextmanager
from functools import partial

import pytest

from common.domain.codec import Codec
from common.domain.placement import Stage
from common.wire.frames import codec_to_wire
from protos.tandem.v1 import detector_pb2
from services.arguments import orchestrator_arguments, stage_arguments
from tests.harness import TOY_BUNDLE, ServiceProcess
from tests.streams import LiveStream, frame, jpeg, options, status

COARSE = codec_to_wire(Codec.LATENT_COARSE)
WAIT_SECONDS = 60.0
# Engines that are as fast as a toy's would fill any link; these take 50 frames a second.
PACE = ("--paced-milliseconds", "20")
SLOW_BYTES_PER_SECOND = 1_000.0
_CHUNK_BYTES = 200


class SlowableLink:
    """A proxy; what clients send through it can be slowed down while it is in use."""

    def __init__(self):
        self.bytes_per_second = float("inf")

    @asynccontextmanager
    async def to(self, address):
        server = await asyncio.start_server(partial(self._connect, address), "127.0.0.1", 0)
        async with server:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _connect(self, address, reader, writer):
        host, _, port = address.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(
            self._carry(reader, far_writer, slowed=True),
            self._carry(far_reader, writer, slowed=False),
        )

    async def _carry(self, reader, writer, slowed):
        try:
            while True:
                data = await reader.read(_CHUNK_BYTES)
                if not data:
                    break
                if slowed:
                    await asyncio.sleep(len(data) / self.bytes_per_second)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def split_over(link):
    """A backbone, and behind the link its transformer; gives the orchestrator's address."""
    with ExitStack() as stack:

        def started(module, *arguments):
            process = ServiceProcess(module, *arguments)
            stack.callback(process.close)
            return process

        def stage(node, which, addresses):
            arguments = stage_arguments(TOY_BUNDLE, node, which, "127.0.0.1:0", addresses)
            return started(f"services.{which.value}", *arguments, *PACE)

        transformer = stage("workstation", Stage.TRANSFORMER, {})
        async with link.to(transformer.address) as seen:
            addresses = {("workstation", Stage.TRANSFORMER): [seen]}
            backbone = stage("edge", Stage.BACKBONE, addresses)
            addresses["edge", Stage.BACKBONE] = [backbone.address]
            orchestrator = started(
                "services.orchestrator",
                *orchestrator_arguments("127.0.0.1:0", addresses),
                *("--objective", "accuracy", "--located-at", "edge"),
            )
            yield orchestrator.address


class Sender:
    """Keeps some frames in flight and notes each answer's id, and the codec that it came by."""

    def __init__(self, stream):
        self._stream = stream
        self._images = [jpeg(seed) for seed in range(4)]
        self._in_flight = deque()
        self.sent = 0
        self.answers = []

    async def until(self, condition):
        """Send and receive until the latest answer's codec is as wanted."""
        end = time.monotonic() + WAIT_SECONDS
        while not (self.answers and condition(self.answers[-1].timing.backbone.codec)):
            assert time.monotonic() < end, "the rate never changed"
            await self.go_on()

    async def go_on(self):
        """Send a frame, or with enough in flight receive an answer."""
        if self.sent - len(self.answers) < 4:
            await self._stream.send(frame(self.sent, self._images[self.sent % 4]))
            self.sent += 1
        else:
            self.answers += await self._stream.receive(1)


@pytest.mark.alone
async def test_a_link_that_becomes_slow_gets_a_coarser_rate_and_no_frame_is_lost():
    link = SlowableLink()
    async with split_over(link) as address, LiveStream(address) as stream:
        await stream.send(options(placement=detector_pb2.PLACEMENT_BACKBONE))
        sender = Sender(stream)
        await sender.until(lambda codec: codec != COARSE)
        # Nothing was known of the link when the first frame came.
        assert sender.answers[0].timing.backbone.codec == COARSE
        link.bytes_per_second = SLOW_BYTES_PER_SECOND
        await sender.until(lambda codec: codec == COARSE)
        # A frame that was sent at the former rate, or tries a finer one, may be answered meanwhile.
        end = time.monotonic() + WAIT_SECONDS
        while (session := (await status(address)).sessions[0]).codec != COARSE:
            assert time.monotonic() < end, "status never told the rate"
            await sender.go_on()
        assert session.codec_reason.startswith("latent-coarse: ")
        link.bytes_per_second = float("inf")
        sender.answers += await stream.rest()
    assert [answer.frame_id for answer in sender.answers] == list(range(sender.sent))
    assert all(answer.WhichOneof("result") == "detections" for answer in sender.answers)
