"""Servers of stages that names lead to: they are found, watched, used, and left when they go."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Awaitable, Callable, Dict, Iterable, List, Set, Tuple

import structlog

from common.domain.placement import StageAddress
from common.telemetry.metrics import Metrics
from common.wire.channels import ServerChannel
from common.wire.records import NameRecords
from common.wire.resolver import LookUp
from services.orchestrator.routing.monitor import StageMonitor
from services.orchestrator.routing.routes import DIED, LEFT, SILENT, StageHealth
from services.orchestrator.session.sessions import Sessions

log = structlog.get_logger()

MOST_REPLICAS = 32
"""Of one name that are used: every frame looks at each route."""

# A name that is slow to be found must not hold back the others.
_FIRST_LOOK_SECONDS = 2.0
_TICK_SECONDS = 0.25
_FAULTS = (DIED, SILENT)


@dataclass(frozen=True)
class Connections:
    """The channels to servers, and how one more is made.

    Attributes:
        channels: for frames, by server.
        connect: makes a channel for frames.
        connect_for_health: makes one for health.
    """

    channels: Dict[StageAddress, ServerChannel]
    connect: Callable[[StageAddress], ServerChannel]
    connect_for_health: Callable[[StageAddress], ServerChannel]


class Replicas:
    """Follows what names lead to.

    A server that a name leads to is watched at once, and gets frames when its health says that it
    serves. One that the name leads to no more gets no new ones: those in flight come home, or go
    elsewhere if it dies first. Then it is forgotten.
    """

    def __init__(
        self,
        names: Iterable[StageAddress],
        sessions: Sessions,
        monitor: StageMonitor,
        connections: Connections,
        *,
        look_up: LookUp,
        lookup_seconds: float,
    ) -> None:
        """Look nothing up yet; `run` does.

        Args:
            names: of the configuration, in the place of the servers that they lead to.
            sessions: are told of servers that come and go.
            monitor: watches them; what it sees goes to `stage_changed`.
            connections: get the channels to them.
            look_up: asks for the addresses of a name.
            lookup_seconds: between two lookups of a name.
        """
        self._monitor = monitor
        self._sessions = sessions
        self._table = sessions.resources.router.table
        self._metrics: Metrics = sessions.resources.metrics
        self._connections = connections
        self._health_channels: Dict[StageAddress, ServerChannel] = {}
        # By each server that is about to go, its health as it is.
        self._leaving: Dict[StageAddress, StageHealth] = {}
        self._ending: Set[asyncio.Future[None]] = set()
        self._first_answers = {name: asyncio.Event() for name in names}
        self._records = {
            name: self._records_of(name, look_up, lookup_seconds) for name in self._first_answers
        }

    async def run(self) -> None:
        """Follow the names until cancelled."""
        await asyncio.gather(*(each.run() for each in self._records.values()), self._see_off())

    async def first_look(self) -> None:
        """Wait until each name was looked up once, for a bounded time."""
        looks = [asyncio.ensure_future(each.wait()) for each in self._first_answers.values()]
        if looks:
            _, late = await asyncio.wait(looks, timeout=_FIRST_LOOK_SECONDS)
            for look in late:
                look.cancel()

    def stage_changed(self, health: StageHealth) -> None:
        """Take over a server's new health, as it was seen."""
        server = health.address
        if server in self._leaving:
            self._leaving[server] = health
            if health.healthy:
                return
        if health.fault in _FAULTS:
            self._look_soon(server)
        self._sessions.stage_changed(health)

    def warnings(self) -> Tuple[str, ...]:
        """A sentence for each name whose latest lookup was not as it should be."""
        return tuple(
            f"{name.name}: {records.name} {records.fault}; {_used(records)}"
            for name, records in self._records.items()
            if records.fault and records.addresses
        )

    async def close(self) -> None:
        """Close the channels to servers that were found."""
        ending = tuple(self._ending)
        for each in ending:
            each.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        for channel in self._health_channels.values():
            await channel.close()

    def _records_of(
        self, name: StageAddress, look_up: LookUp, lookup_seconds: float
    ) -> NameRecords:
        return NameRecords(
            *(name.address, look_up, lookup_seconds),
            most_addresses=MOST_REPLICAS,
            of_one_family=True,
            on_answer=lambda: self._follow(name),
        )

    def _follow(self, name: StageAddress) -> None:
        """Take over what a name leads to now."""
        records = self._records[name]
        self._first_answers[name].set()
        if not records.is_answered:
            self._metrics.failed_lookups.labels(name.node, name.stage.value).inc()
        if not records.addresses:
            self._tell_unfound(name, f"{records.name} {records.fault}")
            return
        found = [replace(name, address=each, found_by=name.address) for each in records.addresses]
        known = set(self._servers_of(name))
        for server in found:
            if server in self._leaving:
                self._sessions.stage_changed(self._leaving.pop(server))
            elif server not in known:
                self._add(server)
        for server in known.difference(found, self._leaving):
            self._leave(server)
        if name in self._table.health:
            self._sessions.server_removed(name)

    def _tell_unfound(self, name: StageAddress, reason: str) -> None:
        if self._table.health[name].reason != reason:
            self._sessions.stage_changed(StageHealth(name, False, reason, DIED))

    def _servers_of(self, name: StageAddress) -> List[StageAddress]:
        return [
            server
            for server in self._table.health
            if server.found_by and _place(server) == _place(name)
        ]

    def _look_soon(self, server: StageAddress) -> None:
        for name, records in self._records.items():
            if _place(name) == _place(server):
                records.look_soon()

    def _add(self, server: StageAddress) -> None:
        self._connections.channels[server] = self._connections.connect(server)
        channel = self._connections.connect_for_health(server)
        self._health_channels[server] = channel
        self._sessions.server_added(server)
        self._monitor.add(server, channel)

    def _leave(self, server: StageAddress) -> None:
        log.info("stage", name=server.name, leaving=True)
        self._leaving[server] = health = self._table.health[server]
        reason = f"{server.found_by} leads there no more; frames in flight are finished"
        self._sessions.stage_changed(replace(health, healthy=False, reason=reason, fault=LEFT))

    async def _see_off(self) -> None:
        """Forget the servers that are about to go once no frame is bound for them."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            for server in [each for each in self._leaving if not self._table.in_flight[each]]:
                self._remove(server)

    def _remove(self, server: StageAddress) -> None:
        del self._leaving[server]
        self._monitor.remove(server)
        self._sessions.server_removed(server)
        self._end(self._connections.channels.pop(server).close_after_calls())
        self._end(self._health_channels.pop(server).close())

    def _end(self, ending: Awaitable[None]) -> None:
        task = asyncio.ensure_future(ending)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _place(server: StageAddress) -> Tuple[str, str, int]:
    """Of a name, and of all that it leads to."""
    return server.node, server.stage.value, server.replica


def _used(records: NameRecords) -> str:
    count = len(records.addresses)
    if records.is_answered:
        return f"{count} are used"
    return f"the {count} address{'es' * (count > 1)} known last {'are' if count > 1 else 'is'} used"
