"""Engines that want a device take turns; those of one line have one turn, the older frame first."""

import threading
import time

import pytest

from services.pipeline.execution_turn import ExecutionTurn, Place


class Device:
    """A turn that the test has, and threads that wait for it one after the other."""

    def __init__(self):
        self.turn, self.order, self._threads = ExecutionTurn(), [], []
        self.turn.take("test", 0.0)

    def wait(self, name, line, since):
        """Have one thread more wait."""
        before = self.turn.waiting

        def execute():
            self.turn.take(line, since)
            self.order.append(name)
            self.turn.pass_on(line, no_frame)

        self._threads.append(threading.Thread(target=execute))
        self._threads[-1].start()
        deadline = time.monotonic() + 60
        while self.turn.waiting == before:
            assert time.monotonic() < deadline

    def ended(self):
        """The order in which they had it, once all have."""
        for thread in self._threads:
            thread.join(60)
        return self.order


@pytest.fixture
def device():
    return Device()


def no_frame():
    return None


def test_who_comes_back_at_once_stands_behind_those_that_wait(device):
    for number in range(3):
        device.wait(number, f"line {number}", since=9.0 - number)
    # An ordinary lock would be taken again by this thread.
    assert not device.turn.pass_on("test", lambda: 1.0)
    device.turn.take("test", 1.0)
    device.order.append("again")
    device.turn.pass_on("test", no_frame)
    assert device.ended() == [0, 1, 2, "again"]


def test_in_one_line_the_older_frame_goes_first(device):
    device.wait("new", "line", since=2.0)
    device.wait("old", "line", since=1.0)
    device.turn.pass_on("test", no_frame)
    assert device.ended() == ["old", "new"]


def test_who_has_the_turn_keeps_it_for_an_older_frame_than_those_in_its_line(device):
    device.wait("new", "test", since=2.0)
    assert device.turn.pass_on("test", lambda: 1.0)
    assert device.order == []
    assert not device.turn.pass_on("test", lambda: 3.0)
    assert device.ended() == ["new"]


def test_a_line_of_several_engines_has_one_turn_of_many(device):
    device.wait("old", "line", since=1.0)
    device.wait("new", "line", since=2.0)
    device.wait("another model", "other", since=3.0)
    device.turn.pass_on("test", no_frame)
    assert device.ended() == ["old", "another model", "new"]


def test_nobody_keeps_the_turn_while_another_line_waits(device):
    device.wait("new", "test", since=2.0)
    device.wait("another model", "other", since=3.0)
    assert not device.turn.pass_on("test", lambda: 1.0)
    assert device.ended() == ["new", "another model"]


def test_whoever_joins_a_line_leaves_it_when_it_begins_one_of_its_own():
    turn = ExecutionTurn()
    old, new = Place(turn), Place(turn)
    assert old.line != new.line
    old.join(new)
    assert old.line == new.line
    old.begin_line()
    assert old.line != new.line
