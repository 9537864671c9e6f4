"""What was deployed for one model, and which servers have followed; no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, FrozenSet, Set

from common.domain.models import BundleSource, ServedModel
from common.domain.placement import StageAddress


@dataclass
class Deployed:
    """What was deployed for a model.

    Attributes:
        bundle: name of its folder.
        digest: of the bundle.
        instead_of: digests of what stages have served before.
        lagging: why a server does not serve it, by the servers that should.
        reached: the servers that have served it since.
    """

    bundle: str
    digest: str
    instead_of: FrozenSet[str]
    lagging: Dict[StageAddress, str] = field(default_factory=dict)
    reached: Set[StageAddress] = field(default_factory=set)

    def is_overruled(self, server: StageAddress, model: ServedModel) -> bool:
        """Whether somebody has told a stage since to serve the other bundle that it serves.

        One that was started anew, or could not follow yet, serves what was served before; but one
        that has served this one is told by another orchestrator what to serve in its place.
        """
        return (
            model.source is BundleSource.RELOADED
            or model.bundle_digest not in self.instead_of
            or (model.source is BundleSource.DEPLOYED and server in self.reached)
        )

    def serves(self, server: StageAddress) -> None:
        """A server serves it."""
        self.lagging.pop(server, None)
        self.reached.add(server)

    def forget(self, server: StageAddress) -> None:
        """A server is gone, or has the model no more."""
        self.lagging.pop(server, None)
        self.reached.discard(server)
