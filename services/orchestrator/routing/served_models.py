"""Which bundle a frame's stages are to serve it with; no I/O, no clock."""

from __future__ import annotations

from collections import deque
from typing import Deque, Dict, Iterator, List, Optional

from common.domain.models import DEFAULT_MODEL, StageModels
from common.domain.placement import StageAddress
from services.orchestrator.routing.routes import Route

# For so long after one half has changed, halves that do not match are about to; loading the other
# one may take a minute.
CHANGING_SECONDS = 60.0
# Of a model's bundles, those that stages may go on with while some of them change over.
_RECENT_BUNDLES = 8


class ServedModels:
    """What every stage serves, as it told last.

    Attributes:
        known: by its server; a stage that is older than models, or was never reached, is not here.
    """

    def __init__(self) -> None:
        """Nobody has told anything."""
        self.known: Dict[StageAddress, StageModels] = {}
        self._changed_at: Dict[StageAddress, float] = {}
        # Digests by the model's name, the latest last.
        self._recent: Dict[str, Deque[str]] = {}

    def told(self, server: StageAddress, models: StageModels, now: float) -> None:
        """A stage has told what it serves; `now` in seconds, of any steady clock."""
        before = self.known.get(server)
        if before is not None and _digests(before) != _digests(models):
            self.changed(server, now)
        self.known[server] = models
        for model in models.models:
            recent = self._recent.setdefault(model.name, deque(maxlen=_RECENT_BUNDLES))
            if model.bundle_digest in recent:
                recent.remove(model.bundle_digest)
            recent.append(model.bundle_digest)

    def changed(self, server: StageAddress, now: float) -> None:
        """A stage has begun to serve, or to serve something else."""
        self._changed_at[server] = now

    def left(self, server: StageAddress) -> None:
        """A server is gone for good."""
        self.known.pop(server, None)
        self._changed_at.pop(server, None)

    def is_changing(self, route: Route, now: float) -> bool:
        """Whether a half of a route has changed a moment ago, so that the other may be about to."""
        times = [self._changed_at[each] for each in route.servers if each in self._changed_at]
        return any(now - each < CHANGING_SECONDS for each in times)

    def bundle_for(self, route: Route, model: str = DEFAULT_MODEL) -> Optional[str]:
        """The digest of the bundle that new streams along a route take, in both halves.

        That is what the backbone would take by itself, if the transformer has it in memory, and
        otherwise what the transformer would take, if the backbone has it. So while stages change
        over one after the other, both halves go on with the bundle before. If they have changed
        over more than once meanwhile, it is the latest of the model's bundles that both have.

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
        both = backbone.loaded_digests & transformer.loaded_digests
        return next((each for each in reversed(self._recent.get(model, ())) if each in both), None)

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


def _digests(models: StageModels) -> Dict[str, str]:
    return {model.name: model.bundle_digest for model in models.models}
