"""Where the next frame goes: requests before settings before the automatic choice, and faults."""

import asyncio
import time

import pytest

from common.domain.errors import PreconditionError, ResourceExhaustedError, UnavailableError
from common.domain.placement import NodePair, Placement, Stage
from services.orchestrator.decision.mirroring import SentBefore
from services.orchestrator.decision.policy import Policy
from services.orchestrator.routing.circuit_breaker import FAILURES_IN_A_ROW
from tests.misbehaving import good_answer
from tests.unit.orchestrator.toys import router_of, servers_of, set_health

BOTH = servers_of("edge", "workstation")
FULL, SPLIT = Placement.FULL.node_pair, Placement.BACKBONE.node_pair
REMOTE = Placement.WORKSTATION.node_pair


def server(router, node, stage):
    return next(each for each in router.table.health if (each.node, each.stage) == (node, stage))


def route_of(router, node_pair):
    (route,) = router.table.routes_of(node_pair)
    return route


async def test_a_clients_request_goes_over_the_operators_and_that_over_the_automatic_choice():
    router = router_of(BOTH)
    automatic = router.choose(None, {}).node_pair
    assert automatic == router.active_pair() == router.decision.node_pair
    operator_pair = next(each for each in (FULL, REMOTE) if each != automatic)
    router.set_operator_pair(operator_pair)
    assert router.active_pair() == operator_pair
    assert router.choose(SPLIT, {}).node_pair == SPLIT
    router.set_operator_pair(None)
    assert router.active_pair() == automatic


async def test_what_cannot_serve_is_not_set():
    router = router_of(BOTH)
    router.set_operator_pair(FULL)
    set_health(router, server(router, "workstation", Stage.BACKBONE), False)
    with pytest.raises(UnavailableError, match="backbone on workstation is unavailable"):
        router.set_operator_pair(REMOTE)
    with pytest.raises(PreconditionError, match="moon"):
        router.set_operator_pair(NodePair("moon", "edge"))
    assert router.operator_pair == FULL


async def test_a_pair_that_becomes_unavailable_is_left_at_once_and_counted_once():
    router = router_of(BOTH)
    before = router.active_pair()
    changed = router.next_change()
    backbone = server(router, before.backbone, Stage.BACKBONE)
    set_health(router, backbone, False)
    assert changed.done()
    assert router.active_pair().backbone != before.backbone
    # Its reason may be told anew as often as it likes.
    set_health(router, backbone, False, reason="refused")
    assert dict(router.events.counts.failovers) == {"died": 1}
    assert dict(router.events.counts.switches) == {"unavailable": 1}


async def test_a_stage_that_is_back_is_chosen_only_once_it_has_proved_itself():
    router = router_of(BOTH, recovery_seconds=1e9)
    back = server(router, "edge", Stage.BACKBONE)
    set_health(router, back, False)
    set_health(router, back, True)
    assert router.active_pair().backbone == "workstation"
    assert "moment ago" in router.decision.unavailable[FULL]
    # Where there is nothing else, it has to do.
    set_health(router, server(router, "workstation", Stage.BACKBONE), False)
    assert router.active_pair().backbone == "edge"


async def test_three_frames_that_others_served_open_the_circuit_breaker_for_a_while():
    router = router_of(BOTH)
    broken = server(router, "edge", Stage.BACKBONE)
    for _ in range(FAILURES_IN_A_ROW - 1):
        router.server_failed(broken)
    assert router.table.is_available(route_of(router, FULL))
    router.server_failed(broken)
    routes = [route for route in router.table.routes if route.uses(broken)]
    assert len(routes) == 2
    assert not any(router.table.is_available(route) for route in routes)
    with pytest.raises(UnavailableError, match="failed on 3 frames that others then served"):
        router.choose(FULL, {})
    assert router.active_pair().backbone == "workstation"
    assert router.table.expire(time.monotonic() + 1.1)
    assert all(router.table.is_available(route) for route in routes)


async def test_a_served_frame_closes_the_circuit_breaker():
    router = router_of(BOTH)
    route = route_of(router, FULL)
    for _ in range(5):
        for _ in range(FAILURES_IN_A_ROW - 1):
            router.server_failed(route.backbone)
        router.served(route, good_answer(1).timing, backlogged=False)
    assert router.table.is_available(route)


@pytest.mark.parametrize(("nodes", "seconds"), [(("edge", "workstation"), 15), (("edge",), 2)])
async def test_a_route_is_at_fault_once_two_sessions_see_no_progress(nodes, seconds):
    router = router_of(servers_of(*nodes))
    route = route_of(router, FULL)
    for _ in range(3):
        router.no_progress(route, "one session", 2.0)
    assert router.table.is_available(route)
    router.no_progress(route, "another session", 2.0)
    assert not router.table.is_available(route)
    now = time.monotonic()
    # Without an alternative it is tried again much sooner.
    assert not router.table.expire(now + seconds - 0.5)
    assert router.table.expire(now + seconds + 0.1)
    assert router.events.counts.failovers["stalled"] == 4


async def test_a_frame_goes_to_a_pair_of_less_penalty_than_the_chosen_one():
    router = router_of(BOTH)
    chosen = router.active_pair()
    route = router.choose(None, {}, lambda each: 2 if each.node_pair == chosen else 1)
    assert route.node_pair != chosen
    only_one = next(each for each in router.table.pairs if each != chosen)
    assert router.choose(None, {}, lambda each: int(each.node_pair != only_one)).node_pair == (
        only_one
    )
    # Where all are alike it is the chosen one that serves.
    assert router.choose(None, {}, lambda each: 2).node_pair == chosen


@pytest.mark.parametrize(
    ("errors", "expected", "words"),
    [
        ([PreconditionError("bundles differ")] * 4, PreconditionError, "bundles differ"),
        (
            [PreconditionError("bundles differ"), ResourceExhaustedError("full")] * 2,
            ResourceExhaustedError,
            "full",
        ),
        (
            [PreconditionError("bundles differ"), UnavailableError("no progress")] * 2,
            UnavailableError,
            "no placement can serve; no progress",
        ),
    ],
)
async def test_the_error_that_may_pass_is_told_when_no_route_is_left(errors, expected, words):
    router = router_of(BOTH)
    unavailable = dict(zip(router.table.routes, errors))
    with pytest.raises(expected, match=words):
        router.choose(None, unavailable)


async def test_a_policy_is_obeyed_though_nothing_else_can_serve():
    router = router_of(BOTH, policy=Policy(frames_may_leave=False, located_at="edge"))
    set_health(router, server(router, "edge", Stage.BACKBONE), False)
    with pytest.raises(UnavailableError, match="backbone on edge"):
        router.choose(None, {})
    # It is for the automatic choice only.
    assert router.choose(REMOTE, {}).node_pair == REMOTE


async def test_what_is_not_in_use_is_mirrored_within_the_budget():
    router = router_of(BOTH, mirror_share=0.25)
    assert router.take_mirror_route(()) is None
    router.tick()
    route = router.take_mirror_route(())
    assert route.node_pair != router.active_pair()
    router.tick()
    assert router.take_mirror_route(()) is None
    active = route_of(router, router.active_pair())
    for _ in range(4):
        router.served(active, good_answer(1).timing, backlogged=False)
    router.tick()
    # A route that is unusable to this session is not measured by it, and costs nothing.
    assert router.take_mirror_route(router.table.routes) is None
    router.tick()
    assert router.take_mirror_route(()) is not None


@pytest.mark.parametrize(
    ("group_frames", "most_unmeasured"),
    # A key frame each second or so; each ten seconds; never.
    [(25, 120), (250, 260), (1 << 30, None)],
)
async def test_video_is_mirrored_within_the_same_budget_with_all_that_has_to_be_decoded(
    group_frames, most_unmeasured
):
    share, frames = 0.04, 5000
    router = router_of(BOTH, mirror_share=share)
    active = route_of(router, router.active_pair())
    mirrored, brought_along = [], 0
    for number in range(frames):
        router.tick()
        # No decoder is kept: all since the key frame has to be brought along.
        before = SentBefore(number % group_frames, 100 * (number % group_frames))
        if router.take_mirror_route((), lambda route, before=before: before) is not None:
            mirrored.append(number)
            brought_along += before.frames
        router.served(active, good_answer(1).timing, backlogged=False)
    assert len(mirrored) + brought_along / 8 <= share * frames + 1
    assert mirrored[0] == 0
    if most_unmeasured is not None:
        gaps = [after - before for before, after in zip(mirrored, [*mirrored[1:], frames])]
        assert max(gaps) <= most_unmeasured


async def test_video_that_would_hold_a_link_is_not_mirrored_over_it():
    router = router_of(BOTH, mirror_share=0.5, policy=Policy(located_at="edge"))
    assert router.active_pair().backbone == "edge"
    router.tick()
    # Of a link that was not measured a megabyte a second is expected.
    assert router.take_mirror_route((), lambda route: SentBefore(0, 600_000)) is None
    route = router.take_mirror_route((), lambda route: SentBefore(0, 400_000))
    assert route.backbone.node == "workstation"


async def test_nothing_is_mirrored_with_a_share_of_nothing():
    router = router_of(BOTH, mirror_share=0.0)
    active = route_of(router, router.active_pair())
    for _ in range(100):
        router.served(active, good_answer(1).timing, backlogged=False)
    router.tick()
    assert router.take_mirror_route(()) is None


async def test_a_frame_that_waits_wakes_when_a_route_is_available_again():
    router = router_of(servers_of("edge"))
    route = route_of(router, FULL)
    router.table.mark_unavailable(route, "it hangs", time.monotonic())
    change = router.next_change()
    await asyncio.sleep(0)
    assert not change.done()
    router.tick()
    assert change.done()
