"""What the routers of all models share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Dict, Optional

from common.domain.placement import NodePair
from services.orchestrator.routing.circuit_breaker import CircuitBreaker, ProgressRecord

if TYPE_CHECKING:
    from services.orchestrator.routing.router import Router


class SharedRouting:
    """What concerns servers and routes, whatever model a frame is served by.

    Attributes:
        operator_pair: where frames go whose client asked for no node pair; None: where the
            automatic choice of their model sends them.
        breaker: counts servers' failures.
        progress: knows the routes without progress.
        routers: of each model that was asked for, by its name.
    """

    def __init__(self, operator_pair: Optional[NodePair]) -> None:
        """Begin without routers."""
        self.operator_pair = operator_pair
        self.breaker = CircuitBreaker()
        self.progress = ProgressRecord()
        self.routers: Dict[str, Router] = {}
        self._change: Optional[asyncio.Future[None]] = None

    def next_change(self) -> asyncio.Future[None]:
        """Done once something may have become possible that was not."""
        if self._change is None:
            self._change = asyncio.get_running_loop().create_future()
        return self._change

    def notify(self) -> None:
        """Something may have become possible."""
        if self._change is not None and not self._change.done():
            self._change.set_result(None)
        self._change = None
