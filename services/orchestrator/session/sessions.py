"""All open sessions, and what has to be done for them from time to time."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Dict, Optional

import structlog

from common.domain.errors import UnavailableError
from common.domain.models import StageModels
from common.domain.placement import StageAddress
from common.server.authorization import calling_identity
from common.server.guard import GuardedStream
from services.orchestrator.routing.routes import NOT_SERVING, SERVING, StageHealth
from services.orchestrator.session.requests import ClientRequests
from services.orchestrator.session.resources import SessionResources
from services.orchestrator.session.session import Session

log = structlog.get_logger()

# Often enough to find a route that makes no progress well before people do.
_TICK_SECONDS = 0.25


class Sessions:
    """The open sessions.

    Attributes:
        resources: what they share.
        open: each of them, by its id.
    """

    def __init__(self, resources: SessionResources) -> None:
        """Begin without any, and show the health that is known of every stage."""
        self.resources = resources
        self.open: Dict[str, Session] = {}
        for server in resources.router.table.health:
            self._show_health(server)

    async def serve(self, stream: GuardedStream) -> None:
        """Serve a client's stream to its end.

        Raises:
            InvalidInputError: its options or the order of its messages are wrong.
            UnavailableError: the server drains.
            ResourceExhaustedError: the client has as many sessions as its quota allows.
            PreconditionError: it names a model that no stage serves; or it wants tracks, and the
                library for them is not installed.
        """
        owner = calling_identity()
        with self.resources.quotas.session(owner) as allowance:
            requests = ClientRequests(stream, allowance)
            options = await requests.options()
            if options is not None:
                table = self.resources.router.table
                table.models.require(options.model, table.health)
                session_id = uuid.uuid4().hex[:12]
                session = Session(
                    *(session_id, options, stream, self.resources), allowance=allowance, owner=owner
                )
                await self._run(session, requests, stream.peer)
        if self.resources.draining.is_set():
            raise UnavailableError("the server is draining")

    def stage_changed(self, health: StageHealth) -> None:
        """Take over a server's new health."""
        before = self.resources.router.table.health[health.address]
        if health.healthy and (health.interrupted or before.fault == NOT_SERVING):
            # It may be back with another bundle, which it tells a moment later.
            self.resources.models.changed(health.address, time.monotonic())
        self.resources.router.stage_changed(health)
        for session in self.open.values():
            # One that drains still answers what it has read.
            if health.silent:
                session.dispatcher.stage_silent(health.address, health.reason)
            session.dispatcher.stage_changed(health.address)
        self._show_health(health.address)

    def models_changed(self, server: StageAddress, models: Optional[StageModels]) -> None:
        """Take over what a server serves; None: it is gone."""
        self.resources.router.models_changed(server, models)
        for session in self.open.values():
            session.dispatcher.stage_changed(server)

    def server_removed(self, server: StageAddress) -> None:
        """Forget a server that is gone; no frame may be bound for it."""
        self.resources.router.server_removed(server)
        for session in self.open.values():
            session.dispatcher.server_removed(server)
        self._show_health(server)

    def server_added(self, server: StageAddress) -> None:
        """A server was found; it serves once its health says so."""
        self.resources.router.table.add(server)
        self._show_health(server)

    async def run(self) -> None:
        """Look after the sessions' routes, the automatic choice and the metrics until cancelled."""
        while True:
            due = time.monotonic() + _TICK_SECONDS
            await asyncio.sleep(_TICK_SECONDS)
            now = time.monotonic()
            # If this process itself stood still, answers are here that it has yet to read.
            was_held_up = now - due > _TICK_SECONDS
            self.resources.crowd.look(now)
            for session in tuple(self.open.values()):
                if not was_held_up:
                    session.dispatcher.check_progress(now)
                await session.dispatcher.leave_idle_routes(now)
            self.resources.router.tick()
            for session in tuple(self.open.values()):
                estimates = session.router.measurements.estimates
                for codec in session.dispatcher.rates.decide(estimates, now):
                    self.resources.metrics.rate_changes.labels(codec.value).inc()
                    log.info("rate chosen", session=session.session_id, codec=codec.value)
            self.show_choice()

    def show_choice(self) -> None:
        """Bring the metrics of placement and estimates up to date, those of the default model."""
        router, metrics = self.resources.router, self.resources.metrics
        active_pair = router.active_pair()
        for node_pair in router.table.pairs:
            metrics.placement.labels(node_pair.name).set(node_pair == active_pair)
            prediction = router.decision.predictions.get(node_pair)
            if prediction is not None and prediction.frames_per_second is not None:
                metrics.predicted_frames_per_second.labels(node_pair.name).set(
                    prediction.frames_per_second
                )
        estimates = router.measurements.estimates
        for (node, stage), estimate in estimates.stages.items():
            metrics.stage_estimate.labels(node, stage.value).set(estimate.execute_seconds)
        for (sender, receiver), link in estimates.links.items():
            metrics.link_estimate.labels(sender, receiver).set(link.bytes_per_second)

    async def _run(self, session: Session, requests: ClientRequests, client: str) -> None:
        self.open[session.session_id] = session
        owner = {} if session.owner is None else {"identity": str(session.owner)}
        log.info("session opened", session=session.session_id, client=client, **owner)
        try:
            await session.run(requests)
        finally:
            del self.open[session.session_id]
            frames = session.status.frames_answered
            log.info("session closed", session=session.session_id, frames=frames)

    def _show_health(self, server: StageAddress) -> None:
        """A stage of a node is up while one of its replicas is."""
        metrics, key = self.resources.metrics, (server.node, server.stage.value)
        states = self.resources.router.table.states(server.node, server.stage)
        metrics.node_up.labels(*key).set(states[SERVING] > 0)
        for state, count in states.items():
            metrics.replicas.labels(*key, state).set(count)
        self.show_choice()
