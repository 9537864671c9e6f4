"""Careless and hostile peers: each is told so in few words, and nobody else notices."""

import asyncio
import urllib.request
from socket import create_connection

import grpc
import numpy as np
import pytest

from common.bundle import load_bundle
from protos.tandem.v1 import stage_pb2, tensor_pb2
from tests.attacks import (
    BACKBONE,
    DETECT,
    TRANSFORMER,
    RawStream,
    calls_from,
    channel_to,
    delimited,
)
from tests.harness import TOY_BUNDLE, Cluster, ServiceProcess
from tests.streams import LiveStream, detect, detect_until_error, frame, jpeg, options
from tests.waiting import PATIENCE_SECONDS, until

MEBIBYTE = 1 << 20
DIGEST = load_bundle(TOY_BUNDLE).digest
INVALID = grpc.StatusCode.INVALID_ARGUMENT
SHAPE_OF_MILLIONS = b"\x12\x8a\xc9\xcd\x18\x1a\x85\xc9\xcd\x18\x0a\x80\xc9\xcd\x18" + bytes(
    51602560
)


@pytest.fixture(scope="module")
def cluster():
    running = Cluster(orchestrator_arguments=("--max-sessions-per-host", "64"))
    yield running
    running.close()


def opening(**context: object) -> bytes:
    told = stage_pb2.StreamContext(**{"sender": "edge", **context})
    return stage_pb2.TransformerRequest(
        open=stage_pb2.TransformerOpen(context=told, bundle_digest=DIGEST)
    ).SerializeToString()


def features(frame_id=1, codec=tensor_pb2.CODEC_FP32, shape=(1, 8, 3, 4), data=bytes(384), **sizes):
    sides = {"height": 96, "width": 128}
    geometry = {
        f"{part}_{side}": pixels
        for part in ("frame", "input", "valid")
        for side, pixels in sides.items()
    }
    return stage_pb2.TransformerRequest(
        features=stage_pb2.Features(
            frame_id=frame_id,
            geometry=stage_pb2.FrameGeometry(**{**geometry, **sizes}),
            tensor=tensor_pb2.Tensor(shape=shape, codec=codec, data=data),
        )
    ).SerializeToString()


MALFORMED = {
    "noise": b"\xff\xff\xff",
    "millions of empty sub-messages": b"\x12\x00" * (8 * MEBIBYTE),
    "fields without end": b"\x78\x01" * (8 * MEBIBYTE),
}
NAMES = {
    "of ten megabytes": delimited(1, delimited(6, b"n" * 10_000_000)),
    "not UTF-8": delimited(1, delimited(6, b"\xff\xfe")),
}
METHODS = [
    (DETECT, "orchestrator"),
    (BACKBONE, "edge.backbone"),
    (TRANSFORMER, "edge.transformer"),
    ("/tandem.v1.Operations/GetStatus", "orchestrator"),
    ("/tandem.v1.Operations/WatchStatus", "orchestrator"),
    ("/tandem.v1.Operations/SetPlacement", "orchestrator"),
    ("/grpc.health.v1.Health/Check", "orchestrator"),
    ("/grpc.health.v1.Health/Watch", "edge.backbone"),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "orchestrator"),
]


def service(cluster: Cluster, name: str) -> ServiceProcess:
    return cluster.orchestrator if name == "orchestrator" else cluster.stages[name]


@pytest.mark.parametrize("kind", MALFORMED)
async def test_what_cannot_be_parsed_is_the_caller_s_fault(cluster, kind):
    for method, name in METHODS:
        await assert_refused(service(cluster, name), method, MALFORMED[kind])


@pytest.mark.parametrize("kind", NAMES)
async def test_a_name_that_is_none_is_the_caller_s_fault(cluster, kind):
    await assert_refused(cluster.orchestrator, DETECT, NAMES[kind])


async def assert_refused(process: ServiceProcess, method: str, data: bytes) -> None:
    """With few words in the answer and in the log."""
    logged = len(process.log_text())
    async with channel_to(process.address) as channel:
        stream = RawStream(channel, method)
        await stream.send(data)
        code, words = await stream.end()
    assert code is INVALID, f"{method}: {code} {words}"
    assert len(words) < 1000
    assert len(process.log_text()) - logged < 1000, method


BAD_FEATURES = {
    "not a number": (features(data=np.full(96, np.nan, np.float32).tobytes()), "finite"),
    "infinite": (features(data=np.full(96, np.inf, np.float32).tobytes()), "finite"),
    "half infinite": (
        features(codec=tensor_pb2.CODEC_FP16, data=np.full(96, np.inf, np.float16).tobytes()),
        "finite",
    ),
    "nine dimensions": (features(shape=[1] * 9, data=bytes(4)), "8 dimensions"),
    "no codec": (features(codec=0), "codec"),
    "unknown codec": (features(codec=99), "codec 99"),
    "valid beyond the input": (features(valid_width=129), "sizes"),
    "no height": (features(frame_height=0), "sizes"),
    "too large": (features(input_width=2**32 - 1, valid_width=2**32 - 1), "shape"),
}


async def test_bad_features_are_answered_and_the_stream_goes_on(cluster):
    async with channel_to(cluster.stages["edge.transformer"].address) as channel:
        stream = RawStream(channel, TRANSFORMER)
        await stream.send(opening())
        assert await stream.call.read() is not grpc.aio.EOF
        for name, (message, expected) in BAD_FEATURES.items():
            await stream.send(message)
            answer = stage_pb2.StageResponse.FromString(await stream.call.read()).result
            assert answer.error.code == INVALID.value[0], name
            assert expected in answer.error.message, name
            assert len(answer.error.message) < 1000


async def test_a_shape_of_millions_of_dimensions_ends_its_stream(cluster):
    process = cluster.stages["edge.transformer"]
    logged = len(process.log_text())
    async with channel_to(process.address) as channel:
        stream = RawStream(channel, TRANSFORMER)
        await stream.send(opening(), SHAPE_OF_MILLIONS)
        code, words = await stream.end()
    assert (code, "8 dimensions" in words) == (INVALID, True)
    assert len(process.log_text()) - logged < 1000


async def test_names_from_the_wire_do_not_become_metrics(cluster):
    process = cluster.stages["edge.transformer"]
    for number in range(60):
        async with channel_to(process.address) as channel:
            stream = RawStream(channel, TRANSFORMER)
            await stream.send(opening(sender=f"stranger-{number}"), features())
            assert await stream.call.read() is not grpc.aio.EOF
            assert await stream.call.read() is not grpc.aio.EOF
    with urllib.request.urlopen(process.metrics_url) as page:
        series = [line for line in page.read().decode().splitlines() if not line.startswith("#")]
    assert len({line for line in series if "stranger" in line or "other" in line}) < 700
    assert len(series) < 2000
    assert process.metric("tandem_link_bytes_total", peer="other") >= 40 * 384


async def test_a_client_s_id_may_be_that_of_a_copy(cluster):
    # Copies for measurement count down from the largest; 4 in 100 frames have one.
    last = 2**64 - 1
    requests = [options(), *(frame(last - 99 + number) for number in range(100))]
    responses = await detect(cluster.address, requests)
    assert [each.frame_id for each in responses] == list(range(last - 99, last + 1))
    assert {each.WhichOneof("result") for each in responses} == {"detections"}


async def test_frames_of_one_id_are_answered_by_a_stage(cluster):
    context = stage_pb2.StreamContext(sender="edge")
    first = stage_pb2.BackboneRequest(
        open=stage_pb2.BackboneOpen(context=context, downstream_node="edge")
    )
    same = stage_pb2.BackboneRequest(frame=frame(7).frame)
    async with channel_to(cluster.stages["edge.backbone"].address) as channel:
        stream = RawStream(channel, BACKBONE)
        await stream.send(first.SerializeToString(), *[same.SerializeToString()] * 8)
        answers = [
            stage_pb2.StageResponse.FromString(
                await asyncio.wait_for(stream.call.read(), PATIENCE_SECONDS)
            )
            for _ in range(9)
        ]
    assert [each.result.frame_id for each in answers[1:]] == [7] * 8
    assert {each.result.WhichOneof("result") for each in answers[1:]} == {"detections"}


async def silent_streams(channel, method, count):
    streams = [RawStream(channel, method) for _ in range(count)]
    # Headers go with the first message or on their own; wait until they have.
    for stream in streams:
        await stream.call.wait_for_connection()
    return streams


async def test_silent_streams_lock_nobody_out(cluster):
    async with channel_to(cluster.address) as channel:
        silent = await silent_streams(channel, DETECT, 80)
        began = asyncio.get_running_loop().time()
        responses = await detect(cluster.address, [options(), frame(1)])
        assert len(silent) == 80
        assert [each.WhichOneof("result") for each in responses] == ["detections"]
        assert asyncio.get_running_loop().time() - began < 30


async def test_one_peer_gets_a_quarter_of_the_sessions(cluster):
    async with calls_from("127.0.0.2", cluster.address) as address:
        streams = []
        try:
            for _ in range(64):
                stream = LiveStream(address)
                streams.append(stream)
                await stream.send(options(), frame(1))
                await stream.receive(1)
            _, error = await detect_until_error(address, [frame(1)])
            assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert (
                "64 streams of one host are open, which is the limit (max_sessions_per_host)"
                in error.details
            )
            assert len(await detect(cluster.address, [frame(1)])) == 1
        finally:
            for stream in streams:
                await stream.__aexit__()


async def test_connections_to_the_metrics_that_send_nothing_lock_nobody_out(cluster):
    url = cluster.orchestrator.metrics_url
    host, _, port = url.split("/")[2].rpartition(":")
    idle = [create_connection((host, int(port))) for _ in range(100)]
    try:
        for connection in idle[90:]:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        for _ in range(3):
            with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as page:
                assert b"tandem_frames" in page.read()
    finally:
        for connection in idle:
            connection.close()


async def test_a_head_without_end_is_cut(cluster):
    host, _, port = cluster.orchestrator.metrics_url.split("/")[2].rpartition(":")
    with create_connection((host, int(port)), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\n" + b"X: " + b"y" * 30_000)
        answer = b""
        while True:
            try:
                part = connection.recv(65536)
            except ConnectionResetError:
                break
            if not part:
                break
            answer += part
    assert answer == b"" or answer.startswith(b"HTTP/1.0")


async def test_silence_ends_a_stream_and_the_orchestrator_opens_another():
    # Longer than a machine stops a process in the midst of a frame.
    short = ("--max-silence-seconds", "3")
    cluster = Cluster(stage_arguments=short, nodes=("edge",))
    try:
        async with LiveStream(cluster.address) as stream:
            await stream.send(options(), frame(1))
            await stream.receive(1)
            backbone = cluster.stages["edge.backbone"]

            def ended():
                return [e for e in backbone.log_events() if e["event"] == "stream ended"]

            await until(ended)
            await stream.send(frame(2))
            (answer,) = await stream.receive(1)
            assert answer.WhichOneof("result") == "detections"
        assert cluster.orchestrator.failovers() == 0
        assert "3 s" in ended()[0]["error"]
    finally:
        cluster.close()


async def test_a_client_that_says_nothing_or_takes_nothing_is_ended():
    short = ("--max-silence-seconds", "1")
    cluster = Cluster(orchestrator_arguments=short, nodes=("edge",))
    try:
        async with channel_to(cluster.address) as channel:
            stream = RawStream(channel, DETECT)
            await stream.send(frame(1).SerializeToString())
            await stream.call.read()
            code, words = await stream.end()
            assert code is grpc.StatusCode.UNAVAILABLE
            assert "nothing came for 1 s" in words
        # Answers are few bytes: thousands of them fill the window of a client that reads none.
        async with channel_to(cluster.address) as channel:
            deaf = RawStream(channel, DETECT)
            picture = jpeg(1)

            async def send() -> None:
                await deaf.send(options().SerializeToString())
                for number in range(1, 20000):
                    await deaf.send(frame(number, picture).SerializeToString())

            sending = asyncio.ensure_future(send())
            events = cluster.orchestrator.log_events
            await until(lambda: any("not taken" in str(each.get("error")) for each in events()))
            sending.cancel()
            assert len(await detect(cluster.address, [frame(1)])) == 1
    finally:
        cluster.close()
