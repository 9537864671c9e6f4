"""Frames of several streams are executed together where that pays, and each gets its own answer."""

import asyncio
import threading
import time
from typing import List, Tuple

import numpy as np
import pytest

from common.bundle import load_bundle
from common.domain.errors import EngineError
from common.domain.placement import Stage
from common.engines.paced import PacedEngine
from common.engines.registry import load_engine
from services.pipeline.batches import frames_worth_batching, put_together, taken_apart
from services.pipeline.engine_thread import EngineThread
from services.pipeline.waiting_frames import BatchLimits
from tests.harness import TOY_BUNDLE
from tests.unit.pipeline.frames import Frame

PIXELS = {"pixels": np.zeros((1, 3, 64, 64), np.float32)}


class Doubler:
    """Doubles numbers once it may; fails on negative ones, and on more than it has memory for."""

    description = "doubler"

    def __init__(self) -> None:
        self.ran: List[Tuple[int, ...]] = []
        self.most = 100
        self.entered = threading.Semaphore(0)
        self.may_run = threading.Event()

    def run(self, inputs):
        array = inputs["number"]
        self.entered.release()
        self.may_run.wait(30)
        self.ran.append(tuple(int(each) for each in array[:, 0]))
        if len(array) > self.most:
            raise MemoryError
        if (array < 0).any():
            raise EngineError("negative")
        return {"double": 2 * array}

    def hold(self) -> None:
        """From now on it may not run, and `entered` counts anew."""
        self.may_run.clear()
        while self.entered.acquire(blocking=False):
            pass

    def close(self) -> None:
        pass


def numbered(number, width=1):
    return {"number": np.full((1, width), number, np.float32)}


@pytest.fixture
async def busy():
    """An engine's thread that executes a first frame until the engine may run on."""
    engine, doubler = EngineThread(), Doubler()
    await engine.load(lambda: doubler)
    engine.limits = BatchLimits(frames=4)
    first = Frame(engine, "first", numbered(0))
    await asyncio.get_running_loop().run_in_executor(None, doubler.entered.acquire)
    yield engine, doubler
    doubler.may_run.set()
    await first.outcome
    await engine.close()


async def outcomes(frames):
    return [await asyncio.wait_for(each.outcome, 110) for each in frames]


def doubles(outcomes):
    """What came of each frame: its outputs' number, or its error's kind."""
    return [
        type(each).__name__ if isinstance(each, BaseException) else each.outputs["double"].tolist()
        for each in outcomes
    ]


async def test_frames_that_wait_at_the_same_moment_are_executed_together(busy):
    engine, doubler = busy
    frames = [Frame(engine, f"stream {number}", numbered(number)) for number in range(1, 7)]
    doubler.may_run.set()
    assert doubles(await outcomes(frames)) == [[[2.0 * number]] for number in range(1, 7)]
    assert doubler.ran == [(0,), (1, 2, 3, 4), (5, 6)]


async def test_every_stream_is_in_a_batch_before_one_is_in_it_twice(busy):
    engine, doubler = busy
    frames = [
        Frame(engine, stream, numbered(number))
        for stream, number in (("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5), ("c", 6))
    ]
    doubler.may_run.set()
    await outcomes(frames)
    assert doubler.ran == [(0,), (1, 4, 6, 2), (5, 3)]


async def test_a_lone_stream_is_executed_as_ever(busy):
    engine, doubler = busy
    frames = [Frame(engine, "camera", numbered(number)) for number in range(1, 5)]
    doubler.may_run.set()
    await outcomes(frames)
    assert doubler.ran == [(0,), (1,), (2,), (3,), (4,)]


async def test_only_frames_of_equal_shapes_go_together(busy):
    engine, doubler = busy
    frames = [
        Frame(engine, f"stream {number}", numbered(number, width))
        for number, width in ((1, 3), (2, 5), (3, 3), (4, 5))
    ]
    doubler.may_run.set()
    told = doubles(await outcomes(frames))
    assert told == [[[2.0] * 3], [[4.0] * 5], [[6.0] * 3], [[8.0] * 5]]
    assert doubler.ran == [(0,), (1, 3), (2, 4)]


async def test_a_bad_frame_fails_alone(busy):
    engine, doubler = busy
    frames = [Frame(engine, f"stream {each}", numbered(each)) for each in (1, -2, 3)]
    doubler.may_run.set()
    assert doubles(await outcomes(frames)) == [[[2.0]], "EngineError", [[6.0]]]
    assert doubler.ran == [(0,), (1, -2, 3), (1,), (-2,), (3,)]
    assert engine.failures_in_a_row == 0
    # Frames of a stream that fails do not spoil another batch, until one has gone well.
    del doubler.ran[:]
    doubler.hold()
    first = Frame(engine, "first", numbered(0))
    await asyncio.get_running_loop().run_in_executor(None, doubler.entered.acquire)
    frames = [Frame(engine, "stream -2", numbered(-2)), Frame(engine, "stream -2", numbered(5))]
    frames += [Frame(engine, f"stream {each}", numbered(each)) for each in (1, 3)]
    doubler.may_run.set()
    assert doubles(await outcomes(frames)) == ["EngineError", [[10.0]], [[2.0]], [[6.0]]]
    assert sorted(doubler.ran) == sorted([(0,), (-2,), (1, 3), (5,)])
    await first.outcome
    assert engine.limits.frames == 4


async def test_failures_of_single_frames_count_and_those_of_batches_do_not(busy):
    engine, doubler = busy
    failures = []
    engine.on_failure = lambda: failures.append(engine.failures_in_a_row)
    frames = [Frame(engine, f"stream {each}", numbered(-each)) for each in (1, 2, 3)]
    doubler.may_run.set()
    assert doubles(await outcomes(frames)) == ["EngineError"] * 3
    assert failures == [1, 2, 3]


async def test_batches_too_large_for_the_engine_are_made_smaller(busy):
    engine, doubler = busy
    doubler.most = 2
    frames = [Frame(engine, f"stream {each}", numbered(each)) for each in range(1, 9)]
    doubler.may_run.set()
    assert doubles(await outcomes(frames)) == [[[2.0 * each]] for each in range(1, 9)]
    assert doubler.ran[1:] == [(1, 2, 3, 4), (1,), (2,), (3,), (4,), (5, 6), (7, 8)]
    assert engine.failures_in_a_row == 0


async def test_a_frame_may_wait_for_one_of_another_stream():
    engine, doubler = EngineThread(), Doubler()
    doubler.may_run.set()
    await engine.load(lambda: doubler)
    engine.limits = BatchLimits(frames=2, wait_seconds=100.0)
    late = Frame(engine, "late", numbered(2), is_ready=False)
    early = Frame(engine, "early", numbered(1))
    await asyncio.sleep(0.05)
    assert doubler.ran == []
    late.get_ready()
    # Not after the hundred seconds: the batch is full.
    assert doubles(await asyncio.wait_for(outcomes([early, late]), 60)) == [[[2.0]], [[4.0]]]
    assert doubler.ran == [(1, 2)]
    engine.limits = BatchLimits(frames=2, wait_seconds=0.05)
    (alone,) = await outcomes([Frame(engine, "early", numbered(3))])
    assert 0.05 <= alone.queue_seconds < 60
    await engine.close()


async def test_a_batch_s_time_is_shared_among_its_frames(busy):
    engine, doubler = busy
    began = time.perf_counter()
    frames = [Frame(engine, f"stream {each}", numbered(each)) for each in (1, 2, 3, 4)]
    doubler.may_run.set()
    told = await outcomes(frames)
    ended = time.perf_counter()
    assert len({each.execute_seconds for each in told}) == 1
    assert sum(each.execute_seconds for each in told) <= ended - began
    for frame, each in zip(frames, told):
        assert frame.ready_at + each.queue_seconds == pytest.approx(each.started)
        assert each.started + each.execute_seconds <= ended


async def test_a_batch_may_take_longer_than_a_frame_before_it_is_stuck():
    engine, doubler = EngineThread(stuck_after_seconds=0.0), Doubler()
    doubler.may_run.set()
    await engine.load(lambda: doubler)
    for _ in range(3):
        await engine.test(numbered(1))
    doubler.hold()
    batch = asyncio.ensure_future(engine.measure(put_together([numbered(1)] * 4), 4))
    await asyncio.get_running_loop().run_in_executor(None, doubler.entered.acquire)
    await asyncio.sleep(0.1)
    # Far more than fifty times a frame; but the first of a size may tune kernels.
    assert engine.stuck_seconds() == 0.0
    doubler.may_run.set()
    seconds = await batch
    assert seconds >= 0.1
    # Those that follow may take fifty times as long as the batch, not as the frame.
    doubler.hold()
    batch = asyncio.ensure_future(engine.measure(put_together([numbered(1)] * 4), 4))
    await asyncio.get_running_loop().run_in_executor(None, doubler.entered.acquire)
    await asyncio.sleep(0.1)
    assert engine.stuck_seconds() == 0.0
    doubler.may_run.set()
    await batch
    await engine.close()


def test_outputs_that_are_not_of_the_frames_are_refused():
    with pytest.raises(EngineError, match=r"\(3, 2\) is not of 2 frames"):
        taken_apart({"good": np.zeros((2, 4)), "bad": np.zeros((3, 2))}, 2)
    with pytest.raises(EngineError, match="not of 2 frames"):
        taken_apart({"scalar": np.array(1.0)}, 2)


def toy(name="none"):
    return load_engine(name, load_bundle(TOY_BUNDLE).onnx_path(Stage.BACKBONE), 1)


class OneFrame:
    """An engine whose graph has a fixed batch dimension."""

    description = "one frame"

    def run(self, inputs):
        if inputs["pixels"].shape[0] != 1:
            raise EngineError("Got: 4 Expected: 1")
        return {"features": np.zeros((1, 2), np.float32)}

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: PacedEngine(toy(), 0.02, batch_seconds={4: 0.04}), 4),
        # As if one after the other.
        (lambda: PacedEngine(toy(), 0.1), 1),
        (lambda: PacedEngine(toy(), 0.1, batch_seconds={4: 0.39}), 1),
        (OneFrame, 1),
    ],
    ids=["gains", "gains nothing", "gains too little", "fixed"],
)
async def test_batches_are_on_where_they_are_measured_to_pay(make, expected):
    engine = EngineThread()
    await engine.load(make)
    assert await frames_worth_batching(engine, PIXELS, 4) == expected
    await engine.close()


async def test_an_engine_that_fails_on_a_single_frame_is_told():
    engine = EngineThread()
    with pytest.raises(EngineError, match="no engine"):
        await frames_worth_batching(engine, PIXELS, 4)
    await engine.close()
