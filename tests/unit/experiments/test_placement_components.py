"""How a frame's time is split between edge, link and workstation."""

import pytest

from common.domain.detections import FrameTiming, StageTiming
from common.domain.placement import Placement
from experiments.placements.summary import components

BACKBONE = StageTiming(
    node="",
    decode_seconds=0.003,
    preprocess_seconds=0.001,
    queue_seconds=0.002,
    execute_seconds=0.020,
    encode_seconds=0.001,
    transfer_seconds=0.005,
    request_bytes=60_000,
)
TRANSFORMER = StageTiming(
    node="",
    decode_seconds=0.001,
    queue_seconds=0.004,
    execute_seconds=0.012,
    postprocess_seconds=0.001,
    transfer_seconds=0.007,
    request_bytes=75_000,
)
TIMING = FrameTiming(BACKBONE, TRANSFORMER, total_seconds=0.060)
# What each did by itself.
OWN = {"backbone": 0.025, "transformer": 0.014}


@pytest.mark.parametrize(
    ("placement", "cameras", "seconds", "link_bytes"),
    [
        (Placement.FULL, "edge", (0.039, 0, 0), 0),
        (Placement.BACKBONE, "edge", (0.025, 0.014, 0.007), 75_000),
        (Placement.TRANSFORMER, "edge", (0.014, 0.025, 0.012), 135_000),
        (Placement.WORKSTATION, "edge", (0, 0.039, 0.005), 60_000),
        (Placement.FULL, "workstation", (0.039, 0, 0.005), 60_000),
        (Placement.TRANSFORMER, "workstation", (0.014, 0.025, 0.007), 75_000),
        (Placement.WORKSTATION, "workstation", (0, 0.039, 0), 0),
    ],
)
def test_a_hop_is_the_link_s_only_between_the_nodes(placement, cameras, seconds, link_bytes):
    parts = components(placement, cameras, TIMING)
    assert (parts.edge, parts.workstation, parts.link) == pytest.approx(seconds)
    assert parts.link_bytes == link_bytes
    assert parts.queue == pytest.approx(0.006)


@pytest.mark.parametrize("placement", Placement)
def test_the_parts_add_up_to_the_latency(placement):
    parts = components(placement, "edge", TIMING)
    total = parts.edge + parts.link + parts.workstation + parts.queue + parts.other
    assert total == pytest.approx(TIMING.total_seconds)
    assert parts.edge_execute + parts.workstation_execute == pytest.approx(0.032)
    assert parts.edge + parts.workstation == pytest.approx(sum(OWN.values()))


def test_a_stage_that_was_not_reached_counts_nothing():
    parts = components(Placement.BACKBONE, "edge", FrameTiming(BACKBONE, None, 0.030))
    assert (parts.workstation, parts.link) == (0, 0)
