"""Frames pass through a stage in turn and in order; steps that nobody waits for are left out."""

import asyncio
import gc
import sys
import threading
import time
import weakref
from dataclasses import dataclass
from functools import partial
from typing import Dict

import numpy as np
import pytest

from common.domain.errors import EngineError, InvalidInputError
from services.pipeline.core import Slow, StageCore
from services.pipeline.engine_thread import EngineThread
from services.pipeline.passage import Pipeline
from services.pipeline.workers import Workers
from tests.unit.pipeline.frames import Gate, numbered
from tests.waiting import PATIENCE_SECONDS


@dataclass
class Input:
    tensors: Dict[str, np.ndarray]
    decode_seconds: float = 0.0
    preprocess_seconds: float = 0.0


class Numbers(StageCore):
    """A frame is a number, or a callable that prepares one; options are called at the end."""

    def __init__(self) -> None:
        self.finished = []
        self.stuck = (10.0, 30.0)

    def prepare(self, frame):
        prepared = frame() if callable(frame) else frame
        return prepared if isinstance(prepared, Slow) else Input(numbered(prepared))

    def finish(self, inputs, outputs, options, timing):
        number = int(outputs["number"][0])
        self.finished.append(number)
        return number if options is None else options()

    def typical_tensors(self):
        return [numbered(0)]

    def stuck_after_seconds(self):
        return self.stuck


def slow(prepare):
    return Slow(lambda: Input(numbered(prepare())))


@pytest.fixture
async def stage():
    """A pipeline, the gate that is its engine, and what is around it."""
    engine, gate = EngineThread(), Gate()
    await engine.load(lambda: gate)
    pipeline = Pipeline(Numbers(), engine, "edge", Workers())
    yield pipeline, gate
    gate.let(10_000)
    await engine.close()
    pipeline.workers.close()


async def result_of(pipeline, stream, frame, options):
    """What becomes of a frame that is given up if this is cancelled."""
    answer = asyncio.get_running_loop().create_future()

    def tell(result, error):
        if not answer.cancelled():
            answer.set_result((result, error))

    passage = pipeline.begin(stream, frame, options, tell)
    del frame
    try:
        result, error = await answer
    finally:
        passage.is_wanted = False
    if error is not None:
        raise error
    return result


def frame_of(pipeline, stream, frame, options=None):
    return asyncio.ensure_future(result_of(pipeline, stream, frame, options))


async def test_a_frames_cancelled_steps_are_left_out(stage):
    pipeline, gate = stage
    frames = [frame_of(pipeline, "s", number) for number in range(5)]
    await gate.is_entered()
    for frame in frames[:4]:
        frame.cancel()
    await asyncio.wait(frames[:4])
    gate.let(2)
    assert await frames[4] == 4
    # The first was under way when it was cancelled.
    assert gate.ran == [0, 4]
    assert pipeline.stage.finished == [4]


async def test_what_a_step_raises_is_the_frames_own_failure(stage):
    pipeline, gate = stage
    gate.let(10)

    def refuse():
        raise InvalidInputError("no picture")

    def stumble():
        raise ValueError("no boxes")

    with pytest.raises(InvalidInputError, match="no picture"):
        await result_of(pipeline, "s", refuse, None)
    with pytest.raises(InvalidInputError, match="no picture"):
        await result_of(pipeline, "s", lambda: slow(refuse), None)
    with pytest.raises(EngineError, match="negative"):
        await result_of(pipeline, "s", -1, None)
    with pytest.raises(ValueError, match="no boxes"):
        await result_of(pipeline, "s", 1, stumble)
    assert await result_of(pipeline, "s", 2, None) == 2


async def test_a_frame_that_cannot_be_prepared_does_not_hold_up_those_behind_it(stage):
    pipeline, gate = stage
    gate.let(10)
    begun, may_end = threading.Event(), threading.Event()

    def refuse():
        begun.set()
        assert may_end.wait(PATIENCE_SECONDS)
        raise InvalidInputError("no picture")

    bad = frame_of(pipeline, "s", refuse)
    await asyncio.get_running_loop().run_in_executor(None, begun.wait)
    good = [frame_of(pipeline, "s", number) for number in range(3)]
    assert await result_of(pipeline, "other", 10, None) == 10
    assert gate.ran == [10]
    may_end.set()
    assert await asyncio.gather(*good) == [0, 1, 2]
    assert isinstance((await asyncio.wait([bad]))[0].pop().exception(), InvalidInputError)


async def test_preparing_of_many_frames_does_not_hold_up_another_stream(stage):
    pipeline, gate = stage
    gate.let(100)
    begun, may_go_on = [], threading.Event()

    def prepare(stream):
        begun.append(stream)
        may_go_on.wait(PATIENCE_SECONDS)
        return 0

    flood = [frame_of(pipeline, "flood", lambda: prepare("flood")) for _ in range(30)]
    camera = frame_of(pipeline, "camera", lambda: prepare("camera"))
    # In one turn of the loop all of them begin to wait, before the first of them goes on.
    await asyncio.sleep(0)
    may_go_on.set()
    assert await asyncio.gather(*flood, camera) == [0] * 31
    assert begun.index("camera") < 10


async def test_what_is_slow_to_prepare_holds_up_its_own_stream_alone(stage):
    pipeline, gate = stage
    begun, may_end = threading.Event(), threading.Event()
    gate.let(100)

    def prepare_slowly():
        begun.set()
        assert may_end.wait(PATIENCE_SECONDS)
        return 1

    frames = [frame_of(pipeline, "slow", lambda: slow(prepare_slowly)) for _ in range(5)]
    behind = frame_of(pipeline, "slow", 2)
    await asyncio.get_running_loop().run_in_executor(None, begun.wait)
    for number in range(10, 20):
        assert await result_of(pipeline, "camera", number, None) == number
    assert not behind.done()
    pipeline.stage.stuck = (10, 30)
    assert pipeline.stuck_seconds() == 0
    pipeline.stage.stuck = (30, 0)
    assert pipeline.stuck_seconds() > 0
    may_end.set()
    assert await asyncio.gather(*frames, behind) == [1] * 5 + [2]
    assert gate.ran == [*range(10, 20), *[1] * 5, 2]


async def test_closing_does_not_wait_for_a_worker_that_hangs(stage):
    pipeline, _ = stage
    begun, may_end = threading.Event(), threading.Event()

    def hang():
        begun.set()
        may_end.wait(60)
        return 1

    frame = frame_of(pipeline, "s", hang)
    await asyncio.get_running_loop().run_in_executor(None, begun.wait)
    started = time.perf_counter()
    assert not pipeline.workers.close()
    # It would hang for a minute.
    assert time.perf_counter() - started < 30
    may_end.set()
    frame.cancel()
    await asyncio.wait([frame])


async def test_nothing_keeps_a_frame_that_is_answered(stage):
    pipeline, gate = stage
    gate.let(10)

    class Picture:
        """A frame that can be watched."""

        def __init__(self, number):
            self.number = number

        def __call__(self):
            if self.number < 0:
                raise InvalidInputError("no picture")
            return self.number

    pictures = [Picture(1), Picture(-1)]
    watched = [weakref.ref(picture) for picture in pictures]
    # No cycle keeps them: nobody collects any.
    gc.disable()
    try:
        assert await result_of(pipeline, "s", pictures.pop(0), None) == 1
        with pytest.raises(InvalidInputError):
            await result_of(pipeline, "s", pictures.pop(0), None)
        # The workers let go of their last jobs.
        for stream in ("a", "b", "c", "d"):
            await result_of(pipeline, stream, 2, None)
        assert [reference() for reference in watched] == [None, None]
    finally:
        gc.enable()


@pytest.fixture
def hasty_threads():
    """Threads change at nearly every instruction, so that races show."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


async def test_frames_of_a_stream_may_be_ready_at_the_same_moment(stage, hasty_threads):
    pipeline, gate = stage
    rounds = 1000
    gate.let(2 * rounds)

    for number in range(0, 2 * rounds, 2):
        both_ready = threading.Barrier(2)

        def prepare(n, both_ready=both_ready):
            both_ready.wait(PATIENCE_SECONDS)
            return n

        pair = [
            result_of(pipeline, "s", lambda n=n: prepare(n), None) for n in (number, number + 1)
        ]
        # A worker that ends by an error would leave its frame without an answer.
        assert await asyncio.wait_for(asyncio.gather(*pair), 30) == [number, number + 1]
    assert gate.ran == list(range(2 * rounds))


async def test_a_lone_frame_is_finished_where_it_was_executed_and_others_keep_nobody_waiting(stage):
    pipeline, gate = stage

    def finisher():
        return threading.current_thread().name.rpartition("-")[0]

    lone = frame_of(pipeline, "s", 0, finisher)
    await gate.is_entered()
    gate.let(1)
    assert await lone == "engine"
    first, second = (frame_of(pipeline, "s", number, finisher) for number in (1, 2))
    await gate.is_entered()
    gate.let(2)
    assert [await first, await second] == ["worker", "engine"]


class Quick(Numbers):
    prepares_quickly = True


async def idle(engine):
    """The thread has told of its last job before it waits for the next."""
    while not engine.is_idle:
        await asyncio.sleep(0)


async def test_a_lone_frame_that_is_prepared_quickly_is_so_where_it_is_executed(stage):
    pipeline, gate = stage
    pipeline.stage = Quick()
    threads = {}

    def prepared(number):
        threads[number] = threading.current_thread().name.rpartition("-")[0]
        return number

    await idle(pipeline.engine)
    lone = frame_of(pipeline, "s", lambda: prepared(0))
    await gate.is_entered()
    others = [frame_of(pipeline, "st"[number - 1], partial(prepared, number)) for number in (1, 2)]
    # They begin before the engine may go on.
    await asyncio.sleep(0)
    gate.let(3)
    assert await asyncio.gather(lone, *others) == [0, 1, 2]
    assert threads == {0: "engine", 1: "worker", 2: "worker"}


async def test_a_lone_frame_that_hangs_while_it_is_prepared_is_told_of(stage):
    pipeline, gate = stage
    pipeline.stage = Quick()
    pipeline.stage.stuck = (0.0, 30.0)
    begun, may_end = threading.Event(), threading.Event()
    gate.let(1)

    def hang():
        begun.set()
        assert may_end.wait(60)
        return 1

    await idle(pipeline.engine)
    frame = frame_of(pipeline, "s", hang)
    await asyncio.get_running_loop().run_in_executor(None, begun.wait)
    assert pipeline.stuck_seconds() > 0
    may_end.set()
    assert await frame == 1
    assert pipeline.stuck_seconds() == 0
