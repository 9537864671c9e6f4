"""Which route the next mirrored request of one model takes."""

from __future__ import annotations

from typing import Callable, Container, Optional

from common.domain.placement import NodePair
from services.orchestrator.decision.decider import Decision
from services.orchestrator.decision.mirroring import MirrorBudget, SentBefore, pair_to_mirror
from services.orchestrator.routing.measurements import Measurements
from services.orchestrator.routing.route_table import RouteTable
from services.orchestrator.routing.routes import Route


class Mirroring:
    """Has what is not in use measured, by a small share of a model's frames."""

    def __init__(self, share: float, located_at: str, model: str) -> None:
        """Begin with nothing to measure.

        Args:
            share: most mirrored requests, as a share of the frames.
            located_at: place of the orchestrator: a node's name, or `ORCHESTRATOR`.
            model: whose frames are mirrored.
        """
        self._budget = MirrorBudget(share)
        self._located_at = located_at
        self._model = model
        self._node_pair: Optional[NodePair] = None

    @property
    def has_target(self) -> bool:
        """Whether there is something to be measured."""
        return self._node_pair is not None

    def earn(self) -> None:
        """Take note that a frame was answered."""
        self._budget.earn()

    def look(self, decision: Decision, table: RouteTable, measurements: Measurements) -> None:
        """Choose what is to be measured next; call it at regular intervals."""
        self._node_pair = None
        if decision.node_pair is not None:
            candidates = [
                each
                for each in table.pairs
                if each not in decision.excluded and not table.unavailable_reason(each, self._model)
            ]
            self._node_pair = pair_to_mirror(
                candidates, decision.node_pair, measurements.estimates, self._located_at
            )

    def take_route(
        self,
        unusable: Container[Route],
        sent_before: Callable[[Route], Optional[SentBefore]],
        table: RouteTable,
        measurements: Measurements,
    ) -> Optional[Route]:
        """See `Router.take_mirror_route`."""
        node_pair = self._node_pair
        if node_pair is None or not self._budget.enough():
            return None
        if not table.unavailable_reason(node_pair, self._model):
            for route in table.routes_of(node_pair, self._model):
                before = None if route in unusable else sent_before(route)
                if before is None:
                    continue
                if not self._may_mirror(route, before, measurements):
                    # Perhaps the next frame may, or one of another session.
                    return None
                self._node_pair = None
                self._budget.spend()
                return route
        self._node_pair = None
        return None

    def _may_mirror(self, route: Route, before: SentBefore, measurements: Measurements) -> bool:
        crosses_link = route.backbone.node != self._located_at
        rate = measurements.link_bytes_per_second(route)
        holds_link = crosses_link and before.holds_link(rate)
        return self._budget.enough(before.cost) and not holds_link
