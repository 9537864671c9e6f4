"""Whether the orchestrator can serve pictures now, for callers that ask before they send any."""

from __future__ import annotations

import asyncio

from common.domain.errors import TandemError
from tandem.client import DetectorClient

_PATIENCE_SECONDS = 2.0


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
        self._asking: asyncio.Task[bool] | None = None

    async def is_ready(self) -> bool:
        """Whether the orchestrator answers, and has a node pair that can serve."""
        if self._draining.is_set():
            return False
        asking = self._asking
        if asking is None or asking.done():
            asking = self._asking = asyncio.create_task(self._ask())
        # One caller that leaves must not take the answer from the others.
        return await asyncio.shield(asking)

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                status = await self._client.status()
        except (TandemError, TimeoutError):
            return False
        return not status.draining and any(each.available for each in status.placements)
