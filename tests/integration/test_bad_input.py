"""Each row of the design's table of errors, on real services."""

import grpc
import pytest
from google.rpc import code_pb2

from protos.tandem.v1 import detector_pb2
from tests.harness import Cluster
from tests.streams import LiveStream, detect_until_error, frame, jpeg, options, png_header

RGB8 = detector_pb2.PIXEL_FORMAT_RGB8


def raw(width, height, byte_count, pixel_format=RGB8):
    return {
        "raw": detector_pb2.RawImage(
            width=width, height=height, pixel_format=pixel_format, data=bytes(byte_count)
        )
    }


BAD_IMAGES = {
    "not an image": ({"encoded": b"not an image"}, "JPEG"),
    "no bytes": ({"encoded": b""}, ""),
    "no image": ({}, "no image"),
    "half a JPEG": ({"encoded": jpeg(0)[:200]}, ""),
    "GIF": ({"encoded": b"GIF89a" + bytes(100)}, "JPEG"),
    "raw, too few bytes": (raw(16, 16, 767), "768"),
    "raw, too many bytes": (raw(16, 16, 769), "768"),
    "raw, no width": (raw(0, 16, 0), ""),
    "raw, no format": (raw(16, 16, 768, detector_pb2.PIXEL_FORMAT_UNSPECIFIED), "pixel format"),
    "raw, unknown format": (raw(16, 16, 768, 99), "pixel format"),
    # The header alone: it has to be refused before it is decoded.
    "PNG of too many pixels": ({"encoded": png_header(8000, 7000)}, "8000 x 7000"),
    "PNG without width": ({"encoded": png_header(0, 7000)}, ""),
}


@pytest.fixture(scope="module")
def cluster():
    arguments = ("--max-sessions", "3", "--max-message-mebibytes", "4")
    running = Cluster(orchestrator_arguments=arguments)
    yield running
    running.close()


@pytest.mark.parametrize("name", BAD_IMAGES)
async def test_a_bad_frame_gets_an_error_and_the_stream_goes_on(cluster, name):
    image, expected_words = BAD_IMAGES[name]
    bad = detector_pb2.DetectRequest(frame=detector_pb2.Frame(frame_id=7, **image))
    responses, error = await detect_until_error(
        cluster.address, [options(), frame(5), bad, frame(8)]
    )
    assert error is None
    assert [each.frame_id for each in responses] == [5, 7, 8]
    outcomes = [each.WhichOneof("result") for each in responses]
    assert outcomes == ["detections", "error", "detections"]
    assert responses[1].error.code == code_pb2.INVALID_ARGUMENT
    assert expected_words in responses[1].error.message
    assert "\n" not in responses[1].error.message


BAD_STREAMS = {
    "an id twice": ([frame(5), frame(5)], 1, "5"),
    "a falling id": ([frame(5), frame(9), frame(6)], 2, "6"),
    "options late": ([frame(1), options()], 1, "options"),
    "options twice": ([options(), options()], 0, "options"),
    "an empty message": ([detector_pb2.DetectRequest()], 0, ""),
    "threshold over 1": ([options(score_threshold=1.5), frame(1)], 0, "1.5"),
    "threshold not a number": ([options(score_threshold=float("nan")), frame(1)], 0, "nan"),
    "unknown placement": ([options(placement=9), frame(1)], 0, "placement 9"),
    "half a pair": ([options(backbone_node="edge"), frame(1)], 0, "both, or none"),
    "a pair and a placement": (
        [options(backbone_node="edge", transformer_node="edge", placement=1), frame(1)],
        0,
        "a placement or the names of two nodes",
    ),
    "unknown codec": ([options(codec=77), frame(1)], 0, "codec 77"),
    "unknown overload policy": ([options(overload=9), frame(1)], 0, "policy 9"),
}


@pytest.mark.parametrize("name", BAD_STREAMS)
async def test_a_bad_stream_ends_after_the_accepted_frames_are_answered(cluster, name):
    requests, answered, expected_words = BAD_STREAMS[name]
    responses, error = await detect_until_error(cluster.address, requests)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert expected_words in error.details
    assert [each.WhichOneof("result") for each in responses] == ["detections"] * answered


async def test_an_empty_stream_ends_well(cluster):
    assert await detect_until_error(cluster.address, []) == ([], None)
    assert await detect_until_error(cluster.address, [options()]) == ([], None)


async def test_frame_id_zero_and_the_largest_are_valid(cluster):
    responses, error = await detect_until_error(
        cluster.address, [frame(0), frame(2**64 - 1, jpeg(1))]
    )
    assert error is None
    assert [each.frame_id for each in responses] == [0, 2**64 - 1]


async def test_sessions_over_the_limit_are_refused_and_the_others_go_on(cluster):
    streams = [LiveStream(cluster.address) for _ in range(3)]
    try:
        for stream in streams:
            await stream.send(frame(1))
            await stream.receive(1)
        _, error = await detect_until_error(cluster.address, [frame(1)])
        assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "3 streams" in error.details
        for stream in streams:
            await stream.send(frame(2))
            assert len(await stream.rest()) == 1
    finally:
        for stream in streams:
            await stream.__aexit__()
    responses, error = await detect_until_error(cluster.address, [frame(1)])
    assert (len(responses), error) == (1, None)


async def test_a_message_over_the_size_limit_ends_the_stream(cluster):
    large = detector_pb2.DetectRequest(frame=detector_pb2.Frame(frame_id=2, encoded=bytes(5 << 20)))
    _, error = await detect_until_error(cluster.address, [frame(1), large])
    assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
