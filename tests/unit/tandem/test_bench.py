import pytest

from common.domain.detections import FrameTiming
from common.domain.errors import InvalidInputError
from common.domain.placement import Placement, Stage
from tandem.bench import (
    BenchPlan,
    Sample,
    link_bytes,
    percentile,
    report,
    report_to_json,
)
from tests.unit.tandem.factories import result, stage_timing


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100)]
)
def test_percentiles_are_nearest_ranks(share, expected):
    assert percentile(range(1, 101), share) == expected


def test_a_percentile_of_one_value_is_it():
    assert percentile([7.0], 0.99) == 7.0


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        (Placement.FULL, 0),
        (Placement.BACKBONE, 1000),
        (Placement.TRANSFORMER, 4000),
        (Placement.WORKSTATION, 3000),
    ],
)
def test_link_bytes(placement, expected):
    timing = FrameTiming(stage_timing(0, 3000), stage_timing(0, 1000), 0.0)
    assert link_bytes(placement, timing) == expected


def test_report_by_hand():
    stages = stage_timing(0.020, 3000), stage_timing(0.010, 1000)
    samples = [
        Sample(10.0 + 0.025 * index, result(index, timing=FrameTiming(*stages, total_seconds)))
        for index, total_seconds in enumerate([0.1, 0.2, 0.3, 0.4, 0.5])
    ]
    one = report(BenchPlan(Placement.BACKBONE), samples, "fp16", {Stage.BACKBONE: 20.0})
    assert one.fps == pytest.approx(40.0)
    assert one.ideal_fps == pytest.approx(50.0)
    assert one.efficiency == pytest.approx(0.8)
    assert (one.latency_ms.p50, one.latency_ms.p99) == pytest.approx((300.0, 500.0))
    assert one.bytes_per_frame == 1000
    assert one.stage_ms["backbone"]["execute"] == pytest.approx(20.0)
    assert one.stage_ms["transformer"]["execute"] == pytest.approx(10.0)


def test_the_json_form_has_the_keys_of_the_contract():
    one = report(
        BenchPlan(Placement.FULL), [Sample(0.0, result()), Sample(1.0, result(1))], "fp16", {}
    )
    row = report_to_json(one)
    contract = {"placement", "codec", "frames", "fps", "latency_ms", "bytes_per_frame"}
    assert contract | {"stage_ms", "ideal_fps", "efficiency"} <= set(row)
    assert row["placement"] == "full"
    assert set(row["latency_ms"]) == {"p50", "p95", "p99"}
    assert row["simulated"] == {}


def test_one_frame_has_no_rate():
    with pytest.raises(InvalidInputError, match="at least two frames"):
        report(BenchPlan(Placement.FULL), [Sample(0.0, result())], None, {})
