"""Streams take turns at the engine and its workers; steps that nobody waits for are left out."""

import asyncio
import sys
import threading
import time
from dataclasses import dataclass
from typing import Dict, List

import numpy as np
import pytest

from common.bundle import load_bundle
from common.domain.errors import EngineError, InvalidInputError
from common.domain.placement import Stage
from common.engines.paced import PacedEngine
from common.engines.registry import load_engine
from services.pipeline.flow import FrameFlow, Slow
from services.pipeline.runner import EngineRunner
from services.pipeline.turns import TurnQueue
from services.pipeline.watchdog import Watchdog
from tests.harness import TOY_BUNDLE

PACE_SECONDS = 0.02
RECENT_EXECUTIONS = 20
PIXELS = {"pixels": np.zeros((1, 3, 64, 64), np.float32)}


@dataclass
class Input:
    tensors: Dict[str, np.ndarray]


class Gate:
    """An engine that runs when the test lets it; remembers what it ran."""

    description = "gate"

    def __init__(self) -> None:
        self.ran: List[int] = []
        self.entered = threading.Semaphore(0)
        self.leave = threading.Semaphore(0)

    def run(self, inputs):
        number = int(inputs["number"][0])
        self.entered.release()
        self.leave.acquire()
        if number < 0:
            raise EngineError("negative")
        self.ran.append(number)
        return inputs

    def let(self, count: int) -> None:
        """Let this many executions end."""
        for _ in range(count):
            self.leave.release()

    def close(self) -> None:
        pass


def numbered(number: int) -> Dict[str, np.ndarray]:
    return {"number": np.array([number], np.float32)}


@pytest.fixture
async def paced():
    runner = EngineRunner()
    path = load_bundle(TOY_BUNDLE).onnx_path(Stage.BACKBONE)
    await runner.load(lambda: PacedEngine(load_engine("none", path, 1), PACE_SECONDS))
    await runner.run(PIXELS)
    yield runner
    await runner.close()


@pytest.fixture
async def gated():
    runner, gate = EngineRunner(), Gate()
    await runner.load(lambda: gate)
    yield runner, gate
    gate.let(1000)
    await runner.close()


def test_streams_take_turns_and_keep_their_order():
    queue = TurnQueue()
    for item in (("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("c", 1)):
        queue.put(item[0], item)
    taken = [queue.take() for _ in range(3)]
    # One that comes now waits for one of each other stream.
    queue.put("d", ("d", 1))
    taken += [queue.take() for _ in range(4)]
    assert taken == [("a", 1), ("b", 1), ("c", 1), ("a", 2), ("b", 2), ("d", 1), ("a", 3)]


def test_every_item_is_taken_once_by_many_threads():
    queue, taken = TurnQueue(), []

    def put(stream):
        for number in range(500):
            queue.put(stream, (stream, number))

    def take():
        taken.extend(queue.take() for _ in range(500))

    threads = [threading.Thread(target=put, args=(name,)) for name in "abc"]
    threads += [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [(name, number) for name in "abc" for number in range(500)]


async def test_a_slow_stream_waits_for_one_execution_of_each_flooding_one(paced):
    floods = [
        asyncio.ensure_future(paced.run(PIXELS, stream))
        for stream in ("flood 1", "flood 2")
        for _ in range(24)
    ]
    waits = []
    for _ in range(5):
        waits.append((await paced.run(PIXELS, "camera")).queue_seconds)
        await asyncio.sleep(PACE_SECONDS)
    assert not all(flood.done() for flood in floods)
    # The one under way, and one of each other stream; half as much again for a busy machine.
    assert sorted(waits)[2] < 1.5 * 3 * PACE_SECONDS
    assert [execution.outputs["features"].shape[0] for execution in await asyncio.gather(*floods)]


async def test_cancelled_executions_are_skipped(gated):
    runner, gate = gated
    runs = [asyncio.ensure_future(runner.run(numbered(number), "s")) for number in range(5)]
    await asyncio.get_running_loop().run_in_executor(None, gate.entered.acquire)
    for run in runs[1:4]:
        run.cancel()
    await asyncio.wait(runs[1:4])
    gate.let(2)
    await runs[0]
    await runs[4]
    assert gate.ran == [0, 4]


async def test_a_frames_cancelled_steps_are_left_out(gated):
    runner, gate = gated
    flow, finished = FrameFlow(runner, "test"), []

    def finish(prepared, execution):
        finished.append(int(execution.outputs["number"][0]))
        return finished[-1]

    frames = [
        asyncio.ensure_future(flow.run("s", lambda n=number: Input(numbered(n)), finish))
        for number in range(5)
    ]
    await asyncio.get_running_loop().run_in_executor(None, gate.entered.acquire)
    for frame in frames[:4]:
        frame.cancel()
    await asyncio.wait(frames[:4])
    gate.let(2)
    assert await frames[4] == 4
    # The first was under way when it was cancelled.
    assert gate.ran == [0, 4]
    assert finished == [4]
    flow.close()


async def test_what_a_step_raises_is_the_frames_own_failure(gated):
    runner, gate = gated
    flow = FrameFlow(runner, "test")
    gate.let(10)

    def refuse():
        raise InvalidInputError("no picture")

    def stumble(prepared, execution):
        raise ValueError("no boxes")

    def finish(prepared, execution):
        return int(execution.outputs["number"][0])

    with pytest.raises(InvalidInputError, match="no picture"):
        await flow.run("s", refuse, finish)
    with pytest.raises(EngineError, match="negative"):
        await flow.run("s", lambda: Input(numbered(-1)), finish)
    with pytest.raises(ValueError, match="no boxes"):
        await flow.run("s", lambda: Input(numbered(1)), stumble)
    assert await flow.run("s", lambda: Input(numbered(2)), finish) == 2
    flow.close()


async def test_preparing_of_many_frames_does_not_hold_up_another_stream(gated):
    runner, gate = gated
    flow = FrameFlow(runner, "test")
    gate.let(100)

    def prepare():
        time.sleep(PACE_SECONDS)
        return Input(numbered(0))

    def finish(prepared, execution):
        return time.perf_counter()

    flood = [asyncio.ensure_future(flow.run("flood", prepare, finish)) for _ in range(30)]
    camera = await flow.run("camera", prepare, finish)
    others = sorted(await asyncio.gather(*flood))
    assert camera < others[10]
    flow.close()


async def test_what_is_slow_to_prepare_holds_up_its_own_stream_alone(gated):
    runner, gate = gated
    flow, begun, may_end = FrameFlow(runner, "test"), threading.Event(), threading.Event()
    gate.let(100)

    def prepare_slowly():
        begun.set()
        assert may_end.wait(30)
        return Input(numbered(1))

    def finish(prepared, execution):
        return int(execution.outputs["number"][0])

    slow = [
        asyncio.ensure_future(flow.run("slow", lambda: Slow(prepare_slowly), finish))
        for _ in range(5)
    ]
    behind = asyncio.ensure_future(flow.run("slow", lambda: Input(numbered(2)), finish))
    await asyncio.get_running_loop().run_in_executor(None, begun.wait)
    for number in range(10, 20):
        assert await flow.run("camera", lambda n=number: Input(numbered(n)), finish) == number
    assert not behind.done()
    assert flow.stuck_seconds(limit_seconds=10, slow_limit_seconds=30) == 0
    assert flow.stuck_seconds(limit_seconds=30, slow_limit_seconds=0) > 0
    may_end.set()
    assert await asyncio.gather(*slow, behind) == [1] * 5 + [2]
    assert gate.ran == [*range(10, 20), *[1] * 5, 2]
    flow.close()


async def test_closing_does_not_wait_for_a_worker_that_hangs(gated):
    runner, _ = gated
    flow, begun, may_end = FrameFlow(runner, "test"), threading.Event(), threading.Event()

    def hang():
        begun.set()
        may_end.wait(60)
        return Input(numbered(1))

    frame = asyncio.ensure_future(flow.run("s", hang, lambda prepared, execution: None))
    await asyncio.get_running_loop().run_in_executor(None, begun.wait)
    started = time.perf_counter()
    flow.close()
    assert time.perf_counter() - started < 5
    may_end.set()
    frame.cancel()
    await asyncio.wait([frame])


@pytest.fixture
def hasty_threads():
    """Threads change at nearly every instruction, so that races show."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


async def test_frames_of_a_stream_may_be_ready_at_the_same_moment(gated, hasty_threads):
    runner, gate = gated
    flow = FrameFlow(runner, "test")
    rounds = 1000
    gate.let(2 * rounds)

    def finish(prepared, execution):
        return int(execution.outputs["number"][0])

    for number in range(0, 2 * rounds, 2):
        both_ready = threading.Barrier(2)

        def prepare(n, both_ready=both_ready):
            both_ready.wait(30)
            return Input(numbered(n))

        pair = [flow.run("s", lambda n=n: prepare(n), finish) for n in (number, number + 1)]
        # A worker that ends by an error would leave its frame without an answer.
        assert await asyncio.wait_for(asyncio.gather(*pair), 30) == [number, number + 1]
    assert gate.ran == list(range(2 * rounds))
    flow.close()


async def never_called():
    raise AssertionError("there is no failure to get over")


async def test_an_execution_without_an_end_is_noticed():
    runner, gate, told = EngineRunner(stuck_after_seconds=0.0), Gate(), asyncio.Queue()
    await runner.load(lambda: gate)
    first = asyncio.ensure_future(runner.run(numbered(0)))
    await asyncio.get_running_loop().run_in_executor(None, gate.entered.acquire)
    # It may plan memory and tune kernels, for as long as that takes.
    assert runner.stuck_seconds() == 0.0
    gate.let(1 + RECENT_EXECUTIONS)
    await first
    for number in range(RECENT_EXECUTIONS):
        await runner.run(numbered(number))
    watchdog = Watchdog(
        runner, reload=never_called, test=never_called, tell=told.put, interval_seconds=0.01
    )
    watch = asyncio.ensure_future(watchdog.run())
    hanging = asyncio.ensure_future(runner.run(numbered(1)))
    assert "hangs" in await asyncio.wait_for(told.get(), 30)
    gate.let(1)
    await hanging
    assert await asyncio.wait_for(told.get(), 30) == ""
    watch.cancel()
    await runner.close()


async def test_nothing_runs_before_an_engine_is_loaded():
    runner = EngineRunner()
    with pytest.raises(EngineError, match="no engine"):
        await runner.run(PIXELS)
    await runner.close()
