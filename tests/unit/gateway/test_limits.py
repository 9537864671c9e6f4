import asyncio

import pytest

from common.domain.errors import ResourceExhaustedError
from services.gateway.application import application_of
from services.gateway.callers import Callers
from services.gateway.gatekeeper import Gatekeeper
from services.gateway.limits import DoorGuard, DoorLimits
from services.gateway.service import doors_of
from tests.unit.gateway.doors import gateway


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


def guard(clock, sessions=100, rate=2.0):
    return DoorGuard("door", DoorLimits(sessions, rate, body_bytes=1), clock)


def come(door, host="a", times=1):
    """How many of so many calls are served."""
    served = 0
    for _ in range(times):
        try:
            with door.admitted(host):
                served += 1
        except ResourceExhaustedError:
            pass
    return served


def test_sessions_are_limited_while_they_last():
    door = guard(Clock(), sessions=2)
    with door.admitted("a"), door.admitted("b"):
        with pytest.raises(ResourceExhaustedError, match="2 callers of door"), door.admitted("c"):
            pass
        assert door.sessions == 2
    with door.admitted("c"):
        assert door.sessions == 1


def test_a_session_that_fails_is_over():
    door = guard(Clock(), sessions=1)
    with pytest.raises(ValueError, match="x"), door.admitted("a"):
        raise ValueError("x")
    assert come(door) == 1


def test_a_burst_is_served_and_then_the_rate_holds():
    clock = Clock()
    door = guard(clock, rate=2.0)
    assert come(door, times=50) == 10
    clock.seconds = 3.0
    assert come(door, times=50) == 6
    # Whoever waits long gets a burst again, and no more.
    clock.seconds = 1000.0
    assert come(door, times=50) == 10


def test_one_host_takes_nothing_from_another():
    door = guard(Clock())
    assert come(door, "a", times=50) == 10
    assert come(door, "b", times=5) == 5


def test_hosts_without_end_are_not_remembered():
    door = guard(Clock())
    for number in range(10_000):
        come(door, str(number))
    assert len(door._left) <= 4096


async def test_the_two_doors_of_one_setting_share_its_limits():
    vision, detect = doors_of(gateway(detection_api=True))
    with vision.guard.admitted("a"):
        assert detect.guard.sessions == 1


async def test_a_request_that_is_too_large_in_its_last_part_is_answered_at_once():
    # Catches a wait for parts that will never come, which takes ten seconds.
    (door, _) = doors_of(gateway(detection_api=True, detection_api_max_kibibytes=1))
    keeper = Gatekeeper(
        application_of((door,)), (door,), Callers(None), frozenset(), asyncio.Event()
    )
    parts, answers = [{"type": "http.request", "body": bytes(2000), "more_body": False}], []

    async def receive():
        return parts.pop()

    async def send(message):
        answers.append(message)

    await keeper(
        {
            "type": "http",
            "method": "POST",
            "path": "/v1/vision/detection",
            "headers": [
                (b"host", b"127.0.0.1"),
                (b"content-type", b"multipart/form-data; boundary=x"),
            ],
            "query_string": b"",
            "client": ("127.0.0.1", 1),
        },
        receive,
        send,
    )
    assert answers[0]["status"] == 413
