"""The window converges on the smallest one that keeps the bottleneck busy, in simulated time."""

import asyncio
import heapq
import itertools
import random

import pytest

from services.orchestrator.session.gate import WindowSlots
from services.orchestrator.session.window import (
    MAX_WINDOW,
    MIN_WINDOW,
    Transfer,
    WindowEstimator,
)

_AT_ONCE = Transfer(0, 0.0)


class Pipeline:
    """A client that always has a frame ready, and stations that serve one frame at a time.

    `delay_seconds` is spent between the stations' services without occupying any. Pictures cross a
    link of `bytes_per_second`, one after the other; they are of the sizes `picture_bytes` in turn.
    Before each station a frame takes some time more, of the mean `uneven_seconds`; none overtakes.
    """

    def __init__(
        self,
        service_seconds,
        delay_seconds=0.0,
        estimator=None,
        picture_bytes=(1,),
        bytes_per_second=1e9,
        *,
        uneven_seconds=0.0,
    ):
        self.estimator = estimator or WindowEstimator()
        self._service_seconds = service_seconds
        self._picture_bytes = itertools.cycle(picture_bytes)
        self._bytes_per_second = bytes_per_second
        self._link_free_at = 0.0
        self._uneven_seconds = uneven_seconds
        self._random = random.Random(0)
        self.delay_seconds = delay_seconds
        self._free_at = [0.0] * len(service_seconds)
        self._in_flight = []
        self.now = 0.0
        self.answered = 0

    def run(self, frames):
        """Answer so many more frames; returns the throughput of the second half."""
        half = self.answered + frames // 2
        end = self.answered + frames
        half_time = self.now
        while self.answered < end:
            while len(self._in_flight) < self.estimator.window:
                self._send()
            self._answer()
            if self.answered == half:
                half_time = self.now
        return (end - half) / (self.now - half_time)

    def _send(self):
        sent_at = self.now
        picture_bytes = next(self._picture_bytes)
        starts_at = max(sent_at, self._link_free_at)
        time = self._link_free_at = starts_at + picture_bytes / self._bytes_per_second
        picture = Transfer(picture_bytes, time - sent_at + self.delay_seconds)
        queue_seconds = 0.0
        for station, seconds in enumerate(self._service_seconds):
            if self._uneven_seconds:
                time += self._random.expovariate(1 / self._uneven_seconds)
            start = max(time, self._free_at[station])
            queue_seconds += start - time
            time = self._free_at[station] = start + seconds
        time += self.delay_seconds
        heapq.heappush(self._in_flight, (time, sent_at, queue_seconds, picture))

    def _answer(self):
        full = len(self._in_flight) >= self.estimator.window
        self.now, sent_at, queue_seconds, picture = heapq.heappop(self._in_flight)
        self.answered += 1
        if full:
            latency = self.now - sent_at
            transfers = (picture, _AT_ONCE)
            execute_seconds = max(self._service_seconds)
            self.estimator.observe(self.now, latency, queue_seconds, transfers, execute_seconds)


@pytest.mark.parametrize(
    ("service_seconds", "delay_seconds", "window"),
    [
        ([0.020], 0.0, 2),
        ([0.020, 0.001], 0.001, 2),
        ([0.020, 0.020], 0.002, 3),
        ([0.020, 0.020, 0.020], 0.002, 4),
        ([0.033, 0.007], 0.030, 3),
        ([0.020, 0.020], 0.100, 8),
        ([0.001, 0.001], 0.100, MAX_WINDOW),
    ],
)
def test_the_smallest_window_that_keeps_the_bottleneck_busy(service_seconds, delay_seconds, window):
    pipeline = Pipeline(service_seconds, delay_seconds)
    throughput = pipeline.run(600)
    assert pipeline.estimator.window == window
    if window < MAX_WINDOW:
        assert throughput == pytest.approx(1 / max(service_seconds), rel=0.02)


def test_it_shrinks_again_when_the_pipeline_gets_shorter():
    long = Pipeline([0.020, 0.020], 0.100)
    long.run(600)
    assert long.estimator.window == 8
    long.estimator.reset()
    short = Pipeline([0.020, 0.001], 0.0, long.estimator)
    throughput = short.run(600)
    assert short.estimator.window <= 3
    assert throughput == pytest.approx(50, rel=0.02)


@pytest.mark.parametrize("scene_frames", [1, 10])
def test_a_picture_larger_than_others_takes_longer_without_waiting(scene_frames):
    small_bytes, large_bytes, bytes_per_second = 20_000, 100_000, 2.5e6
    pictures = [small_bytes] * scene_frames + [large_bytes] * scene_frames
    pipeline = Pipeline([0.020, 0.020], 0.002, None, pictures, bytes_per_second)
    throughput = pipeline.run(1200)
    frame_by_frame_seconds = (0.020 + large_bytes / bytes_per_second) / 2
    assert throughput >= 0.99 / frame_by_frame_seconds
    assert pipeline.estimator.window <= 5


def test_uneven_steps_that_leave_an_engine_gaps_get_a_frame_more():
    pipeline = Pipeline([0.005, 0.005], uneven_seconds=0.002)
    assert pipeline.run(3000) >= 0.94 / 0.005
    assert pipeline.estimator.window == 5


def test_uneven_steps_that_leave_an_engine_no_gaps_get_no_more():
    pipeline = Pipeline([0.020, 0.020], uneven_seconds=0.002)
    assert pipeline.run(1500) == pytest.approx(50, rel=0.02)
    assert pipeline.estimator.window <= 4


def test_frames_that_uneven_steps_needed_are_taken_back_with_another_route():
    uneven = Pipeline([0.005, 0.005], uneven_seconds=0.002)
    uneven.run(3000)
    assert uneven.estimator.window > 4
    uneven.estimator.reset()
    even = Pipeline([0.005, 0.001], 0.0, uneven.estimator)
    assert even.run(600) == pytest.approx(200, rel=0.02)
    assert even.estimator.window <= 3


def test_a_link_that_becomes_slower_is_measured_anew_without_backlog():
    pipeline = Pipeline([0.020, 0.020], 0.002)
    pipeline.run(600)
    assert pipeline.estimator.window == 3
    windows = [pipeline.estimator.window]
    pipeline.delay_seconds = 0.100
    for _ in range(60):
        pipeline.run(10)
        windows.append(pipeline.estimator.window)
    assert min(windows) == MIN_WINDOW
    # As if the link had never been quicker.
    assert windows[-1] == 8


def test_a_client_that_does_not_fill_the_window_does_not_change_it():
    estimator = WindowEstimator()
    for number in range(100):
        estimator.observe(number * 0.02, 0.043, 0.0, (Transfer(58_000, 0.003), _AT_ONCE))
        if number % 5 == 0:
            estimator.pause()
    assert estimator.window == MIN_WINDOW


async def test_slots_can_be_added_and_taken_away_while_they_are_in_use():
    slots = WindowSlots(1)
    await slots.acquire()
    waiting = asyncio.ensure_future(slots.acquire())
    await asyncio.sleep(0)
    assert not waiting.done()
    slots.resize(2)
    await waiting
    slots.resize(1)
    waiting = asyncio.ensure_future(slots.acquire())
    slots.release()
    await asyncio.sleep(0)
    assert not waiting.done()
    slots.release()
    await waiting
    assert slots.taken == 1


def test_a_live_stream_has_as_many_in_flight_as_are_at_work_on_a_slow_link():
    estimator = WindowEstimator(is_live=True)
    now = 0.0
    for _ in range(400):
        # A frame takes 120 ms, 80 of them on the link, and waits nowhere.
        now += 0.120 / estimator.window
        estimator.observe(now, 0.120, 0.0, (_AT_ONCE, Transfer(150, 0.080)), 0.020)
        if estimator.window / 0.120 > 24:
            break
    assert estimator.window == 3


def test_a_live_stream_gets_no_more_in_flight_than_keep_an_engine_busy():
    estimator = WindowEstimator(is_live=True)
    for number in range(400):
        estimator.observe(number * 0.020, 0.042, 0.0, (_AT_ONCE, _AT_ONCE), 0.0195)
    assert estimator.window == MIN_WINDOW
