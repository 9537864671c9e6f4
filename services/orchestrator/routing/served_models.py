"""Which models the stages serve, and with which bundles; no I/O, no clock."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Deque, Dict, FrozenSet, Iterable, Iterator, List, Optional, Tuple

from common.domain.errors import PreconditionError, UnavailableError, shortened
from common.domain.models import DEFAULT_MODEL, StageModels, told_models
from common.domain.placement import Stage, StageAddress
from services.orchestrator.routing.routes import NOT_SERVING, Route, StageHealth

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
        # What `bundle_for` says until a stage tells something else; every frame asks.
        self._bundles: Dict[Tuple[Route, str], Optional[str]] = {}

    def told(self, server: StageAddress, models: StageModels, now: float) -> None:
        """A stage has told what it serves; `now` in seconds, of any steady clock."""
        self._bundles.clear()
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
        self._bundles.clear()
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
        key = (route, model)
        if key not in self._bundles:
            self._bundles[key] = self._bundle_for(route, model)
        return self._bundles[key]

    def _bundle_for(self, route: Route, model: str) -> Optional[str]:
        backbone, transformer = (self.known.get(server) for server in route.servers)
        if backbone is None or transformer is None:
            return None
        for one, other in ((backbone, transformer), (transformer, backbone)):
            digest = one.digest_of(model)
            if digest is not None and digest in other.loaded_digests:
                return digest
        both = backbone.loaded_digests & transformer.loaded_digests
        return next((each for each in reversed(self._recent.get(model, ())) if each in both), None)

    def bundles_of(self, model: str) -> FrozenSet[str]:
        """Digests of what a model is served with, and was before, as far as that is remembered."""
        served = (each.digest_of(model) for each in self.known.values())
        return frozenset(each for each in served if each).union(self._recent.get(model, ()))

    def forget_order(self, server: StageAddress) -> None:
        """A server was lost: what was wrong with its models may not be any more."""
        told = self.known.get(server)
        if told is not None:
            self._bundles.clear()
            in_order = tuple(replace(model, out_of_order="") for model in told.models)
            self.known[server] = replace(told, models=in_order)

    @property
    def names(self) -> FrozenSet[str]:
        """The models that there is a backbone and a transformer for, and the default one."""
        by_stage = (self._names_at(stage) for stage in Stage)
        return frozenset.intersection(*by_stage) | {DEFAULT_MODEL}

    def require(self, model: str, servers: Iterable[StageAddress]) -> None:
        """Refuse a stream that names a model which no stage serves.

        Args:
            model: that is named.
            servers: all that there are, whether they have told what they serve or not.

        Raises:
            PreconditionError: there is none; the message lists those that there are.
            UnavailableError: a stage that has not told yet may serve it.
        """
        if model in self.names:
            return
        untold = [server for server in servers if server not in self.known]
        lacking = [stage for stage in Stage if model not in self._names_at(stage)]
        if {server.stage for server in untold}.issuperset(lacking):
            names = ", ".join(server.name for server in untold if server.stage in lacking)
            raise UnavailableError(
                f"the model {model!r} is not among those known so far "
                f"({told_models(sorted(self.names))}); yet to tell theirs: {shortened(names)}"
            )
        halves = [stage.value for stage in Stage if stage not in lacking]
        only = f", or only the {halves[0]} of it" if halves else ""
        raise PreconditionError(
            f"the system has no model {model!r}{only}; its models are: "
            f"{told_models(sorted(self.names))}"
        )

    def may_serve(self, server: StageAddress, model: str) -> bool:
        """Whether a server has a model, as far as is known."""
        told = self.known.get(server)
        return told is None or told.model(model) is not None

    def health_with(self, health: StageHealth, model: str) -> StageHealth:
        """A server's health as far as streams of one model are concerned."""
        if not health.healthy:
            return health
        told = self.known.get(health.address)
        served = None if told is None else told.model(model)
        reason = "" if served is None else served.out_of_order
        if told is None and model != DEFAULT_MODEL:
            # Stages that are older than models never tell, and serve the default one all the same.
            reason = "it has not told which models it serves"
        if not reason:
            return health
        return replace(health, healthy=False, reason=reason, fault=NOT_SERVING)

    def matches(self, route: Route, model: str) -> bool:
        """Whether both halves of a route can serve a model with one bundle, as far as is known.

        Of the default model the stages find out themselves, and tell what does not fit.
        """
        return model == DEFAULT_MODEL or self.bundle_for(route, model) is not None

    def _names_at(self, stage: Stage) -> FrozenSet[str]:
        return frozenset(
            model.name
            for server, told in self.known.items()
            if server.stage is stage
            for model in told.models
        )

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
                # Of a stage's only model its health tells.
                if model.out_of_order and len(models.models) > 1:
                    what = told_model(model.name)
                    yield f"{server.name} cannot serve {what}: {model.out_of_order}"


def told_model(name: str) -> str:
    """A model as people are told of it, at the beginning of a sentence or within."""
    return f"the model {name}" if name else "the default model"


def _digests(models: StageModels) -> Dict[str, str]:
    return {model.name: model.bundle_digest for model in models.models}
