"""Placement decisions, by tables of literal states."""

import pytest

from common.domain.errors import PreconditionError, UnavailableError
from common.domain.placement import Placement, Stage, StageAddress
from services.orchestrator.placement import StageHealth, choose_route, obstacle

ALL = ["edge.backbone", "edge.transformer", "workstation.backbone", "workstation.transformer"]


def states(up, known=ALL):
    table = {}
    for port, name in enumerate(known):
        node, stage = name.split(".")
        address = StageAddress(node, Stage(stage), f"host:{port}")
        reason = "" if name in up else "refused"
        table[node, Stage(stage)] = StageHealth(address, name in up, reason)
    return table


@pytest.mark.parametrize(
    ("wanted", "down", "expected"),
    [
        (None, [], Placement.BACKBONE),
        (None, ["edge.transformer"], Placement.BACKBONE),
        (None, ["workstation.transformer"], Placement.TRANSFORMER),
        (None, ["edge.backbone"], Placement.TRANSFORMER),
        (None, ["edge.backbone", "edge.transformer"], Placement.WORKSTATION),
        (None, ["workstation.backbone", "workstation.transformer"], Placement.FULL),
        (Placement.FULL, ["workstation.backbone", "workstation.transformer"], Placement.FULL),
        (Placement.WORKSTATION, [], Placement.WORKSTATION),
    ],
)
def test_the_route_taken(wanted, down, expected):
    route = choose_route(wanted, states([name for name in ALL if name not in down]))
    assert route.placement is expected
    assert route.backbone.node == expected.backbone_node
    assert route.transformer_node == expected.transformer_node


@pytest.mark.parametrize(
    ("wanted", "up", "named"),
    [
        (None, [], ALL),
        (None, ["edge.backbone", "workstation.backbone"], ["edge.transformer"]),
        (Placement.FULL, ["edge.backbone"], ["edge.transformer"]),
        (Placement.BACKBONE, ["edge.transformer"], ["edge.backbone", "workstation.transformer"]),
    ],
)
def test_what_is_down_is_named(wanted, up, named):
    with pytest.raises(UnavailableError) as caught:
        choose_route(wanted, states(up))
    for name in named:
        node, stage = name.split(".")
        assert f"{stage} on {node}" in str(caught.value)


def test_a_node_that_is_not_configured_is_the_callers_fault():
    only_edge = states(ALL, ["edge.backbone", "edge.transformer"])
    with pytest.raises(PreconditionError, match="transformer on workstation"):
        choose_route(Placement.BACKBONE, only_edge)
    assert choose_route(None, only_edge).placement is Placement.FULL
    assert obstacle(Placement.FULL, only_edge) == ""
    assert "not configured" in obstacle(Placement.WORKSTATION, only_edge)


def test_no_stages_at_all():
    with pytest.raises(UnavailableError, match="no placement can serve"):
        choose_route(None, {})
