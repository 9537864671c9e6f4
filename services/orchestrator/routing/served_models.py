"""Which bundle a frame's stages are to serve it with; no I/O, no clock."""

from __future__ import annotations

from typing import Dict, Iterator, List, Optional

from common.domain.models import DEFAULT_MODEL, StageModels
from common.domain.placement import StageAddress
from services.orchestrator.routing.routes import Route


class ServedModels:
    """What every stage serves, as it told last.

    Attributes:
        known: by its server; a stage that is older than models, or was never reached, is not here.
    """

    def __init__(self) -> None:
        """Nobody has told anything."""
        self.known: Dict[StageAddress, StageModels] = {}

    def bundle_for(self, route: Route, model: str = DEFAULT_MODEL) -> Optional[str]:
        """The digest of the bundle that new streams along a route take, in both halves.

        That is what the backbone would take by itself, if the transformer has it in memory, and
        otherwise what the transformer would take, if the backbone has it. So while stages change
        over one after the other, both halves go on with the bundle before.

        Returns:
            The digest; None if it is not known, or if there is no bundle that both have.
        """
        backbone, transformer = (self.known.get(server) for server in route.servers)
        if backbone is None or transformer is None:
            return None
        for one, other in ((backbone, transformer), (transformer, backbone)):
            digest = one.digest_of(model)
            if digest is not None and digest in other.loaded_digests:
                return digest
        return None

    def disagreements(self) -> Iterator[str]:
        """A sentence for each model that not all stages serve with the same bundle."""
        names = {each.name: None for models in self.known.values() for each in models.models}
        for name in names:
            servers: Dict[str, List[str]] = {}
            for server, models in self.known.items():
                model = models.model(name)
                if model is not None:
                    bundle = f"{model.bundle_name} ({model.bundle_digest[:12]})"
                    servers.setdefault(bundle, []).append(server.name)
            if len(servers) > 1:
                told = "; ".join(
                    f"{bundle} on {', '.join(on)}" for bundle, on in sorted(servers.items())
                )
                yield f"{told_model(name)} is served with different bundles: {told}"

    def notes(self) -> Iterator[str]:
        """What stages say of their models, a sentence each."""
        for server, models in self.known.items():
            for model in models.models:
                if model.note:
                    yield f"{server.name}: {model.note}"


def told_model(name: str) -> str:
    """A model as people are told of it, at the beginning of a sentence or within."""
    return f"the model {name}" if name else "the default model"
