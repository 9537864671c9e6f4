"""What a client keeps of its video, to send it again."""

from protos.tandem.v1 import detector_pb2
from tandem.group import Group
from tandem.supply import Supplied

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_an_answered_frame_that_is_sent_again_is_part_of_no_trace():
    unit = detector_pb2.AccessUnit(data=b"a key frame", key_frame=True)
    frame = detector_pb2.Frame(encoded_video=unit, traceparent=PARENT)
    group = Group(is_kept=True)
    group.add(Supplied(0, 0.0, detector_pb2.DetectRequest(frame=frame)))
    (kept,) = group.frames
    assert kept.request.frame == detector_pb2.Frame(encoded_video=unit)
