"""Predictions from literal estimates."""

import pytest

from common.domain.placement import EDGE, ORCHESTRATOR, WORKSTATION, NodePair, Placement, Stage
from services.orchestrator.decision.prediction import predict
from services.orchestrator.estimation.estimates import (
    Estimates,
    LinkEstimate,
    PairEstimate,
    StageEstimate,
)

BACKBONE, TRANSFORMER = Stage.BACKBONE, Stage.TRANSFORMER
FULL = Placement.FULL.node_pair
SPLIT = Placement.BACKBONE.node_pair
REVERSE = Placement.TRANSFORMER.node_pair
WORKSTATION_ONLY = Placement.WORKSTATION.node_pair


def stage(milliseconds, replicas=1):
    seconds = milliseconds / 1e3
    return StageEstimate(seconds, seconds + 0.002, 100, 0.1, replicas)


def link(megabits, latency_seconds=0.001, **fields):
    return LinkEstimate(megabits * 1e6 / 8, latency_seconds, 0.1, **fields)


def both_ways(megabits):
    return {(EDGE, WORKSTATION): link(megabits), (WORKSTATION, EDGE): link(megabits)}


def estimates(megabits=100, **changes):
    """The thesis's TX2: a ResNet-50 backbone in 21 ms, of 40 ms for the whole model."""
    values = {
        "stages": {
            (EDGE, BACKBONE): stage(21),
            (EDGE, TRANSFORMER): stage(19),
            (WORKSTATION, BACKBONE): stage(7),
            (WORKSTATION, TRANSFORMER): stage(6),
        },
        "links": both_ways(megabits),
        "frame_bytes": 50_000,
        "feature_bytes": 218_000,
    }
    values.update(changes)
    return Estimates(**values)


@pytest.mark.parametrize(
    ("node_pair", "located_at", "megabits", "expected"),
    [
        (FULL, EDGE, 100, (40, "both stages on edge", 0)),
        (SPLIT, EDGE, 100, (21, "backbone on edge", 218)),
        (SPLIT, EDGE, 20, (87.252, "link edge to workstation", 218)),
        (REVERSE, EDGE, 1000, (19, "transformer on edge", 268)),
        (REVERSE, EDGE, 20, (87.252, "link workstation to edge", 268)),
        (WORKSTATION_ONLY, EDGE, 1000, (13, "both stages on workstation", 50)),
        (WORKSTATION_ONLY, EDGE, 20, (20.052, "link edge to workstation", 50)),
        (WORKSTATION_ONLY, WORKSTATION, 5, (13, "both stages on workstation", 0)),
        (FULL, WORKSTATION, 5, (80.208, "link workstation to edge", 50)),
        (SPLIT, WORKSTATION, 100, (21, "backbone on edge", 268)),
    ],
)
def test_the_slowest_part_sets_the_pace(node_pair, located_at, megabits, expected):
    milliseconds, bottleneck, kilobytes = expected
    prediction = predict(node_pair, estimates(megabits), located_at)
    assert prediction.frames_per_second == pytest.approx(1e3 / milliseconds)
    assert prediction.bottleneck == bottleneck
    assert prediction.bytes_per_frame == kilobytes * 1e3
    assert prediction.known


def test_latency_is_all_steps_and_each_crossing():
    assert predict(FULL, estimates(), EDGE).latency_seconds == pytest.approx(0.044)
    crossing_seconds = 0.001 + 218_130 * 8 / 100e6
    expected = 0.023 + 0.008 + crossing_seconds
    assert predict(SPLIT, estimates(), EDGE).latency_seconds == pytest.approx(expected)


def test_an_orchestrator_on_no_node_sends_every_frame_over_a_link():
    to_edge, to_workstation = (ORCHESTRATOR, EDGE), (ORCHESTRATOR, WORKSTATION)
    links = {to_edge: link(1), to_workstation: link(1000), **both_ways(1000)}
    known = estimates(links=links)
    assert predict(FULL, known, ORCHESTRATOR).bottleneck == "link orchestrator to edge"
    assert predict(FULL, known, ORCHESTRATOR).bytes_per_frame == 50_000
    assert predict(WORKSTATION_ONLY, known, ORCHESTRATOR).frames_per_second == pytest.approx(
        1 / 0.013
    )


def test_replicas_share_the_frames_of_a_stage():
    known = estimates()
    stages = {**known.stages, (EDGE, BACKBONE): stage(21, replicas=3)}
    prediction = predict(SPLIT, estimates(1000, stages=stages), EDGE)
    assert prediction.frames_per_second == pytest.approx(1 / 0.007)


@pytest.mark.parametrize(
    ("changes", "unknown"),
    [
        ({"stages": {}}, ("backbone on edge", "transformer on workstation")),
        ({"links": {}}, ("link edge to workstation",)),
        ({"feature_bytes": None}, ("bytes over the link edge to workstation",)),
    ],
)
def test_what_was_never_measured_is_not_predicted(changes, unknown):
    prediction = predict(SPLIT, estimates(**changes), EDGE)
    assert not prediction.known
    assert prediction.unknown == unknown
    assert prediction.frames_per_second is None


def test_nothing_known_at_all():
    assert not predict(SPLIT, Estimates(), EDGE).known


def test_one_direction_stands_for_the_other_and_says_so():
    prediction = predict(SPLIT, estimates(links={(WORKSTATION, EDGE): link(20)}), EDGE)
    assert prediction.frames_per_second == pytest.approx(1 / 0.087252)
    assert prediction.assumed == ("link edge to workstation is as fast as the other direction",)


@pytest.mark.parametrize(
    ("compute_share", "age_seconds", "frames_per_second"),
    [
        (None, 0.1, 25.0),
        (0.8, 0.1, 20.0),
        (0.8, 119.0, 20.0),
        (0.8, 121.0, 25.0),
        (40 / 21, 0.1, 1 / 0.021),
        (40 / 21, 1e6, 1 / 0.021),
    ],
)
def test_what_a_pair_reached_corrects_the_model(compute_share, age_seconds, frames_per_second):
    pairs = {FULL: PairEstimate(20.0, age_seconds, compute_share)}
    prediction = predict(FULL, estimates(pairs=pairs), EDGE)
    assert prediction.frames_per_second == pytest.approx(frames_per_second)


def test_what_a_pair_reached_does_not_lift_a_link_that_is_slow_now():
    pairs = {WORKSTATION_ONLY: PairEstimate(140.0, 0.1, 2.0)}
    assert predict(
        WORKSTATION_ONLY, estimates(5, pairs=pairs), EDGE
    ).frames_per_second == pytest.approx(5e6 / 8 / 50_130)


def test_a_rate_reached_over_a_slow_link_says_nothing_of_a_fast_one():
    pairs = {SPLIT: PairEstimate(2.9, 0.1, None)}
    prediction = predict(SPLIT, estimates(1000, pairs=pairs), EDGE)
    assert prediction.frames_per_second == pytest.approx(1 / 0.021)


def test_energy_is_power_by_compute_time_of_each_node():
    known = estimates(watts={EDGE: 10.0, WORKSTATION: 100.0})
    assert predict(FULL, known, EDGE).energy_joules == pytest.approx(10 * 0.044)
    assert predict(SPLIT, known, EDGE).energy_joules == pytest.approx(10 * 0.023 + 100 * 0.008)


def test_energy_is_not_known_without_the_power_of_each_node():
    known = estimates(watts={EDGE: 10.0})
    assert predict(FULL, known, EDGE).energy_joules is not None
    assert predict(SPLIT, known, EDGE).energy_joules is None


def test_two_edge_devices():
    node_pair = NodePair("left", "right")
    stages = {("left", BACKBONE): stage(21), ("right", TRANSFORMER): stage(19)}
    known = estimates(stages=stages, links={("left", "right"): link(1000)})
    assert predict(node_pair, known, "left").frames_per_second == pytest.approx(1 / 0.021)


def test_a_stage_that_takes_no_time_is_no_limit():
    stages = {(EDGE, BACKBONE): stage(0), (EDGE, TRANSFORMER): stage(0)}
    assert predict(FULL, estimates(stages=stages), EDGE).frames_per_second == pytest.approx(1e6)
