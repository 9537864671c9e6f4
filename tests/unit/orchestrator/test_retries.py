"""Whose fault it is, by tables: a frame's attempts, a server's failures, a session's routes."""

import pytest

from common.domain.errors import (
    InternalError,
    PreconditionError,
    ResourceExhaustedError,
    UnavailableError,
)
from common.domain.placement import Stage, StageAddress
from protos.tandem.v1 import detector_pb2
from services.orchestrator.routing.circuit_breaker import CircuitBreaker
from services.orchestrator.routing.routes import Route
from services.orchestrator.session.attempts import FrameAttempts
from services.orchestrator.session.deadlines import (
    FrameWeight,
    progress_deadline_seconds,
)
from services.orchestrator.session.groups import Lack
from services.orchestrator.session.unavailable_routes import Cause, UnavailableRoutes
from tests.streams import png_header

MEBIBYTE = 1 << 20


def route(backbone, transformer):
    return Route(
        StageAddress(backbone, Stage.BACKBONE, f"{backbone}:1"),
        StageAddress(transformer, Stage.TRANSFORMER, f"{transformer}:2"),
    )


FULL, BACKBONE = route("edge", "edge"), route("edge", "workstation")
TRANSFORMER, WORKSTATION = route("workstation", "edge"), route("workstation", "workstation")
FAILURE = InternalError("the engine failed")


def test_a_frame_is_sent_again_after_one_failed_route_and_not_after_two():
    attempts = FrameAttempts()
    assert not attempts.is_suspect
    attempts.route_failed(FULL)
    assert attempts.is_suspect
    assert attempts.verdict(FULL) is None
    attempts.route_failed(WORKSTATION)
    error = attempts.verdict()
    assert isinstance(error, InternalError)
    assert "full" in str(error)
    assert "workstation" in str(error)


@pytest.mark.parametrize(
    ("next_route", "may_go"),
    [(WORKSTATION, True), (TRANSFORMER, True), (FULL, False), (BACKBONE, False)],
)
def test_a_frame_goes_to_no_server_that_failed_on_it(next_route, may_go):
    attempts = FrameAttempts()
    attempts.server_failed(FULL, FULL.backbone, FAILURE)
    assert not attempts.is_suspect
    assert (attempts.verdict(next_route) is None) is may_go
    if not may_go:
        assert attempts.verdict(next_route) is FAILURE


def test_a_frame_that_fails_on_two_servers_is_at_fault():
    attempts = FrameAttempts()
    attempts.server_failed(FULL, FULL.backbone, FAILURE)
    attempts.server_failed(WORKSTATION, WORKSTATION.backbone, FAILURE)
    error = str(attempts.verdict())
    assert "backbone on edge and backbone on workstation" in error
    assert str(FAILURE) in error


def test_the_next_attempt_shares_nothing_with_those_before_if_it_can():
    attempts = FrameAttempts()
    assert [attempts.penalty(each) for each in (FULL, WORKSTATION)] == [0, 0]
    attempts.server_failed(FULL, FULL.transformer, FAILURE)
    penalties = [attempts.penalty(each) for each in (WORKSTATION, BACKBONE, TRANSFORMER, FULL)]
    assert penalties == [0, 1, 2, 2]


def test_the_breaker_opens_at_the_third_failure_and_for_longer_each_time():
    breaker, server = CircuitBreaker(), FULL.backbone
    assert [breaker.failed(server) for _ in range(5)] == [0, 0, 1, 2, 4]
    assert [breaker.failed(server) for _ in range(4)][-1] == 30
    breaker.succeeded(server)
    assert [breaker.failed(server) for _ in range(3)] == [0, 0, 1]


def test_a_success_in_between_keeps_the_breaker_closed():
    breaker = CircuitBreaker()
    for _ in range(10):
        assert breaker.failed(FULL.backbone) == breaker.failed(FULL.backbone) == 0
        breaker.succeeded(FULL.backbone)


def test_a_route_is_used_again_after_waits_that_grow_until_it_serves():
    unavailable, error = UnavailableRoutes(), ResourceExhaustedError("full")
    now, waits = 100.0, []
    for _ in range(7):
        unavailable.add(FULL, Cause.FULL, error, now)
        assert unavailable.errors(now) == {FULL: error}
        end = unavailable.next_end()
        assert unavailable.errors(end - 0.01)
        assert not unavailable.errors(end)
        waits.append(round(end - now, 3))
        now = end
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    unavailable.served(FULL)
    unavailable.add(FULL, Cause.FULL, error, now)
    assert unavailable.next_end() == pytest.approx(now + 0.1)


def test_a_refusal_lasts_until_a_server_of_the_route_changes():
    unavailable = UnavailableRoutes()
    unavailable.add(FULL, Cause.INCOMPATIBLE, PreconditionError("another bundle"), 0.0)
    assert unavailable.errors(1e9)
    assert unavailable.next_end() is None
    unavailable.stage_changed(WORKSTATION.backbone)
    unavailable.forgive([FULL])
    assert unavailable.errors(1e9)
    unavailable.stage_changed(FULL.transformer)
    assert not unavailable.errors(1e9)


def test_a_refusal_of_stages_that_are_changing_over_passes():
    unavailable = UnavailableRoutes()
    unavailable.add(FULL, Cause.CHANGING, PreconditionError("another bundle"), 0.0)
    assert unavailable.are_changing()
    assert unavailable.next_end() == pytest.approx(0.1)
    assert not unavailable.errors(0.2)
    assert not unavailable.are_changing()


def test_routes_that_a_poison_frame_held_up_are_used_for_the_next_one():
    unavailable = UnavailableRoutes()
    unavailable.add(FULL, Cause.NO_PROGRESS, UnavailableError("no progress"), 0.0)
    unavailable.add(BACKBONE, Cause.NO_PROGRESS, UnavailableError("no progress"), 0.0)
    unavailable.forgive([FULL])
    assert set(unavailable.errors(1.0)) == {BACKBONE}


def test_a_route_has_more_time_for_a_larger_frame():
    small = detector_pb2.Frame(encoded=png_header(640, 480))
    large = detector_pb2.Frame(encoded=png_header(8000, 6000))
    extra = FrameWeight.of(large).cost_seconds(None) - FrameWeight.of(small).cost_seconds(None)
    assert extra > 10
    assert progress_deadline_seconds(0.05, 0.0) == 2.0
    assert progress_deadline_seconds(0.5, 0.0) == 5.0
    assert progress_deadline_seconds(0.05, extra) == 2.0 + extra
    assert progress_deadline_seconds(0.0, 0.0) == 10.0


def test_a_frame_has_more_time_on_a_slower_link():
    frame = detector_pb2.Frame(encoded=bytes(10 * MEBIBYTE))
    fast, slow = (FrameWeight.of(frame).cost_seconds(rate) for rate in (1e9, 1e5))
    assert fast < 2
    assert slow > 10 * MEBIBYTE / 1e5


def test_a_frame_of_video_has_time_for_all_that_is_sent_before_it():
    unit = detector_pb2.AccessUnit(data=bytes(10_000))
    weight = FrameWeight.of(detector_pb2.Frame(encoded_video=unit))
    assert weight == FrameWeight(10_000, 0)
    alone = weight.cost_seconds(1e5)
    lack = Lack([detector_pb2.Frame()] * 50, 500_000)
    assert weight.cost_seconds(1e5, lack) - alone >= 50 * 0.05 + 500_000 / 1e5


@pytest.mark.parametrize(
    "frame",
    [
        detector_pb2.Frame(encoded=png_header((1 << 32) - 1, (1 << 32) - 1)),
        detector_pb2.Frame(raw=detector_pb2.RawImage(width=(1 << 32) - 1, height=1 << 31)),
        detector_pb2.Frame(encoded=b"\xff\xd8\xff"),
        detector_pb2.Frame(),
    ],
)
def test_no_header_buys_a_frame_endless_time(frame):
    assert FrameWeight.of(frame).cost_seconds(None) < 60
