"""Frames take turns at the engine, in each stream's order; what nobody waits for is left out."""

import asyncio

import numpy as np
import pytest

from common.bundle import load_bundle
from common.domain.errors import EngineError, UnavailableError
from common.domain.placement import Stage
from common.engines.paced import PacedEngine
from common.engines.registry import load_engine
from services.pipeline.engine_thread import EngineThread
from services.pipeline.execution_turn import ExecutionTurn
from services.pipeline.watchdog import Watchdog
from tests.harness import TOY_BUNDLE
from tests.unit.pipeline.frames import Frame, Gate, numbered

PACE_SECONDS = 0.02
RECENT_EXECUTIONS = 20
PIXELS = {"pixels": np.zeros((1, 3, 64, 64), np.float32)}


@pytest.fixture
async def paced():
    engine = EngineThread()
    path = load_bundle(TOY_BUNDLE).onnx_path(Stage.BACKBONE)
    await engine.load(lambda: PacedEngine(load_engine("none", path, 1), PACE_SECONDS))
    await engine.test(PIXELS)
    yield engine
    await engine.close()


@pytest.fixture
async def gated():
    engine, gate = EngineThread(), Gate()
    await engine.load(lambda: gate)
    yield engine, gate
    gate.let(1000)
    await engine.close()


async def test_a_slow_stream_waits_for_one_execution_of_each_flooding_one(paced):
    floods = [Frame(paced, stream, PIXELS) for stream in ("flood 1", "flood 2") for _ in range(24)]
    waits = []
    for _ in range(5):
        waits.append((await Frame(paced, "camera", PIXELS).outcome).queue_seconds)
        await asyncio.sleep(PACE_SECONDS)
    assert not all(flood.outcome.done() for flood in floods)
    # The one under way, and one of each other stream; half as much again for a busy machine.
    assert sorted(waits)[2] < 1.5 * 3 * PACE_SECONDS
    executed = await asyncio.gather(*(flood.outcome for flood in floods))
    assert [frame.outputs["features"].shape[0] for frame in executed] == [1] * len(floods)


async def test_frames_that_nobody_wants_are_skipped(gated):
    engine, gate = gated
    frames = [Frame(engine, "s", numbered(number)) for number in range(5)]
    await gate.is_entered()
    for frame in frames[1:4]:
        frame.is_wanted = False
    gate.let(2)
    await frames[0].outcome
    await frames[4].outcome
    assert gate.ran == [0, 4]


async def test_a_streams_frames_wait_for_those_before_them_to_get_ready(gated):
    engine, gate = gated
    gate.let(10)
    late, withdrawn, early, last = (
        Frame(engine, "s", numbered(number), is_ready=number > 1) for number in range(4)
    )
    other = await Frame(engine, "other", numbered(10)).outcome
    assert other.outputs["number"] == 10
    assert gate.ran == [10]
    late.get_ready()
    await late.outcome
    await Frame(engine, "other", numbered(11)).outcome
    assert gate.ran == [10, 0, 11]
    engine.withdraw(withdrawn)
    await asyncio.wait_for(asyncio.gather(early.outcome, last.outcome), 30)
    assert gate.ran == [10, 0, 11, 2, 3]


class Change:
    """Two engines of one device: one executes a frame and has two more, the other has two."""

    def __init__(self):
        self.gate = Gate()
        self.turn = ExecutionTurn()
        self.old, self.new = EngineThread(turn=self.turn), EngineThread(turn=self.turn)
        self.frames = []

    async def load(self):
        for engine in (self.old, self.new):
            await engine.load(lambda: self.gate)

    async def give_frames(self):
        self.frames += [Frame(self.old, "before", numbered(number)) for number in range(3)]
        await self.gate.is_entered()
        self.frames += [Frame(self.new, "after", numbered(number)) for number in (10, 11)]
        while not self.turn.waiting:
            await asyncio.sleep(0)

    async def executed(self):
        self.gate.let(5)
        await asyncio.gather(*(frame.outcome for frame in self.frames if frame.is_wanted))
        return self.gate.ran


@pytest.fixture
async def change():
    engines = Change()
    await engines.load()
    yield engines
    engines.gate.let(1000)
    await asyncio.gather(engines.old.close(), engines.new.close())


async def test_no_frame_of_a_new_bundle_goes_before_those_of_the_one_before(change):
    change.old.place.join(change.new.place)
    await change.give_frames()
    assert await change.executed() == [0, 1, 2, 10, 11]


async def test_engines_of_two_models_take_turns(change):
    await change.give_frames()
    assert (await change.executed())[:2] == [0, 10]


async def test_frames_that_nobody_wants_do_not_keep_the_turn(change):
    change.old.place.join(change.new.place)
    await change.give_frames()
    for frame in change.frames[1:3]:
        frame.is_wanted = False
    assert await change.executed() == [0, 10, 11]


async def test_an_engine_that_is_out_of_service_does_not_keep_the_turn(change):
    change.old.place.join(change.new.place)
    await change.give_frames()
    change.old.out_of_service = "it is tested"
    assert await change.executed() == [0, 10, 11]
    with pytest.raises(UnavailableError):
        raise await change.frames[2].outcome


async def never_called():
    raise AssertionError("there is no failure to get over")


async def test_an_execution_without_an_end_is_noticed():
    engine, gate, told = EngineThread(stuck_after_seconds=0.0), Gate(), asyncio.Queue()
    await engine.load(lambda: gate)
    first = asyncio.ensure_future(engine.test(numbered(0)))
    await gate.is_entered()
    # It may plan memory and tune kernels, for as long as that takes.
    assert engine.stuck_seconds() == 0.0
    gate.let(1 + RECENT_EXECUTIONS)
    await first
    for number in range(RECENT_EXECUTIONS):
        await engine.test(numbered(number))
    watchdog = Watchdog(
        engine, reload=never_called, test=never_called, tell=told.put, interval_seconds=0.01
    )
    watch = asyncio.ensure_future(watchdog.run())
    hanging = asyncio.ensure_future(engine.test(numbered(1)))
    assert "hangs" in await asyncio.wait_for(told.get(), 30)
    gate.let(1)
    await hanging
    assert await asyncio.wait_for(told.get(), 30) == ""
    watch.cancel()
    await engine.close()


async def test_nothing_runs_before_an_engine_is_loaded():
    engine = EngineThread()
    with pytest.raises(EngineError, match="no engine"):
        await engine.test(PIXELS)
    assert isinstance(await Frame(engine, "s", PIXELS).outcome, EngineError)
    await engine.close()
