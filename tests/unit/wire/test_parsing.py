"""Requests are looked through before protobuf makes objects of them."""

import time
import tracemalloc

import pytest

from common.domain.errors import InvalidInputError
from common.wire.parsing import MAX_ANSWER_BYTES, RequestParser, parse_answer
from protos.tandem.v1 import detector_pb2, operations_pb2, stage_pb2, tensor_pb2
from tests.attacks import delimited


def frame(**fields: object) -> detector_pb2.DetectRequest:
    return detector_pb2.DetectRequest(frame=detector_pb2.Frame(**fields))


HONEST = [
    frame(frame_id=2**64 - 1, encoded=bytes(300)),
    frame(frame_id=1, raw=detector_pb2.RawImage(width=1, height=2**32 - 1, data=bytes(70000))),
    # Of no use as one, which costs the frame its trace and nothing else.
    frame(frame_id=3, encoded=bytes(300), traceparent="ä" * 3000),
    detector_pb2.DetectRequest(),
    detector_pb2.DetectRequest(
        options=detector_pb2.StreamOptions(score_threshold=0.5, backbone_node="ä" * 64)
    ),
    stage_pb2.TransformerRequest(
        features=stage_pb2.Features(
            frame_id=5,
            geometry=stage_pb2.FrameGeometry(frame_height=480, input_width=2**32 - 1),
            tensor=tensor_pb2.Tensor(shape=[1, 256, 25, 34], codec=3, data=bytes(1000)),
        )
    ),
    stage_pb2.TransformerRequest(
        features=stage_pb2.Features(
            tensor=tensor_pb2.Tensor(shape=[1, 256, 80, 80], codec=3, data=bytes(1000)),
            further_tensors=[
                tensor_pb2.Tensor(shape=[1, 256, 9, 9], codec=3, data=bytes(1000)) for _ in range(7)
            ],
        )
    ),
    operations_pb2.WatchStatusRequest(),
]


@pytest.mark.parametrize("message", HONEST, ids=range(len(HONEST)))
def test_an_honest_request_comes_through(message):
    parser = RequestParser(type(message))
    assert parser.parse(message.SerializeToString()) == message
    # A field that a later version has is no fault.
    parser.parse(message.SerializeToString() + delimited(15, b"later"))


HOSTILE = {
    "empty sub-messages": (detector_pb2.DetectRequest, b"\x12\x00" * 4_000_000),
    "empty sub-messages, nested": (
        detector_pb2.DetectRequest,
        delimited(2, b"\x22\x00" * 4_000_000),
    ),
    "unknown fields": (operations_pb2.SetPlacementRequest, b"\x78\x01" * 4_000_000),
    "a shape of millions of dimensions": (
        stage_pb2.TransformerRequest,
        delimited(2, delimited(3, delimited(1, b"\x01" * 8_000_000))),
    ),
    "the same, unpacked": (
        stage_pb2.TransformerRequest,
        delimited(2, delimited(3, b"\x08\x01" * 4_000_000)),
    ),
    "tensors by the million": (
        stage_pb2.TransformerRequest,
        delimited(2, b"\x32\x00" * 4_000_000),
    ),
    "a name of megabytes": (
        stage_pb2.BackboneRequest,
        delimited(1, delimited(2, b"n" * 8_000_000)),
    ),
    "a name of 65 characters": (
        detector_pb2.DetectRequest,
        delimited(1, delimited(6, "ä".encode() * 65)),
    ),
    "a digest of megabytes": (
        stage_pb2.TransformerRequest,
        delimited(1, delimited(2, b"0" * 8_000_000)),
    ),
    "a name that is not UTF-8": (
        detector_pb2.DetectRequest,
        delimited(1, delimited(6, b"\xff\xfe")),
    ),
    "noise": (detector_pb2.DetectRequest, b"\xff" * 100),
    "an end within a field": (detector_pb2.DetectRequest, b"\x12\x05abc"),
    "an end within a number": (detector_pb2.DetectRequest, b"\x12\x80"),
    "a group": (detector_pb2.DetectRequest, b"\x13\x14"),
    "a field number of nought": (detector_pb2.DetectRequest, b"\x02\x00"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_request_costs_next_to_nothing(name):
    kind, data = HOSTILE[name]
    parser = RequestParser(kind)
    tracemalloc.start()
    took = []
    for _ in range(5):
        began = time.thread_time()
        with pytest.raises(InvalidInputError) as refusal:
            parser.parse(data)
        took.append(time.thread_time() - began)
        assert len(str(refusal.value)) < 200
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
    assert min(took) < 0.01


def test_an_answer_is_bounded():
    answer = stage_pb2.StageResponse(opened=stage_pb2.Opened(node="edge"))
    assert parse_answer(stage_pb2.StageResponse, answer.SerializeToString()) == answer
    for data in (b"\xff", delimited(1, bytes(MAX_ANSWER_BYTES))):
        with pytest.raises(InvalidInputError):
            parse_answer(stage_pb2.StageResponse, data)
