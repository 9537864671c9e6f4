"""What the monitor finds out about stages: by their word, by their end, and by their silence."""

import asyncio
import socket
import time
from contextlib import asynccontextmanager

from common.domain.placement import Stage
from common.server.health import DrainingHealth
from common.wire.channels import ServerChannel
from services.orchestrator.routing.monitor import StageMonitor
from services.orchestrator.routing.routes import DIED, SILENT
from services.orchestrator.routing.routes import NOT_SERVING as NOT_SERVING_FAULT
from tests.unit.orchestrator.toys import NOT_SERVING, SERVING, ToyBackbone, stage_address
from tests.waiting import PATIENCE_SECONDS

SERVICE = "tandem.v1.Backbone"
WAIT_SECONDS = PATIENCE_SECONDS


class HangingHealth(DrainingHealth):
    """Watches go on, and heartbeats are not answered while `hangs` is set."""

    def __init__(self):
        super().__init__(asyncio.Event())
        self.hangs = False

    async def Check(self, request, context):  # noqa: N802
        if self.hangs:
            await asyncio.Event().wait()
        return await super().Check(request, context)


class Watched:
    """What a monitor tells of one stage."""

    def __init__(self):
        self.changes = asyncio.Queue()
        self.heartbeats = asyncio.Queue()
        self.answered_at = float("-inf")

    async def next_change(self):
        return await asyncio.wait_for(self.changes.get(), WAIT_SECONDS)


@asynccontextmanager
async def watching(*addresses, timeout_seconds=60.0):
    told = Watched()
    channels = {each: ServerChannel(each.address) for each in addresses}
    monitor = StageMonitor(
        channels,
        interval_seconds=0.05,
        timeout_seconds=timeout_seconds,
        on_change=told.changes.put_nowait,
        on_heartbeat=lambda *heartbeat: told.heartbeats.put_nowait(heartbeat),
        answered_at=lambda _: told.answered_at,
    )
    told.monitor = monitor
    running = asyncio.ensure_future(monitor.run())
    try:
        yield told
        assert not running.done()
    finally:
        await monitor.close()
        await asyncio.gather(running, return_exceptions=True)
        for channel in channels.values():
            await channel.close()


def toy_address(toy):
    return stage_address("edge", Stage.BACKBONE, toy.address)


async def test_a_stage_is_healthy_and_not_once_it_says_so():
    async with ToyBackbone().running() as toy, watching(toy_address(toy)) as told:
        first = await told.next_change()
        assert (first.healthy, first.reason, first.interrupted) == (True, "", False)
        await toy.health.set(SERVICE, NOT_SERVING)
        second = await told.next_change()
        assert (second.healthy, second.fault) == (False, NOT_SERVING_FAULT)
        assert "NOT_SERVING" in second.reason
        assert second.interrupted
        assert second.changed_at >= first.changed_at
        await toy.health.set(SERVICE, SERVING)
        third = await told.next_change()
        assert (third.healthy, third.interrupted) == (True, True)


async def test_the_reason_that_a_stage_tells_is_passed_on():
    toy = ToyBackbone()
    toy.health = HangingHealth()
    async with toy.running(), watching(toy_address(toy)) as told:
        await told.next_change()
        toy.health.reason = "the engine hangs"
        await toy.health.set(SERVICE, NOT_SERVING)
        assert "NOT_SERVING" in (await told.next_change()).reason
        assert (await told.next_change()).reason == "the engine hangs"


async def test_a_stage_that_dies_is_unhealthy_at_once_and_healthy_when_it_is_back():
    toy = ToyBackbone()
    async with toy.running():
        address = toy_address(toy)
        port = int(toy.address.rpartition(":")[2])
    running = toy.running(port)
    await running.__aenter__()
    async with watching(address, timeout_seconds=60.0) as told:
        assert (await told.next_change()).healthy
        await running.__aexit__(None, None, None)
        gone = await told.next_change()
        assert (gone.healthy, gone.fault, gone.silent) == (False, DIED, False)
        async with ToyBackbone().running(port):
            while not (await told.next_change()).healthy:
                pass


async def test_a_stage_that_hangs_is_found_by_its_silence():
    toy = ToyBackbone()
    toy.health = HangingHealth()
    async with toy.running(), watching(toy_address(toy), timeout_seconds=1.0) as told:
        assert (await told.next_change()).healthy
        toy.health.hangs = True
        silent = await told.next_change()
        assert (silent.healthy, silent.fault, silent.silent) == (False, SILENT, True)
        assert "has not answered for 1 s" in silent.reason


async def test_a_stage_that_answers_frames_is_not_silent():
    toy = ToyBackbone()
    toy.health = HangingHealth()
    async with toy.running(), watching(toy_address(toy), timeout_seconds=0.5) as told:
        assert (await told.next_change()).healthy
        told.answered_at = time.monotonic() + 1.0
        toy.health.hangs = True
        # Several heartbeats are lost meanwhile.
        silent = await told.next_change()
        assert silent.silent
        assert silent.changed_at >= told.answered_at + 0.5


async def test_heartbeats_tell_the_round_trip():
    async with ToyBackbone().running() as toy, watching(toy_address(toy)) as told:
        address, seconds = await asyncio.wait_for(told.heartbeats.get(), WAIT_SECONDS)
        assert address == toy_address(toy)
        assert 0 < seconds < WAIT_SECONDS


async def test_the_first_look_waits_for_no_machine_that_does_not_answer():
    # Nobody accepts there: the connection is made, and nothing comes.
    with socket.create_server(("127.0.0.1", 0)) as silent_server:
        port = silent_server.getsockname()[1]
        silent = stage_address("cellar", Stage.BACKBONE, f"127.0.0.1:{port}")
        async with ToyBackbone().running() as toy, watching(toy_address(toy), silent) as told:
            began = time.monotonic()
            await told.monitor.first_look()
            assert (await told.next_change()).healthy
            # It never would.
            assert time.monotonic() - began < 60.0


async def test_a_stage_that_answers_frames_gets_few_heartbeats():
    async with ToyBackbone().running() as toy, watching(toy_address(toy)) as told:
        assert (await told.next_change()).healthy
        # Whenever this process is stopped for an interval, no answers are seen, and a heartbeat is
        # sent; a monitor that sends too many does so each time.
        beats = [await beats_beside_answers(told)]
        while len(beats) < 10 and not 1 <= beats[-1] <= 6:
            beats.append(await beats_beside_answers(told))
        # Of twenty intervals, every fifth; and one that was under way.
        assert 1 <= beats[-1] <= 6, beats


async def beats_beside_answers(told):
    """How many heartbeats come in a second in which frames are answered all the time."""
    beats = 0
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        told.answered_at = time.monotonic()
        await asyncio.sleep(0.01)
        while not told.heartbeats.empty():
            told.heartbeats.get_nowait()
            beats += 1
    return beats
