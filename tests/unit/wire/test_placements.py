"""What a client asks for, there and back; and what no client may ask for."""

import pytest

from common.domain.codec import Codec
from common.domain.detections import OverloadPolicy, StreamOptions
from common.domain.errors import InvalidInputError
from common.domain.placement import NodePair, Placement
from common.wire.placements import stream_options_from_wire, stream_options_to_wire
from protos.tandem.v1 import detector_pb2


@pytest.mark.parametrize(
    "options",
    [
        StreamOptions(score_threshold=0.25),
        StreamOptions(score_threshold=0.0, max_detections=3, codec=Codec.INT8),
        *(StreamOptions(0.5, overload=policy) for policy in OverloadPolicy),
        *(StreamOptions(0.5, codec=codec) for codec in Codec),
        *(StreamOptions(0.5, requested_pair=placement.node_pair) for placement in Placement),
        StreamOptions(0.5, requested_pair=NodePair("attic", "cellar")),
    ],
)
def test_options_survive_the_wire(options):
    assert stream_options_from_wire(stream_options_to_wire(options)) == options


def test_what_is_left_out_is_the_default():
    assert stream_options_from_wire(detector_pb2.StreamOptions()) == StreamOptions()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"placement": 9}, "unknown placement 9"),
        ({"codec": 99}, "unknown codec 99"),
        ({"overload": 9}, "unknown overload policy 9"),
        ({"score_threshold": 1.5}, "1.5 is not within 0 to 1"),
        ({"score_threshold": float("nan")}, "nan is not within 0 to 1"),
        ({"backbone_node": "edge"}, "both, or none"),
        (
            {"placement": 1, "backbone_node": "edge", "transformer_node": "edge"},
            "a placement or the names of two nodes, not both",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(wrong, words):
    with pytest.raises(InvalidInputError, match=words):
        stream_options_from_wire(detector_pb2.StreamOptions(**wrong))
