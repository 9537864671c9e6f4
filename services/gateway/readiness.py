"""Whether the orchestrator can serve pictures, and by which models, for callers that ask first."""

from __future__ import annotations

import asyncio
import time

from common.domain.errors import TandemError
from common.domain.models import DEFAULT_MODEL
from common.domain.status import SystemStatus
from tandem.client import DetectorClient

_PATIENCE_SECONDS = 2.0
# Names of models change with the settings of stages.
_NAMES_SECONDS = 1.0


class Readiness:
    """Asks the orchestrator; callers that ask at the same time share a question."""

    def __init__(self, client: DetectorClient, draining: asyncio.Event) -> None:
        """Nothing is known yet.

        Args:
            client: of the orchestrator.
            draining: set once the gateway takes no more pictures.
        """
        self._client = client
        self._draining = draining
        self._asking: asyncio.Task[SystemStatus | None] | None = None
        self._names: frozenset[str] = frozenset()
        self._named_at = float("-inf")

    async def is_ready(self, model: str = DEFAULT_MODEL) -> bool:
        """Whether the orchestrator answers, and has a node pair that can serve a model."""
        if self._draining.is_set():
            return False
        status = await self._status()
        if status is None or status.draining:
            return False
        placements = status.placements
        if model != DEFAULT_MODEL:
            choices = {each.name: each.placements for each in status.models}
            placements = choices.get(model, ())
        return any(each.available for each in placements)

    async def models(self) -> frozenset[str]:
        """The names of all models but the default one, as they were told last."""
        if time.monotonic() - self._named_at > _NAMES_SECONDS:
            await self._status()
        return self._names

    async def _status(self) -> SystemStatus | None:
        asking = self._asking
        if asking is None or asking.done():
            asking = self._asking = asyncio.create_task(self._ask())
        # One caller that leaves must not take the answer from the others.
        return await asyncio.shield(asking)

    async def _ask(self) -> SystemStatus | None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                status = await self._client.status()
        except (TandemError, TimeoutError):
            return None
        self._names = frozenset(each.name for each in status.models)
        self._named_at = time.monotonic()
        return status
