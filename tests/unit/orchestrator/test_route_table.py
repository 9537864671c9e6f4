"""Which routes can serve, by tables of literal states."""

import pytest

from common.domain.errors import PreconditionError, UnavailableError
from common.domain.placement import NodePair, Placement, Stage, StageAddress
from protos.tandem.v1 import stage_pb2
from services.orchestrator.routing.route_table import RouteTable
from services.orchestrator.routing.routes import LEFT, Route, StageHealth, configured_pairs

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
    (route,) = RouteTable(states(ALL).values()).routes_of(placement.node_pair)
    assert (route.backbone.node, route.backbone.stage) == (
        placement.backbone_node,
        Stage.BACKBONE,
    )
    assert (route.transformer.node, route.transformer.stage) == (
        placement.transformer_node,
        Stage.TRANSFORMER,
    )
    assert route.node_pair == placement.node_pair


@pytest.mark.parametrize(
    ("placement", "up", "named"),
    [
        (Placement.FULL, ["edge.backbone"], ["edge.transformer"]),
        (Placement.BACKBONE, ["edge.transformer"], ["edge.backbone", "workstation.transformer"]),
        (Placement.WORKSTATION, [], ["workstation.backbone", "workstation.transformer"]),
    ],
)
def test_what_is_unavailable_is_named(placement, up, named):
    with pytest.raises(UnavailableError) as caught:
        RouteTable(states(up).values()).routes_of(placement.node_pair)
    for name in named:
        assert f"{address(name).name} is unavailable (refused)" in str(caught.value)


def test_a_node_that_is_not_configured_is_the_callers_fault():
    only_edge = RouteTable(states(ALL, ["edge.backbone", "edge.transformer"]).values())
    with pytest.raises(PreconditionError, match="transformer on workstation"):
        only_edge.routes_of(Placement.BACKBONE.node_pair)
    assert only_edge.unavailable_reason(Placement.FULL.node_pair) == ""
    assert "not configured" in only_edge.unavailable_reason(Placement.WORKSTATION.node_pair)


def test_a_healthy_replica_is_enough():
    known = states(ALL)
    spare = address("edge.backbone", replica=1)
    known[spare] = StageHealth(spare, True)
    table = RouteTable(known.values())
    assert len(table.routes_of(Placement.FULL.node_pair)) == 2
    table.update(StageHealth(address("edge.backbone"), False, "refused"))
    (route,) = table.routes_of(Placement.FULL.node_pair)
    assert route.backbone == spare
    assert route.backbone.name == "backbone on edge (replica 1)"
    assert table.is_available(route)


def test_the_replica_with_the_fewest_frames_is_next():
    known = states(ALL)
    spare = address("edge.backbone", replica=1)
    known[spare] = StageHealth(spare, True)
    table = RouteTable(known.values())
    table.in_flight[address("edge.backbone")] = 1
    least_busy = table.least_busy(Placement.FULL.node_pair, {})
    assert least_busy.backbone == spare
    refused = {least_busy: PreconditionError("another model")}
    other = table.least_busy(Placement.FULL.node_pair, refused)
    assert other.backbone == address("edge.backbone")
    refused[other] = PreconditionError("another model")
    with pytest.raises(PreconditionError, match="another model"):
        table.least_busy(Placement.FULL.node_pair, refused)


def told(**in_flight):
    return stage_pb2.FrameResult(**in_flight)


def test_frames_of_other_orchestrators_count_as_well():
    known = states(ALL)
    busy, spare = address("edge.transformer"), address("edge.transformer", replica=1)
    known[spare] = StageHealth(spare, True)
    table = RouteTable(known.values())
    route = table.least_busy(Placement.FULL.node_pair, {})
    assert route.transformer == busy
    table.in_flight.update({busy: 2, spare: 2})
    # Two of its five are this orchestrator's.
    table.note_result(route, told(backbone_in_flight=0, transformer_in_flight=5))
    assert table.frames_in(busy) == 5
    assert table.least_busy(Placement.FULL.node_pair, {}).transformer == spare
    # What was sent since is added.
    table.in_flight[spare] = 6
    assert table.least_busy(Placement.FULL.node_pair, {}).transformer == busy
    # An older stage tells nothing, and what is on its way there is in it yet for nobody.
    table.note_result(route, told())
    assert table.frames_in(busy) == 5
    table.note_in_flight(busy, 1)
    assert table.frames_in(busy) == 2
    # What an unavailable one told is worth nothing.
    table.note_in_flight(busy, 9)
    table.update(StageHealth(busy, False, "refused"))
    assert table.frames_in(busy) == 2


def test_a_server_that_was_found_serves_once_it_is_healthy_and_leaves_nothing_behind():
    table = RouteTable(states(ALL).values())
    (first,) = table.routes_of(Placement.FULL.node_pair)
    found = StageAddress("edge", Stage.TRANSFORMER, "10.0.0.7:1", 0, "dns:///t:1")
    table.add(found)
    assert table.routes_of(Placement.FULL.node_pair) == (first,)
    table.update(StageHealth(found, True))
    route = Route(first.backbone, found)
    assert table.routes_of(Placement.FULL.node_pair) == (first, route)
    assert table.states("edge", Stage.TRANSFORMER)["serving"] == 2
    assert route.transformer.name == "transformer on edge at 10.0.0.7:1"
    table.update(StageHealth(found, False, "leads there no more", LEFT))
    assert table.routes_of(Placement.FULL.node_pair) == (first,)
    assert table.keeps(first)
    assert not table.keeps(route)
    table.mark_unavailable(route, "hangs", 5.0)
    table.note_in_flight(found, 3)
    table.remove(found)
    assert not table.is_available(route)
    assert not table.keeps(route)
    assert table.ends_in_good_order(found)
    assert table.frames_in(found) == 0
    table.note_in_flight(found, 3)
    assert table.frames_in(found) == 0
    assert "hangs" not in str(table.nothing_available())


def test_an_unavailable_route_is_not_taken_though_its_stages_are_healthy():
    table = RouteTable(states(ALL).values())
    (route,) = table.routes_of(Placement.BACKBONE.node_pair)
    assert table.mark_unavailable(route, "backbone answered nothing for 2 s", until=5.0)
    assert not table.is_available(route)
    with pytest.raises(UnavailableError, match="answered nothing for 2 s"):
        table.routes_of(Placement.BACKBONE.node_pair)
    assert table.unavailable_reason(Placement.FULL.node_pair) == ""


def test_an_unavailable_route_serves_again_in_time():
    table = RouteTable(states(ALL).values())
    (route,) = table.routes_of(Placement.BACKBONE.node_pair)
    table.mark_unavailable(route, "it hangs", until=5.0)
    assert not table.mark_unavailable(route, "it hangs still", until=9.0)
    assert not table.expire(4.9)
    assert not table.is_available(route)
    assert table.expire(5.0)
    assert table.is_available(route)


def test_an_unavailable_route_serves_again_after_news_of_a_stage_of_its_own():
    table = RouteTable(states(ALL).values())
    (route,) = table.routes_of(Placement.BACKBONE.node_pair)
    table.mark_unavailable(route, "it hangs", until=5.0)
    table.update(StageHealth(address("workstation.backbone"), True))
    assert not table.is_available(route)
    table.update(StageHealth(address("workstation.transformer"), True))
    assert table.is_available(route)


def test_the_pairs_of_three_nodes():
    names = [*ALL, "camera.backbone"]
    pairs = configured_pairs(address(name) for name in names)
    assert pairs[:4] == tuple(placement.node_pair for placement in Placement)
    assert pairs[4:] == (NodePair("camera", "edge"), NodePair("camera", "workstation"))


@pytest.mark.parametrize(
    ("healthy", "interrupted", "changed_at", "expected"),
    [
        (True, False, 99.0, True),
        (True, True, 99.0, False),
        (True, True, 97.0, True),
        (False, True, 0.0, False),
    ],
)
def test_a_stage_that_was_unavailable_has_to_prove_itself(
    healthy, interrupted, changed_at, expected
):
    known = states(ALL)
    key = address("edge.transformer")
    known[key] = StageHealth(key, healthy, "", "", changed_at, interrupted)
    table = RouteTable(known.values())
    assert table.has_recovered(Placement.FULL.node_pair, 100.0, 2.0) is expected
    assert table.has_recovered(Placement.WORKSTATION.node_pair, 100.0, 2.0)


def test_when_nothing_serves_everything_unavailable_is_named():
    error = RouteTable(states([]).values()).nothing_available()
    assert all(address(name).name in str(error) for name in ALL)
    assert "no placement can serve" in str(RouteTable([]).nothing_available())
    table = RouteTable(states(ALL).values())
    for route in table.routes_of(Placement.FULL.node_pair):
        table.mark_unavailable(route, "it hangs", 1.0)
    assert "it hangs" in str(table.nothing_available())
