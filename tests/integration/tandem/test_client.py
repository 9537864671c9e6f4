import asyncio
import gc
import itertools
import re
import textwrap
from contextlib import asynccontextmanager

import grpc
import numpy as np
import pytest

import tandem.client
from common.domain.detections import OverloadPolicy
from common.domain.errors import (
    InvalidInputError,
    ResourceExhaustedError,
    ServiceError,
    UnavailableError,
)
from common.domain.frames import EncodedImage, PixelFormat, RawImage
from common.domain.placement import Placement
from protos.tandem.v1 import detector_pb2, tensor_pb2
from tandem.client import DetectorClient
from tests.integration.tandem.toy_orchestrator import (
    ErringDetector,
    ForgetfulDetector,
    RefusingDetector,
    ShufflingDetector,
    ToyDetector,
    serving,
)


@asynccontextmanager
async def connected(servicer=None):
    """A client of a toy orchestrator; afterwards no task of either may be left."""
    servicer = servicer or ToyDetector()
    async with serving(servicer) as address:
        async with DetectorClient(address) as client:
            yield client, servicer
        assert not [task for task in asyncio.all_tasks() if "DetectStream" in repr(task)]


async def collect(results):
    return [result async for result in results]


def count_bytes(result):
    return round(result.detections[0].box.x_max - result.detections[0].box.x_min)


async def test_results_come_in_order_with_all_that_the_server_told():
    async with connected() as (client, _):
        results = await collect(client.detect([b"a", b"bb", b"ccc"]))
    assert [result.frame_id for result in results] == [0, 1, 2]
    assert [count_bytes(result) for result in results] == [1, 2, 3]
    first = results[0]
    assert first.placement is Placement.BACKBONE
    assert first.timing.backbone.execute_seconds == 0.25
    assert first.timing.transformer is None
    assert first.timing.total_seconds == 0.5
    assert first.error is None
    assert not first.dropped
    assert 0 < first.round_trip_seconds < 60


ARRAY = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("frame", "size"),
    [
        (b"jpeg", 4),
        (bytearray(b"jpeg"), 4),
        (EncodedImage(b"png"), 3),
        (ARRAY, 60),
        (ARRAY[:, ::2], 36),
        (RawImage(2, 3, PixelFormat.GRAY8, b"123456"), 6),
    ],
)
async def test_every_kind_of_frame(frame, size):
    async with connected() as (client, _):
        (result,) = await collect(client.detect([frame]))
    assert count_bytes(result) == size


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        ("text", "a frame is a str"),
        (None, "a frame is a NoneType"),
        (ARRAY.astype(np.float32), "type float32; it has to be HxWx3, uint8, RGB"),
        (ARRAY[..., 0], r"of shape \(4, 5\)"),
    ],
)
async def test_another_kind_of_frame_is_refused_after_the_results_before(frame, sentence):
    results = []
    async with connected() as (client, _):
        with pytest.raises(InvalidInputError, match=sentence):
            async for result in client.detect([b"good", frame]):
                results.append(result)
    assert [result.frame_id for result in results] == [0]


@pytest.mark.parametrize("frames", [b"jpeg", ARRAY, 7])
async def test_a_single_frame_is_no_iterable_of_frames(frames):
    async with connected() as (client, _):
        with pytest.raises(InvalidInputError, match="frames have to come as an iterable"):
            await collect(client.detect(frames))


async def test_options_reach_the_server():
    async with connected() as (client, servicer):
        await collect(
            client.detect(
                [],
                placement="transformer",
                score_threshold=0.25,
                max_detections=3,
                overload=OverloadPolicy.DROP_OLDEST,
                codec="fp16",
            )
        )
    options = servicer.options
    assert options.placement == detector_pb2.PLACEMENT_TRANSFORMER
    assert options.score_threshold == 0.25
    assert options.max_detections == 3
    assert options.overload == detector_pb2.OVERLOAD_DROP_OLDEST
    assert options.codec == tensor_pb2.CODEC_FP16


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"placement": "moon"}, "'moon' is no placement: give full, backbone"),
        ({"codec": "zip"}, "unknown codec 'zip'; codecs: fp32"),
        ({"max_in_flight": 0}, "max_in_flight has to be at least 1"),
    ],
)
async def test_malformed_options_are_refused(options, sentence):
    async with connected() as (client, _):
        with pytest.raises(InvalidInputError, match=sentence):
            await collect(client.detect([b"x"], **options))


async def test_an_asynchronous_source():
    async def frames():
        for size in (1, 2, 3):
            await asyncio.sleep(0)
            yield bytes(size)

    async with connected() as (client, _):
        results = await collect(client.detect(frames()))
    assert [count_bytes(result) for result in results] == [1, 2, 3]


async def test_errors_and_drops_are_results():
    async with connected(ErringDetector()) as (client, _):
        results = await collect(client.detect([b"x"] * 4))
    assert isinstance(results[1].error, InvalidInputError)
    assert str(results[1].error) == "undecodable image"
    assert results[1].detections == ()
    assert results[2].dropped
    assert results[2].placement is None
    assert [bool(result.detections) for result in results] == [True, False, False, True]


@pytest.mark.parametrize("limit", [1, 5])
async def test_the_source_is_not_read_ahead_of_a_slow_server(limit):
    read = itertools.count()

    def frames():
        while True:
            next(read)
            yield b"x"

    async with connected() as (client, servicer):
        servicer.gate.clear()
        stream = client.detect(frames(), max_in_flight=limit)
        first = asyncio.ensure_future(anext(stream))
        while not servicer.received:
            await asyncio.sleep(0.01)
        # Time in which it could read ahead.
        await asyncio.sleep(0.2)
        assert next(read) <= limit
        servicer.gate.set()
        await first
        await stream.aclose()


async def test_the_source_is_not_read_ahead_of_a_slow_consumer():
    read = []

    async def frames():
        for index in range(100):
            read.append(index)
            yield b"x"

    async with connected() as (client, _):
        stream = client.detect(frames(), max_in_flight=3)
        for taken in range(5):
            await anext(stream)
            await asyncio.sleep(0.05)
            assert len(read) <= taken + 3
        await stream.aclose()


async def test_leaving_the_loop_cancels_the_stream_and_closes_the_source():
    closed = asyncio.Event()

    async def frames():
        try:
            while True:
                yield b"x"
        finally:
            closed.set()

    async with connected() as (client, servicer):
        async for result in client.detect(frames()):
            if result.frame_id == 5:
                break
        await asyncio.wait_for(closed.wait(), 60)
        await asyncio.wait_for(servicer.ended.wait(), 60)


async def test_a_consumer_that_fails_closes_its_source_once():
    complaints, closed = [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def frames():
        try:
            while True:
                yield b"x"
        finally:
            # The loop's finaliser of generators and the client both close it meanwhile.
            await asyncio.sleep(0.05)
            closed.append(True)

    async def consume(client):
        async for _ in client.detect(frames()):
            raise KeyError("of the consumer's own")

    async with serving(ToyDetector()) as address:
        with pytest.raises(KeyError, match="own"):
            async with DetectorClient(address) as client:
                await consume(client)
    gc.collect()
    # The loop's finaliser among them.
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=60)
    assert (closed, complaints) == ([True], [])


async def test_leaving_the_client_ends_a_stream_that_was_left_open():
    async with connected() as (client, servicer):
        stream = client.detect(itertools.repeat(b"x"))
        await anext(stream)
    await asyncio.wait_for(servicer.ended.wait(), 60)
    await stream.aclose()


async def test_a_cancelled_consumer_cancels_the_stream():
    async with connected() as (client, servicer):
        servicer.gate.clear()
        task = asyncio.ensure_future(collect(client.detect([b"x"])))
        while not servicer.received:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(servicer.ended.wait(), 60)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_source_that_fails_is_told_after_the_results_before(asynchronous):
    def frames():
        yield b"x"
        yield b"x"
        raise OSError("the cable is out")

    async def frames_too():
        for frame in frames():
            yield frame

    results = []
    async with connected() as (client, _):
        with pytest.raises(InvalidInputError, match="source of the frames failed.*the cable is"):
            async for result in client.detect(frames_too() if asynchronous else frames()):
                results.append(result)
    assert len(results) == 2


async def test_a_tandem_error_of_the_source_is_kept():
    def frames():
        yield b"x"
        raise UnavailableError("camera 0 stopped")

    async with connected() as (client, _):
        with pytest.raises(UnavailableError, match="^camera 0 stopped$"):
            await collect(client.detect(frames()))


async def test_the_servers_status_is_the_error():
    results = []
    async with connected(RefusingDetector()) as (client, _):
        with pytest.raises(ResourceExhaustedError, match="no more today"):
            async for result in client.detect(itertools.repeat(b"x")):
                results.append(result)
    assert len(results) == 2


async def test_a_server_that_ends_early_is_told():
    async with connected(ForgetfulDetector(taken=5)) as (client, _):
        with pytest.raises(ServiceError, match="without answering frame 2"):
            await collect(client.detect([b"x"] * 5))


async def test_a_server_that_ends_early_does_not_wait_for_a_source_that_is_silent():
    async def frames():
        yield b"x"
        yield b"x"
        await asyncio.Event().wait()

    async with connected(ForgetfulDetector(taken=2)) as (client, _):
        with pytest.raises(ServiceError, match="before the frames did"):
            await asyncio.wait_for(collect(client.detect(frames())), 60)


async def test_answers_in_the_wrong_order_are_told():
    async with connected(ShufflingDetector()) as (client, _):
        with pytest.raises(ServiceError, match="answered frame 7 where frame 0 was due"):
            await collect(client.detect([b"x"]))


async def test_several_streams_share_a_client():
    async with connected() as (client, _):
        many = await asyncio.gather(
            *(collect(client.detect([bytes(size)] * 20)) for size in range(1, 5))
        )
    sizes = [{count_bytes(result) for result in results} for results in many]
    assert sizes == [{1}, {2}, {3}, {4}]


async def test_nobody_there_is_told():
    async with DetectorClient("127.0.0.1:1") as client:
        with pytest.raises(UnavailableError, match=r"no Tandem orchestrator answers at 127\.0"):
            await collect(client.detect([b"x"]))
        with pytest.raises(UnavailableError, match="no Tandem orchestrator answers"):
            await client.status()


@pytest.mark.parametrize("address", ["", ":50050", "localhost:", "localhost:http"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InvalidInputError, match="is not host:port"):
        DetectorClient(address)


async def test_status():
    async with connected() as (client, _):
        status = await client.status()
    assert status.placement_setting is None
    assert status.placement is Placement.WORKSTATION
    assert (status.stages[0].node, status.stages[0].reason) == ("edge", "gone")
    assert status.placements[0].frames_per_second == 1.5
    assert status.sessions[0].node_pair is None


async def test_watch_status():
    async with connected() as (client, _):
        assert len(await collect(client.watch_status(0.2))) == 3


async def test_set_placement():
    async with connected() as (client, _):
        status = await client.set_placement("transformer")
        assert status.placement_setting is Placement.TRANSFORMER
        assert (await client.set_placement(None)).placement_setting is None
        with pytest.raises(UnavailableError, match="backbone on edge is down"):
            await client.set_placement(Placement.FULL)


async def test_the_example_of_the_documentation_runs(capsys):
    paragraphs = re.split(r"\n\n(?! )", tandem.client.__doc__)
    (example,) = re.findall(r"((?:^    .*\n?)+)", paragraphs[0] + "\n", re.M) or [""]
    async with serving(ToyDetector()) as address:
        source = textwrap.dedent(example).replace("127.0.0.1:50050", address)
        scope = {"DetectorClient": DetectorClient, "frames": [b"one", b"three"]}
        exec("async def example():\n" + textwrap.indent(source, "    "), scope)
        await scope["example"]()
    assert capsys.readouterr().out.startswith("0 person 0.75 Box(")


class Babbler(grpc.GenericRpcHandler):
    """Answers every call with bytes that are no message."""

    def service(self, details):
        async def babble(requests, context):
            yield b"\xff\xff\xff"

        async def babble_once(request, context):
            return b"\xff\xff\xff"

        if details.method.endswith("Status"):
            return grpc.unary_unary_rpc_method_handler(babble_once)
        return grpc.stream_stream_rpc_method_handler(babble)


async def test_answers_that_cannot_be_read_are_told():
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Babbler()])
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    async with DetectorClient(address) as client:
        with pytest.raises(UnavailableError, match="no Tandem orchestrator"):
            await client.status()
        with pytest.raises(ServiceError, match="cannot be read"):
            await collect(client.detect([b"x"]))
    await server.stop(None)
