"""What a client limits, what a backbone tells of its rates, and names that answers leave out."""

import pytest

from common.domain.codec import Codec, RateFigures
from common.domain.detections import Box, Detection, StageTiming, StreamOptions
from common.domain.errors import InvalidInputError
from common.wire.detections import (
    add_category_names,
    detections_from_wire,
    detections_to_wire,
    stage_timing_from_wire,
    stage_timing_to_wire,
)
from common.wire.frames import latent_rates_from_wire
from common.wire.placements import stream_options_from_wire, stream_options_to_wire
from protos.tandem.v1 import detection_pb2, detector_pb2, stage_pb2, tensor_pb2

DETECTIONS = (
    Detection(3, "bicycle", 0.5, Box(1.0, 2.0, 3.0, 4.0)),
    Detection(1, "person", 0.25, Box(5.0, 6.0, 7.0, 8.0)),
)


def test_a_limit_travels_with_the_options():
    options = StreamOptions(score_threshold=0.5, max_link_bits_per_second=64_000)
    assert stream_options_from_wire(stream_options_to_wire(options)) == options


def test_a_limit_beside_a_codec_is_refused():
    wire = detector_pb2.StreamOptions(codec=tensor_pb2.CODEC_INT8, max_link_bits_per_second=64_000)
    with pytest.raises(InvalidInputError, match="int8 is asked for"):
        stream_options_from_wire(wire)


def rate(codec=tensor_pb2.CODEC_LATENT, size=100.0, key_size=500.0, **values):
    return stage_pb2.LatentRate(
        codec=codec, bytes_per_frame=size, bytes_per_key_frame=key_size, **values
    )


def test_rates_are_told_the_finest_first():
    told = [
        rate(tensor_pb2.CODEC_LATENT_COARSE, 50.0),
        rate(tensor_pb2.CODEC_LATENT, 100.0, average_precision=0.7),
    ]
    assert latent_rates_from_wire(told) == (
        RateFigures(Codec.LATENT, 100.0, 500.0, 0.7),
        RateFigures(Codec.LATENT_COARSE, 50.0, 500.0),
    )


@pytest.mark.parametrize(
    "impossible",
    [
        rate(size=float("nan")),
        rate(size=-1.0),
        rate(key_size=float("inf")),
        rate(average_precision=1.5),
        rate(average_precision=float("nan")),
        rate(tensor_pb2.CODEC_INT8),
        rate(99),
    ],
)
def test_a_rate_that_cannot_be_is_left_out(impossible):
    fine = rate(tensor_pb2.CODEC_LATENT_FINE)
    (kept,) = latent_rates_from_wire([impossible, fine])
    assert kept.codec is Codec.LATENT_FINE


@pytest.mark.parametrize("codec", [None, Codec.LATENT_COARSE])
def test_a_backbone_tells_the_codec_of_each_frame(codec):
    timing = StageTiming("edge", codec=codec)
    assert stage_timing_from_wire(stage_timing_to_wire(timing)) == timing


def test_a_codec_of_a_newer_version_is_not_known():
    assert stage_timing_from_wire(detection_pb2.StageTiming(codec=99)).codec is None


def test_names_that_an_answer_leaves_out_are_added():
    short = detections_to_wire(DETECTIONS, names=False)
    assert {each.category_name for each in short.detections} == {""}
    assert short.ByteSize() < detections_to_wire(DETECTIONS).ByteSize()
    add_category_names(short, {each.category_id: each.category_name for each in DETECTIONS})
    assert detections_from_wire(short) == detections_from_wire(detections_to_wire(DETECTIONS))
    add_category_names(short, {})
    assert all(each.category_name for each in short.detections)
