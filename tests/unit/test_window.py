"""The window converges on the smallest one that keeps the bottleneck busy, in simulated time."""

import asyncio
import heapq

import pytest

from services.orchestrator.window import MAX_WINDOW, MIN_WINDOW, WindowEstimator, WindowSlots


class Pipeline:
    """A client that always has a frame ready, and stations that serve one frame at a time.

    `delay_seconds` is spent between the stations' services without occupying any.
    """

    def __init__(self, service_seconds, delay_seconds=0.0, estimator=None):
        self.estimator = estimator or WindowEstimator()
        self._service_seconds = service_seconds
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
        time = sent_at = self.now
        queue_seconds = 0.0
        for station, seconds in enumerate(self._service_seconds):
            start = max(time, self._free_at[station])
            queue_seconds += start - time
            time = self._free_at[station] = start + seconds
        time += self.delay_seconds
        heapq.heappush(self._in_flight, (time, sent_at, queue_seconds))

    def _answer(self):
        full = len(self._in_flight) >= self.estimator.window
        self.now, sent_at, queue_seconds = heapq.heappop(self._in_flight)
        self.answered += 1
        if full:
            latency = self.now - sent_at
            self.estimator.observe(self.now, latency, queue_seconds, self.delay_seconds)


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
        estimator.observe(number * 0.02, 0.043, 0.0, 0.003)
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
