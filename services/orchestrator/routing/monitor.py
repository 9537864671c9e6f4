"""Watches every stage's health."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import Any, AsyncIterator, Callable, Dict, Mapping, Optional

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.domain.errors import UnavailableError, shortened
from common.domain.placement import Stage, StageAddress
from common.server.health import IN_FLIGHT_KEY, REASON_CHARACTERS, REASON_KEY
from common.wire.channels import ServerChannel
from common.wire.errors import TLS_FAULTS, connection_fault
from services.orchestrator.routing.first_looks import wait_for_first_looks
from services.orchestrator.routing.routes import DIED, NOT_SERVING, SILENT, StageHealth

log = structlog.get_logger()

_SERVICE_NAMES = {Stage.BACKBONE: "tandem.v1.Backbone", Stage.TRANSFORMER: "tandem.v1.Transformer"}
# Of a stage that answers frames, one heartbeat is sent in so many intervals.
_MEASURING_INTERVALS = 5
# Of a number of frames.
_MOST_DIGITS = 6


def _nothing_to_learn(server: StageAddress, frames: int) -> None:
    """Nothing depends on how many frames a stage holds."""


class StageMonitor:
    """Watches the health service of every stage.

    `Watch` tells within a round trip that a stage drains or that its process is gone. A process
    that hangs, and a link that swallows packets, tell nothing: they are found out by calls of
    `Check`, the heartbeats, which have to be answered in time, and whose round trips measure the
    link's latency.
    """

    def __init__(
        self,
        channels: Mapping[StageAddress, ServerChannel],
        interval_seconds: float,
        timeout_seconds: float,
        *,
        on_change: Callable[[StageHealth], None],
        on_heartbeat: Callable[[StageAddress, float], None],
        answered_at: Callable[[StageAddress], float],
        on_in_flight: Callable[[StageAddress, int], None] = _nothing_to_learn,
    ) -> None:
        """Prepare; `run` watches.

        Args:
            channels: one to each stage's server.
            interval_seconds: between heartbeats, and between tries at a server that is unavailable.
            timeout_seconds: a server that does not answer a heartbeat for so long is unavailable.
            on_change: called with each change of a server's health; at first it is
                `StageHealth.unknown`.
            on_heartbeat: called with the seconds that each heartbeat took.
            answered_at: when a server last answered a frame, by `time.monotonic`.
            on_in_flight: called with how many frames a server holds, if it tells.
        """
        self._channels = dict(channels)
        self._interval_seconds = interval_seconds
        self._timeout_seconds = timeout_seconds
        self._on_change = on_change
        self._on_heartbeat = on_heartbeat
        self._answered_at = answered_at
        self._on_in_flight = on_in_flight
        self._watches: Dict[StageAddress, asyncio.Task[None]] = {}
        self._failed: Optional[asyncio.Future[None]] = None
        self._first_looks = {address: asyncio.Event() for address in channels}
        self._health = {address: StageHealth.unknown(address) for address in channels}

    async def run(self) -> None:
        """Watch every stage until closed.

        Raises:
            Exception: watching one of them failed, which is a fault in here.
        """
        self._failed = asyncio.get_running_loop().create_future()
        for address in self._channels:
            self._begin(address)
        await self._failed

    def add(self, address: StageAddress, channel: ServerChannel) -> None:
        """Watch one more server; its health is unknown until it answers."""
        self._channels[address] = channel
        self._first_looks[address] = asyncio.Event()
        self._health[address] = StageHealth.unknown(address)
        if self._failed is not None:
            self._begin(address)

    def remove(self, address: StageAddress) -> None:
        """Watch a server no more."""
        for known in (self._channels, self._first_looks, self._health):
            known.pop(address)
        watch = self._watches.pop(address, None)
        if watch is not None:
            watch.cancel()

    async def first_look(self) -> None:
        """Wait until each stage was reached or found to be unavailable, for a bounded time."""
        await wait_for_first_looks(self._first_looks.values())

    async def close(self) -> None:
        """Stop watching."""
        if self._failed is not None:
            self._failed.cancel()
        watches, self._watches = tuple(self._watches.values()), {}
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    def _begin(self, address: StageAddress) -> None:
        def ended(watch: asyncio.Task[None]) -> None:
            error = None if watch.cancelled() else watch.exception()
            if error is not None and self._failed is not None and not self._failed.done():
                self._failed.set_exception(error)

        watch = asyncio.ensure_future(self._watch(address, self._channels[address]))
        self._watches[address] = watch
        watch.add_done_callback(ended)

    async def _watch(self, address: StageAddress, channel: ServerChannel) -> None:
        request = health_pb2.HealthCheckRequest(service=_SERVICE_NAMES[address.stage])
        while True:
            if channel.refusal:
                self._note(address, channel.refusal, DIED)
                await asyncio.sleep(self._interval_seconds)
                continue
            # Its published types leave out Watch.
            stub: Any = health_pb2_grpc.HealthStub(channel.current)
            call = stub.Watch(request)
            heartbeats = asyncio.ensure_future(self._beat(address, channel, stub, request))
            # They end when the stage is silent or revoked; or by a fault in here, which is raised
            # below.
            heartbeats.add_done_callback(partial(_cancel, call))
            try:
                await self._follow(address, stub, request, call)
                self._note(address, "ended its health stream", DIED)
            except grpc.aio.AioRpcError as error:
                self._note(address, _reason_of(error), DIED)
            except UnavailableError as error:
                self._note(address, str(error), DIED)
            except asyncio.CancelledError:
                # A heartbeat that found the stage silent or revoked cancels the watch, no more.
                if address not in self._watches or not heartbeats.done():
                    raise
                heartbeats.result()
            finally:
                heartbeats.cancel()
                call.cancel()
            await asyncio.sleep(self._interval_seconds)

    async def _follow(
        self, address: StageAddress, stub: Any, request: Any, answers: AsyncIterator[Any]
    ) -> None:
        async for answer in answers:
            if answer is None:
                # What gRPC gives in the place of a message that cannot be parsed.
                raise UnavailableError("answers a health check with something that is no health")
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                self._note(address, "", NOT_SERVING)
                continue
            known = health_pb2.HealthCheckResponse.ServingStatus.DESCRIPTOR.values_by_number
            name = known[answer.status].name if answer.status in known else str(answer.status)
            # Noted before anything is asked: frames must go elsewhere at once.
            self._note(address, f"its health is {name}", NOT_SERVING)
            reason = await self._reason(stub, request)
            health = self._health.get(address)
            if reason and health is not None and health.fault == NOT_SERVING:
                self._note(address, reason, NOT_SERVING)

    async def _reason(self, stub: Any, request: Any) -> str:
        """What a stage says of why it is not serving; empty if it says nothing."""
        try:
            return _reason_in(await self._check(stub, request))
        except grpc.aio.AioRpcError:
            return ""

    async def _check(self, stub: Any, request: Any) -> Any:
        """Ask a stage for its health; returns the metadata that goes along.

        Raises:
            AioRpcError: it did not answer in time, or not at all.
        """
        check = stub.Check(request, timeout=self._timeout_seconds)
        await check
        return await check.trailing_metadata()

    async def _beat(
        self, address: StageAddress, channel: ServerChannel, stub: Any, request: Any
    ) -> None:
        """Call until the stage does not answer in time; its watch is then given up as well.

        While it answers frames there is no need to ask, but now and then, to measure the link: on
        a slow one heartbeats are a good part of what it carries.
        """
        called_at = time.monotonic()
        while True:
            seen_at = max(called_at, self._answered_at(address))
            await asyncio.sleep(seen_at + self._interval_seconds - time.monotonic())
            if channel.refusal:
                return
            now = time.monotonic()
            is_seen = now - self._answered_at(address) < self._interval_seconds
            if is_seen and now - called_at < _MEASURING_INTERVALS * self._interval_seconds:
                continue
            called_at = now
            asked = time.perf_counter()
            try:
                metadata = await self._check(stub, request)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    # The watch has its own way to know why.
                    continue
                if time.monotonic() - self._answered_at(address) < self._timeout_seconds:
                    # On a link full of frames a heartbeat may be lost, again and again.
                    continue
                self._note(address, f"has not answered for {self._timeout_seconds:g} s", SILENT)
                return
            self._on_heartbeat(address, time.perf_counter() - asked)
            # A watch tells no change of the reason: a stage may know it only after it has loaded.
            reason, known = _reason_in(metadata), self._health.get(address)
            if reason and known is not None and known.fault == NOT_SERVING:
                self._note(address, reason, NOT_SERVING)
            frames = _told(metadata, IN_FLIGHT_KEY)
            if frames.isdecimal() and len(frames) <= _MOST_DIGITS:
                self._on_in_flight(address, int(frames))

    def _note(self, address: StageAddress, reason: str, fault: str) -> None:
        known = self._health.get(address)
        if known is None:
            # It is not watched any more.
            return
        self._first_looks[address].set()
        healthy = reason == ""
        if not healthy and known.fault == SILENT:
            # How the call to a silent stage ends says less than that it is silent.
            return
        if (healthy, reason) == (known.healthy, known.reason):
            return
        health = replace(known, healthy=healthy, reason=reason, fault="" if healthy else fault)
        if healthy != known.healthy:
            interrupted = known.interrupted or known.healthy
            health = replace(health, changed_at=time.monotonic(), interrupted=interrupted)
            write = log.info if healthy else log.warning
            write("stage", name=address.name, healthy=healthy, reason=reason)
        self._health[address] = health
        self._on_change(health)


def _reason_of(error: grpc.aio.AioRpcError) -> str:
    """Why a health stream ended, in a sentence where it is for somebody to mend."""
    fault = connection_fault(error.code(), error.details())
    if fault is not None and (error.details() or fault in TLS_FAULTS):
        # Clients are told of it, who know gRPC's own words as those of their own connections.
        return fault.value
    if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return "it does not accept the orchestrator's certificate"
    return shortened(error.details() or error.code().name)


def _told(metadata: Any, key: str) -> str:
    """What a stage tells beside its health; empty if it does not."""
    return next((str(value) for name, value in metadata if name == key), "")


def _reason_in(metadata: Any) -> str:
    """Why a stage is not serving; empty if it does not say."""
    return _told(metadata, REASON_KEY)[:REASON_CHARACTERS]


def _cancel(call: grpc.aio.Call, _: asyncio.Future[None]) -> None:
    call.cancel()
