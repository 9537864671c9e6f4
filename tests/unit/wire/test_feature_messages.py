"""Messages of latents that leave out what follows from the frame before."""

import pytest

from common.domain.codec import Codec, EncodedFeatures, EncodedTensor
from common.domain.errors import InvalidInputError
from common.domain.frames import FrameGeometry
from common.wire.feature_messages import FeatureMessageReader, FeatureMessages
from common.wire.frames import features_from_wire
from protos.tandem.v1 import stage_pb2

GEOMETRY = FrameGeometry(360, 480, 144, 192, 144, 192)
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SPARE = 1 << 62
LARGEST = (1 << 64) - 1


def alone(frame_id, codec=Codec.LATENT, shape=(1, 18, 9, 12)):
    return EncodedFeatures(frame_id, (EncodedTensor(shape, codec, b"alone"),), GEOMETRY)


def given(frame_id, reference_id, *, codec=Codec.LATENT, data=b"given", shape=(), geometry=None):
    tensor = EncodedTensor(shape, codec, data)
    return EncodedFeatures(frame_id, (tensor,), geometry, reference_id)


def sent(*frames, takes=True, traced=()):
    """The messages of a stream, and what arrives."""
    messages, reader = FeatureMessages(takes), FeatureMessageReader()
    requests = [
        messages.of(frame, TRACEPARENT if number in traced else "")
        for number, frame in enumerate(frames)
    ]
    data = [request.SerializeToString() for request in requests]
    arrived = [reader.features(stage_pb2.TransformerRequest.FromString(each)) for each in data]
    assert [features_from_wire(each) for each in arrived] == list(frames)
    return requests, arrived


def kinds(requests):
    return [request.WhichOneof("request") for request in requests]


@pytest.mark.parametrize("first", [0, 126, 127, 5000, SPARE, LARGEST - 2])
def test_two_bytes_stand_around_a_payload_whatever_the_ids(first):
    frames = [alone(first), given(first + 1, first), given(first + 2, first + 1)]
    requests, _ = sent(*frames)
    assert kinds(requests) == ["features", "next_latents", "next_latents"]
    assert [each.ByteSize() for each in requests[1:]] == [2 + len(b"given")] * 2


def test_ids_that_are_left_out_take_two_bytes():
    requests, _ = sent(alone(4), given(7, 4), given(8, 7), given(8 + 128, 8))
    assert kinds(requests) == ["features"] + ["next_latents"] * 3
    assert [each.skipped_frame_ids for each in requests[1:]] == [2, 0, 127]
    assert [each.ByteSize() - len(b"given") for each in requests[1:]] == [4, 2, 4]


def test_an_older_transformer_gets_what_it_knows():
    requests, _ = sent(alone(0), given(1, 0), takes=False)
    assert kinds(requests) == ["features"] * 2


def test_a_traced_frame_tells_of_its_trace_and_the_next_one_is_short():
    requests, arrived = sent(alone(0), given(1, 0), given(2, 1), traced=[1])
    assert kinds(requests) == ["features", "features", "next_latents"]
    assert [each.traceparent for each in arrived] == ["", TRACEPARENT, ""]


@pytest.mark.parametrize(
    "frame",
    [
        alone(6),
        given(6, 4),
        given(6, 7),
        given(3, 5),
        given(5, 5),
        given(6, 5, codec=Codec.LATENT_FINE),
        given(6, 5, shape=(1, 18, 9, 12)),
        given(6, 5, geometry=GEOMETRY),
    ],
)
def test_what_does_not_follow_from_the_frame_before_is_told(frame):
    requests, _ = sent(alone(4), given(5, 4), frame)
    assert kinds(requests) == ["features", "next_latents", "features"]


def test_a_frame_that_was_coded_again_is_the_one_before():
    """Frames that are coded in between refer to what the receiver lacks, and come before it."""
    requests, _ = sent(
        alone(0), given(1, 0), given(2, 1), alone(SPARE), given(3, SPARE), given(4, 3)
    )
    assert kinds(requests) == [
        *("features", "next_latents", "next_latents", "features", "features", "next_latents")
    ]


def test_features_are_never_short():
    frames = [alone(number, Codec.FP32, (1, 2, 3)) for number in range(3)]
    requests, _ = sent(*frames)
    assert kinds(requests) == ["features"] * 3


def test_an_empty_payload_arrives_as_one():
    requests, _ = sent(alone(0), given(1, 0, data=b""))
    assert kinds(requests) == ["features", "next_latents"]


def short(**fields):
    return stage_pb2.TransformerRequest(next_latents=b"given", **fields)


def test_a_short_message_cannot_be_the_first():
    with pytest.raises(InvalidInputError, match="cannot be the first frame"):
        FeatureMessageReader().features(short())


@pytest.mark.parametrize("skipped", [2, LARGEST])
def test_ids_end(skipped):
    reader = FeatureMessageReader()
    before, _ = sent(alone(LARGEST - 2))
    reader.features(before[0])
    with pytest.raises(InvalidInputError, match="frame ids end"):
        reader.features(short(skipped_frame_ids=skipped))


@pytest.mark.parametrize(
    "request_", [stage_pb2.TransformerRequest(), stage_pb2.TransformerRequest(open={})]
)
def test_what_is_no_frame_is_refused(request_):
    reader = FeatureMessageReader()
    with pytest.raises(InvalidInputError, match="has to be `features` or `next_latents`"):
        reader.features(request_)
