"""Changes all stages over to another bundle: all of them, or none."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from typing import (
    Awaitable,
    DefaultDict,
    Dict,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
)

import structlog

from common.domain.errors import PreconditionError, TandemError, UnavailableError
from common.domain.models import DEFAULT_MODEL, StageModels
from common.domain.placement import StageAddress
from common.wire.channels import ServerChannel
from services.orchestrator.deployed import Deployed
from services.orchestrator.routing.route_table import RouteTable
from services.orchestrator.routing.routes import DIED, LEFT, SILENT
from services.orchestrator.routing.served_models import ServedModels, told_model
from services.orchestrator.routing.stage_deployment import StageDeployment

log = structlog.get_logger()

_LOOK_SECONDS = 0.5
# How long to wait before a stage is told again that could not follow.
_RETRY_SECONDS = 5.0


class Deployments:
    """Deploys bundles, and has stages follow that were not there at the time.

    Every stage first loads the bundle beside the one that it serves; only when all have done so are
    they told to serve it. The stages hold what they have prepared for as long as their calls last,
    so that an orchestrator which dies leaves nothing behind.

    A stage that is found with what was served before, such as one that died between the two steps,
    or a replica that was started since, is changed over by itself. What a person tells stages by
    SIGHUP, by other settings or through another orchestrator is the newer word.
    """

    def __init__(
        self,
        table: RouteTable,
        models: ServedModels,
        channels: Mapping[StageAddress, ServerChannel],
        draining: asyncio.Event,
    ) -> None:
        """Nothing is deployed.

        Args:
            table: knows every stage's health.
            models: what the stages serve.
            channels: to each of them.
            draining: set once the orchestrator is to end, which waits for no stage to load.
        """
        self._table = table
        self._models = models
        self._channels = channels
        self._draining = draining
        self._deployed: Dict[str, Deployed] = {}
        # Model and bundle.
        self._under_way: Optional[Tuple[str, str]] = None
        # Who has told meanwhile what they serve.
        self._unheard: Set[StageAddress] = set()
        self._following: Dict[Tuple[StageAddress, str], asyncio.Task[None]] = {}

    async def deploy(self, model: str, bundle: str, digest: str) -> None:
        """Change every stage of a model over; if cancelled before all are prepared, none is.

        Args:
            model: that is to be served with the bundle.
            bundle: name of a folder in each stage's folder of bundles.
            digest: of the bundle.

        Raises:
            PreconditionError: there is no such model, a stage cannot serve it, or another
                deployment is under way.
            UnavailableError: a stage cannot be reached or there is none, or this drains.
        """
        if self._under_way:
            raise PreconditionError(
                f"{self._under_way[1]} is being deployed at the moment: try again when it is"
            )
        if model != DEFAULT_MODEL:
            self._models.require(model, self._table.health)
        self._under_way = model, bundle
        stages: List[StageDeployment] = []
        try:
            for server in self._servers(model):
                stages.append(StageDeployment(server, self._channels[server]))
            log.info("deployment", bundle=bundle, digest=digest, stages=len(stages))
            await self._prepare(stages, model, bundle, digest)
            await _to_the_end(self._commit(stages, model, bundle, digest))
        except TandemError as error:
            log.warning("deployment failed", bundle=bundle, reason=str(error))
            raise
        finally:
            self._under_way = None
            for stage in stages:
                stage.abandon()
            self._hear_out()

    def stage_told(self, server: StageAddress, models: StageModels) -> None:
        """A stage has told what it serves: it may have to follow what was deployed."""
        changing = None
        if self._under_way is not None:
            changing = self._under_way[0]
            self._unheard.add(server)
        for name, deployed in tuple(self._deployed.items()):
            if name == changing:
                continue
            model = models.model(name)
            if model is None:
                deployed.forget(server)
            elif model.bundle_digest == deployed.digest:
                deployed.serves(server)
            elif deployed.is_overruled(server, model):
                log.warning(
                    "a stage was told otherwise",
                    name=server.name,
                    bundle=model.bundle_name,
                    deployed=deployed.bundle,
                )
                del self._deployed[name]
            else:
                deployed.lagging.setdefault(server, "it is about to")
                self._follow(server, name, deployed)

    def server_left(self, server: StageAddress) -> None:
        """A server is gone for good."""
        self._forget(server)

    def warnings(self) -> Sequence[str]:
        """A sentence for each stage that does not serve what was deployed."""
        return [
            f"{server.name} does not serve {deployed.bundle}, which was deployed: {reason}"
            for deployed in self._deployed.values()
            for server, reason in deployed.lagging.items()
        ]

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = tuple(self._following.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _servers(self, model: str) -> Sequence[StageAddress]:
        """Every server that has to change over: each that has the model, or has not told.

        Raises:
            UnavailableError: one cannot be reached, or there is none.
        """
        staying = [
            each
            for each in self._table.health.values()
            if each.fault != LEFT and self._models.may_serve(each.address, model)
        ]
        for health in staying:
            if health.address not in self._channels or health.fault in (DIED, SILENT):
                raise UnavailableError(
                    f"{health.address.name} is unavailable ({health.reason}), and all stages have "
                    "to change over together"
                )
        if not staying:
            raise UnavailableError("no stage is configured")
        return tuple(health.address for health in staying)

    async def _prepare(
        self, stages: Sequence[StageDeployment], model: str, bundle: str, digest: str
    ) -> None:
        """Have all stages load the bundle, or raise why one does not.

        Those of one node do so one after the other: frames need its cores as well.
        """
        turns: DefaultDict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

        async def prepared(stage: StageDeployment) -> None:
            async with turns[stage.server.node]:
                await stage.prepare(model, bundle, digest)

        preparing = {asyncio.ensure_future(prepared(stage)): stage for stage in stages}
        try:
            waiting: Set[asyncio.Task[None]] = set(preparing)
            while waiting:
                done, waiting = await asyncio.wait(
                    waiting, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_EXCEPTION
                )
                for each in done:
                    each.result()
                if self._draining.is_set():
                    raise UnavailableError("the orchestrator drains, and nothing has changed")
                for each, stage in preparing.items():
                    self._require_reached(stage.server)
                    if each.done():
                        stage.require_held()
        finally:
            for each in preparing:
                each.cancel()
            await asyncio.gather(*preparing, return_exceptions=True)

    def _require_reached(self, server: StageAddress) -> None:
        health = self._table.health.get(server)
        if health is None or health.fault in (DIED, SILENT):
            reason = "it is gone" if health is None else health.reason
            raise UnavailableError(f"{server.name} was lost while it loaded the bundle: {reason}")

    async def _commit(
        self, stages: Sequence[StageDeployment], model: str, bundle: str, digest: str
    ) -> None:
        """Have all stages serve what they have loaded.

        Raises:
            TandemError: none of them does.
        """
        before = self._models.bundles_of(model)
        if model in self._deployed:
            before |= self._deployed[model].instead_of
        outcomes = await asyncio.gather(*(each.commit() for each in stages), return_exceptions=True)
        failures: Dict[StageAddress, BaseException] = {
            stage.server: outcome
            for stage, outcome in zip(stages, outcomes)
            if isinstance(outcome, BaseException)
        }
        if len(failures) == len(stages):
            raise next(iter(failures.values()))
        for server, failure in failures.items():
            log.error("a stage did not change over", name=server.name, reason=str(failure))
        lagging = {server: str(failure) for server, failure in failures.items()}
        reached = {each.server for each in stages}.difference(failures)
        # What these have told may be of a moment before.
        self._unheard -= reached
        self._deployed[model] = deployed = Deployed(
            bundle, digest, before - {digest}, lagging, reached
        )
        for server in failures:
            self._follow(server, model, deployed)
        if not failures:
            await asyncio.gather(*(each.finish() for each in stages))
        log.info("deployed", what=told_model(model), bundle=bundle, digest=digest)

    def _follow(self, server: StageAddress, model: str, deployed: Deployed) -> None:
        async def followed() -> None:
            while self._deployed.get(model) is deployed and server in deployed.lagging:
                reason = await self._reason_not_followed(server, model, deployed)
                if reason is None:
                    deployed.serves(server)
                    log.info("a stage has followed", name=server.name, bundle=deployed.bundle)
                    return
                deployed.lagging[server] = reason
                log.warning("a stage does not follow", name=server.name, reason=reason)
                await asyncio.sleep(_RETRY_SECONDS)

        def ended(task: asyncio.Task[None]) -> None:
            self._following.pop((server, model), None)
            with suppress(asyncio.CancelledError):
                task.result()

        if (server, model) in self._following:
            return
        self._following[server, model] = asyncio.ensure_future(followed())
        self._following[server, model].add_done_callback(ended)

    async def _reason_not_followed(
        self, server: StageAddress, model: str, deployed: Deployed
    ) -> Optional[str]:
        """Change one stage over; returns why that failed, and None if it did not."""
        stage: Optional[StageDeployment] = None
        try:
            stage = StageDeployment(server, self._channels[server])
            await stage.prepare(model, deployed.bundle, deployed.digest)
            await stage.commit()
            await stage.finish()
        except KeyError:
            return "it is gone"
        except TandemError as error:
            return str(error)
        finally:
            if stage is not None:
                stage.abandon()
        return None

    def _hear_out(self) -> None:
        """Look at who told something amid a deployment, such as a replica that was found then."""
        unheard, self._unheard = self._unheard, set()
        for server in unheard.intersection(self._models.known):
            self.stage_told(server, self._models.known[server])

    def _forget(self, server: StageAddress) -> None:
        for key in [each for each in self._following if each[0] == server]:
            self._following.pop(key).cancel()
        for deployed in self._deployed.values():
            deployed.forget(server)


async def _to_the_end(work: Awaitable[None]) -> None:
    """Do what must not be left half done, even if this is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
