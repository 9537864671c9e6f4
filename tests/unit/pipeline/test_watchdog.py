"""An engine that fails is told from frames that do, taken out of service, and reloaded."""

import asyncio
import threading
from contextlib import asynccontextmanager

import numpy as np

from common.domain.errors import EngineError, UnavailableError, UnsupportedGraphError
from services.pipeline.engine_thread import EngineThread
from services.pipeline.watchdog import Watchdog
from tests.unit.pipeline.frames import Frame

INPUTS = {"x": np.zeros(1, np.float32)}
BAD = {"x": np.ones(1, np.float32)}


class Engine:
    """Fails on every input while its device does, and always on ones."""

    description = "test"

    def __init__(self, device):
        self._device = device
        if device["cannot load"]:
            device["cannot load"] -= 1
            raise EngineError("no device")
        device["loads"] += 1

    def run(self, inputs):
        if self._device["broken"] or inputs["x"].any():
            raise EngineError("sticky")
        return dict(inputs)

    def close(self):
        self._device["closes"] += 1
        if self._device["broken"]:
            raise RuntimeError("sticky too")


@asynccontextmanager
async def watched():
    """An engine, its device, and what the watchdog tells."""
    device = {"broken": False, "loads": 0, "closes": 0, "cannot load": 0}
    engine, told = EngineThread(), asyncio.Queue()

    async def load():
        await engine.load(lambda: Engine(device))

    async def test():
        await engine.test(INPUTS)

    await load()
    watchdog = Watchdog(
        engine, reload=load, test=test, tell=told.put, reload_waits_seconds=(0.0, 0.01, 0.01)
    )
    watching = asyncio.ensure_future(watchdog.run())
    await asyncio.sleep(0)
    try:
        yield engine, device, told
    finally:
        watching.cancel()
        await engine.close()


async def execute(engine, inputs=INPUTS):
    """One frame's execution."""
    return await asyncio.wait_for(Frame(engine, "s", inputs).outcome, 60)


async def test_an_engine_that_fails_is_reloaded_until_it_computes():
    async with watched() as (engine, device, told):
        device["broken"], device["cannot load"] = True, 2
        outcomes = [await execute(engine) for _ in range(3)]
        assert all(isinstance(outcome, EngineError) for outcome in outcomes)
        assert "3 times in a row" in await asyncio.wait_for(told.get(), 60)
        # Refused at once, so that it is sent elsewhere.
        assert isinstance(await execute(engine), UnavailableError)
        device["broken"] = False
        assert await asyncio.wait_for(told.get(), 60) == ""
        assert not isinstance(await execute(engine), Exception)
        assert device["loads"] > 1


async def test_an_engine_that_can_never_run_it_is_not_reloaded_again():
    loads, told = [], asyncio.Queue()
    device = {"broken": False, "loads": 0, "closes": 0, "cannot load": 0}
    engine = EngineThread()
    await engine.load(lambda: Engine(device))

    def refuse():
        loads.append(1)
        raise UnsupportedGraphError("engine test has no operator Twist")

    async def test():
        await engine.test(INPUTS)

    watchdog = Watchdog(
        engine,
        reload=lambda: engine.load(refuse),
        test=test,
        tell=told.put,
        interval_seconds=0.01,
        reload_waits_seconds=(0.0, 0.01),
    )
    watching = asyncio.ensure_future(watchdog.run())
    await asyncio.sleep(0)
    device["broken"] = True
    try:
        for _ in range(3):
            await execute(engine)
        assert "being reloaded" in await asyncio.wait_for(told.get(), 60)
        assert "no operator Twist" in await asyncio.wait_for(told.get(), 60)
        # Many of the watchdog's looks later it is the same.
        outcomes = [await execute(engine) for _ in range(5)]
        assert {str(each) for each in outcomes} == {"engine test has no operator Twist"}
        assert len(loads) == 1
        # Another bundle may be one that it can run.
        device["broken"] = False
        await engine.load(lambda: Engine(device))
        assert not isinstance(await execute(engine), Exception)
    finally:
        watching.cancel()
        await engine.close()


async def test_frames_at_fault_leave_the_engine_in_service():
    async with watched() as (engine, device, told):
        for _ in range(7):
            assert isinstance(await execute(engine, BAD), EngineError)
        assert not isinstance(await execute(engine), Exception)
        assert told.empty()
        assert device["loads"] == 1


async def test_an_engine_that_hangs_after_it_failed_is_told():
    entered, leave = threading.Event(), threading.Event()

    class FailsThenHangs(Engine):
        def run(self, inputs):
            if self._device["hangs"]:
                entered.set()
                leave.wait(20)
            return super().run(inputs)

    device = {"broken": False, "loads": 0, "closes": 0, "cannot load": 0, "hangs": False}
    engine, told = EngineThread(stuck_after_seconds=0.05), asyncio.Queue()

    async def load():
        await engine.load(lambda: FailsThenHangs(device))

    async def test():
        device["hangs"] = not entered.is_set()
        await engine.test(INPUTS)

    await load()
    assert not isinstance(await execute(engine), Exception)
    watchdog = Watchdog(engine, reload=load, test=test, tell=told.put, interval_seconds=0.01)
    watching = asyncio.ensure_future(watchdog.run())
    await asyncio.sleep(0)
    for _ in range(3):
        await execute(engine, BAD)
    try:
        assert "hangs" in await asyncio.wait_for(told.get(), 60)
        device["hangs"] = False
        leave.set()
        assert await asyncio.wait_for(told.get(), 60) == ""
        assert not isinstance(await execute(engine), Exception)
    finally:
        leave.set()
        watching.cancel()
        await engine.close()


async def test_failures_with_a_success_in_between_are_nothing():
    async with watched() as (engine, _, told):
        for _ in range(6):
            await execute(engine, BAD)
            await execute(engine, BAD)
            await execute(engine)
        assert engine.failures_in_a_row == 0
        assert told.empty()


async def test_a_worker_that_hangs_is_told():
    hanging = [61.0, 62.0, 0.0]
    told = asyncio.Queue()

    async def never():
        raise AssertionError

    engine = EngineThread()
    watchdog = Watchdog(
        engine,
        reload=never,
        test=never,
        tell=told.put,
        workers_stuck_seconds=lambda: hanging.pop(0) if len(hanging) > 1 else hanging[0],
        interval_seconds=0.01,
    )
    watching = asyncio.ensure_future(watchdog.run())
    assert "worker" in await asyncio.wait_for(told.get(), 60)
    assert await asyncio.wait_for(told.get(), 60) == ""
    watching.cancel()
    await engine.close()


async def test_an_engine_that_hangs_does_not_hold_up_the_end():
    entered, leave = threading.Event(), threading.Event()

    class Hanging(Engine):
        def run(self, inputs):
            entered.set()
            leave.wait(30)
            return {}

    engine = EngineThread()
    device = {"broken": False, "loads": 0, "closes": 0, "cannot load": 0}
    await engine.load(lambda: Hanging(device))
    running = asyncio.ensure_future(engine.test(INPUTS))
    await asyncio.get_running_loop().run_in_executor(None, entered.wait)
    assert await asyncio.wait_for(engine.close(0.1), 20) is False
    leave.set()
    await running
