"""Which routes there are, by tables of literal states."""

import pytest

from common.domain.errors import PreconditionError, UnavailableError
from common.domain.placement import NodePair, Placement, Stage, StageAddress
from services.orchestrator.placement import (
    Impasse,
    Route,
    StageHealth,
    configured_pairs,
    nothing_serves,
    obstacle,
    routes_of,
    settled,
)

ALL = ["edge.backbone", "edge.transformer", "workstation.backbone", "workstation.transformer"]


def address(name, replica=0):
    node, stage = name.split(".")
    return StageAddress(node, Stage(stage), f"{node}-{stage}:{replica}", replica)


def states(up, known=ALL):
    return {
        address(name): StageHealth(address(name), name in up, "" if name in up else "refused")
        for name in known
    }


@pytest.mark.parametrize("placement", Placement)
def test_a_placement_is_a_route(placement):
    (route,) = routes_of(placement.pair, states(ALL), {})
    assert (route.backbone.node, route.backbone.stage) == (
        placement.backbone_node,
        Stage.BACKBONE,
    )
    assert (route.transformer.node, route.transformer.stage) == (
        placement.transformer_node,
        Stage.TRANSFORMER,
    )
    assert route.pair == placement.pair


@pytest.mark.parametrize(
    ("wanted", "up", "named"),
    [
        (Placement.FULL, ["edge.backbone"], ["edge.transformer"]),
        (Placement.BACKBONE, ["edge.transformer"], ["edge.backbone", "workstation.transformer"]),
        (Placement.WORKSTATION, [], ["workstation.backbone", "workstation.transformer"]),
    ],
)
def test_what_is_down_is_named(wanted, up, named):
    with pytest.raises(UnavailableError) as caught:
        routes_of(wanted.pair, states(up), {})
    for name in named:
        assert f"{address(name).name} is down (refused)" in str(caught.value)


def test_a_node_that_is_not_configured_is_the_callers_fault():
    only_edge = states(ALL, ["edge.backbone", "edge.transformer"])
    with pytest.raises(PreconditionError, match="transformer on workstation"):
        routes_of(Placement.BACKBONE.pair, only_edge, {})
    assert obstacle(Placement.FULL.pair, only_edge, {}) == ""
    assert "not configured" in obstacle(Placement.WORKSTATION.pair, only_edge, {})


def test_a_healthy_replica_is_enough():
    table = states(ALL)
    spare = address("edge.backbone", replica=1)
    table[spare] = StageHealth(spare, True)
    assert len(routes_of(Placement.FULL.pair, table, {})) == 2
    table[address("edge.backbone")] = StageHealth(address("edge.backbone"), False, "refused")
    (route,) = routes_of(Placement.FULL.pair, table, {})
    assert route.backbone == spare
    assert route.backbone.name == "backbone on edge (replica 1)"


def test_a_blocked_route_is_not_taken_though_its_stages_are_healthy():
    table = states(ALL)
    (route,) = routes_of(Placement.BACKBONE.pair, table, {})
    blocked = {route: Impasse("backbone answered nothing for 2 s", until=5.0)}
    with pytest.raises(UnavailableError, match="answered nothing for 2 s"):
        routes_of(Placement.BACKBONE.pair, table, blocked)
    assert obstacle(Placement.FULL.pair, table, blocked) == ""


def test_the_pairs_of_three_nodes():
    names = [*ALL, "camera.backbone"]
    pairs = configured_pairs(address(name) for name in names)
    assert pairs[:4] == tuple(placement.pair for placement in Placement)
    assert pairs[4:] == (NodePair("camera", "edge"), NodePair("camera", "workstation"))


@pytest.mark.parametrize(
    ("healthy", "lapsed", "since", "expected"),
    [
        (True, False, 99.0, True),
        (True, True, 99.0, False),
        (True, True, 97.0, True),
        (False, True, 0.0, False),
    ],
)
def test_a_stage_that_was_lost_has_to_prove_itself(healthy, lapsed, since, expected):
    table = states(ALL)
    key = address("edge.transformer")
    table[key] = StageHealth(key, healthy, "", "", since, lapsed)
    assert settled(Placement.FULL.pair, table, 100.0, 2.0) is expected
    assert settled(Placement.WORKSTATION.pair, table, 100.0, 2.0)


def test_when_nothing_serves_everything_that_is_down_is_named():
    error = nothing_serves(states([]), {})
    assert all(address(name).name in str(error) for name in ALL)
    assert "no placement can serve" in str(nothing_serves({}, {}))
    route = Route(address("edge.backbone"), address("edge.transformer"))
    assert "it hangs" in str(nothing_serves(states(ALL), {route: Impasse("it hangs", 1.0)}))
