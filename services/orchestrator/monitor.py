"""Watches every stage's health."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, AsyncIterator, Callable, Dict, List, Mapping

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.domain.placement import Stage, StageAddress
from services.orchestrator.placement import StageHealth, StageKey, name_of

log = structlog.get_logger()

_SERVICE_NAMES = {Stage.BACKBONE: "tandem.v1.Backbone", Stage.TRANSFORMER: "tandem.v1.Transformer"}
# A stage whose machine does not even refuse a connection must not hold back the others.
_FIRST_LOOK_SECONDS = 2.0


class StageMonitor:
    """Keeps what is known of each stage, by the `Watch` of its health service.

    A stage that stops, drains or dies is known within a round trip, since the watch says so or
    breaks; one that is down is tried again at a fixed interval.

    Attributes:
        states: what is known now, by node and stage.
    """

    def __init__(
        self, channels: Mapping[StageAddress, grpc.aio.Channel], interval_seconds: float
    ) -> None:
        """Prepare; `start` begins to watch.

        Args:
            channels: one to each stage.
            interval_seconds: between tries at a stage that is down.
        """
        self._channels = channels
        self._interval_seconds = interval_seconds
        self._on_change: Callable[[StageHealth], None]
        self._watches: List[asyncio.Task[None]] = []
        self._first_looks = {address: asyncio.Event() for address in channels}
        self.states: Dict[StageKey, StageHealth] = {
            (address.node, address.stage): StageHealth(address, False, "not reached yet")
            for address in channels
        }

    def start(self, on_change: Callable[[StageHealth], None]) -> None:
        """Begin to watch every stage; `on_change` is told each state, the present ones first."""
        self._on_change = on_change
        for state in self.states.values():
            on_change(state)
        for address, channel in self._channels.items():
            self._watches.append(asyncio.ensure_future(self._watch(address, channel)))

    async def first_look(self) -> None:
        """Wait until each stage was reached or found to be down, for a bounded time."""
        looks = [asyncio.ensure_future(look.wait()) for look in self._first_looks.values()]
        if looks:
            _, late = await asyncio.wait(looks, timeout=_FIRST_LOOK_SECONDS)
            for look in late:
                look.cancel()

    async def close(self) -> None:
        """Stop watching."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)

    async def _watch(self, address: StageAddress, channel: grpc.aio.Channel) -> None:
        # Its published types leave out Watch.
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=_SERVICE_NAMES[address.stage])
        while True:
            try:
                await self._follow(address, stub.Watch(request))
                self._note(address, "ended its health stream")
            except grpc.aio.AioRpcError as error:
                self._note(address, error.details() or error.code().name)
            await asyncio.sleep(self._interval_seconds)

    async def _follow(self, address: StageAddress, answers: AsyncIterator[Any]) -> None:
        async for answer in answers:
            status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
            self._note(address, "" if status == "SERVING" else f"its health is {status}")

    def _note(self, address: StageAddress, reason: str) -> None:
        self._first_looks[address].set()
        key = (address.node, address.stage)
        known = self.states[key]
        state = replace(known, healthy=reason == "", reason=reason)
        if state == known:
            return
        self.states[key] = state
        self._on_change(state)
        if state.healthy != known.healthy:
            write = log.info if state.healthy else log.warning
            write("stage", name=name_of(address), healthy=state.healthy, reason=reason)
