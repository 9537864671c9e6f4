"""A deployment changes all stages over, or none; and those that were lost follow."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest

from common.domain.errors import PreconditionError, UnavailableError
from common.domain.models import DEFAULT_MODEL, BundleSource, ServedModel, StageModels
from common.domain.placement import Stage
from common.wire.channels import ServerChannel
from common.wire.models import stage_models_to_wire
from protos.tandem.v1 import models_pb2, models_pb2_grpc
from services.orchestrator.deployment import Deployments
from services.orchestrator.routing.models_watch import ModelsWatch
from services.orchestrator.routing.route_table import RouteTable
from services.orchestrator.routing.routes import DIED, StageHealth
from services.orchestrator.routing.served_models import ServedModels
from tests.unit.orchestrator.toys import stage_address, until

OLD, NEW, NEWER = "a" * 64, "b" * 64, "d" * 64


class ToyStage(models_pb2_grpc.ModelsServicer):
    """A stage that serves a digest and changes over, or does what a test says instead."""

    def __init__(self):
        self.steps = []
        self.name = DEFAULT_MODEL
        self.may_prepare = asyncio.Event()
        self.may_prepare.set()
        self.refusal = ""
        self.dies_once_prepared = False
        self.dies_at_commit = False
        self.change = asyncio.Event()
        self.tell(OLD, BundleSource.SETTINGS)

    def tell(self, digest, source):
        self.digest = digest
        model = ServedModel(self.name, digest, digest[:4], source)
        self.models = StageModels((model,), frozenset((digest,)))
        self.change.set()

    async def Watch(self, request, context):  # noqa: N802
        while True:
            self.change.clear()
            await context.write(stage_models_to_wire(self.models))
            await self.change.wait()

    async def Deploy(self, request_iterator, context):  # noqa: N802
        self.steps.append("begun")
        try:
            prepare = (await request_iterator.__anext__()).prepare
            await self.may_prepare.wait()
            if self.refusal:
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, self.refusal)
            await context.write(models_pb2.DeployProgress(prepared=models_pb2.BundlePrepared()))
            self.steps.append("prepared")
            if self.dies_once_prepared:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "it is gone")
            await request_iterator.__anext__()
            if self.dies_at_commit:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "it is gone")
            self.tell(prepare.bundle_digest, BundleSource.DEPLOYED)
            self.steps.append("committed")
            await context.write(models_pb2.DeployProgress(committed=models_pb2.BundleCommitted()))
            assert (await request_iterator.__anext__()).HasField("finish")
            self.steps.append("finished")
        except (asyncio.CancelledError, StopAsyncIteration):
            self.steps.append("let go")
            raise


class Channel(ServerChannel):
    """A channel that counts calls."""

    called = 0

    @property
    def current(self):
        self.called += 1
        return super().current


class Nodes:
    """Two stages, and the orchestrator's part that deploys to them."""

    def __init__(self, stages, channels):
        self.backbone, self.transformer = stages
        self.channels = channels
        self.servers = tuple(channels)
        self.table = RouteTable(StageHealth(each, True) for each in channels)
        self.models = ServedModels()
        self.draining = asyncio.Event()
        self.deployments = Deployments(self.table, self.models, channels, self.draining)
        self.watch = ModelsWatch(
            channels, 0.05, on_told=self._told, on_left=self.deployments.server_left
        )

    @property
    def digests(self):
        return (self.backbone.digest, self.transformer.digest)

    def deploy(self, digest=NEW):
        name = {OLD: "old", NEW: "new", NEWER: "newer"}[digest]
        return asyncio.ensure_future(self.deployments.deploy(DEFAULT_MODEL, name, digest))

    async def find(self, toy, address):
        """One more transformer is found, and has told what it serves."""
        server = stage_address("edge", Stage.TRANSFORMER, address)
        self.table.add(server)
        self.table.update(StageHealth(server, True))
        self.channels[server] = Channel(address)
        await until(lambda: server in self.models.known)

    def _told(self, server, models):
        self.models.told(server, models, 0.0)
        self.deployments.stage_told(server, models)


async def start(toy, stack):
    """Have a stage served; returns its address."""
    server = grpc.aio.server()
    models_pb2_grpc.add_ModelsServicer_to_server(toy, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    # At once, although calls are under way.
    stack.push_async_callback(server.stop, None)
    return address


@asynccontextmanager
async def watching(stages, addresses):
    """One orchestrator's part."""
    servers = (stage_address("edge", *each) for each in zip(Stage, addresses))
    channels = {server: Channel(server.address) for server in servers}
    system = Nodes(stages, channels)
    system.watching = asyncio.ensure_future(system.watch.run())
    await system.watch.first_look()
    try:
        yield system
    finally:
        system.watching.cancel()
        await system.deployments.close()
        await system.watch.close()
        for channel in channels.values():
            await channel.close()


@asynccontextmanager
async def nodes():
    async with AsyncExitStack() as stack:
        stages = [ToyStage(), ToyStage()]
        addresses = [await start(toy, stack) for toy in stages]
        yield await stack.enter_async_context(watching(stages, addresses))


async def test_no_stage_is_told_to_serve_what_another_has_not_loaded_yet():
    async with nodes() as system:
        system.transformer.may_prepare.clear()
        deploying = system.deploy()
        await until(lambda: "prepared" in system.backbone.steps)
        with pytest.raises(PreconditionError, match="new is being deployed at the moment"):
            await system.deploy()
        assert system.digests == (OLD, OLD)
        system.transformer.may_prepare.set()
        await deploying
        await until(lambda: system.backbone.steps[-1] == system.transformer.steps[-1] == "finished")
        assert system.digests == (NEW, NEW)
        assert list(system.deployments.warnings()) == []


async def test_if_one_stage_cannot_load_it_nothing_changes_and_the_reason_is_told():
    async with nodes() as system:
        system.transformer.refusal = "no bundle at /bundles/new"
        with pytest.raises(PreconditionError, match="transformer on edge: no bundle at"):
            await system.deploy()
        await until(lambda: system.backbone.steps[-1] == "let go")
        assert system.digests == (OLD, OLD)
        # And the next deployment may begin.
        system.transformer.refusal = ""
        await system.deploy()
        assert system.digests == (NEW, NEW)


async def test_a_deployment_that_is_given_up_leaves_nothing_behind():
    async with nodes() as system:
        system.transformer.may_prepare.clear()
        deploying = system.deploy()
        await until(lambda: "prepared" in system.backbone.steps)
        deploying.cancel()
        await until(lambda: system.backbone.steps[-1] == system.transformer.steps[-1] == "let go")
        assert system.digests == (OLD, OLD)


async def test_an_orchestrator_that_drains_waits_for_no_stage_to_load():
    async with nodes() as system:
        system.transformer.may_prepare.clear()
        deploying = system.deploy()
        await until(lambda: "prepared" in system.backbone.steps)
        system.draining.set()
        with pytest.raises(UnavailableError, match="drains, and nothing has changed"):
            await deploying
        await until(lambda: system.backbone.steps[-1] == system.transformer.steps[-1] == "let go")
        assert system.digests == (OLD, OLD)


async def test_a_stage_that_is_lost_while_it_loads_ends_the_deployment():
    async with nodes() as system:
        system.transformer.may_prepare.clear()
        deploying = system.deploy()
        await until(lambda: "prepared" in system.backbone.steps)
        lost = system.servers[1]
        system.table.update(StageHealth(lost, False, "has not answered for 3 s", "silent"))
        with pytest.raises(UnavailableError, match="transformer on edge was lost while it loaded"):
            await deploying
        await until(lambda: system.backbone.steps[-1] == "let go")
        with pytest.raises(UnavailableError, match="all stages have to change over together"):
            await system.deploy()
        assert system.digests == (OLD, OLD)


async def test_a_stage_that_is_lost_after_it_has_loaded_ends_the_deployment_as_well():
    async with nodes() as system:
        system.transformer.may_prepare.clear()
        system.backbone.dies_once_prepared = True
        with pytest.raises(UnavailableError, match="backbone on edge was lost after it had loaded"):
            await system.deploy()
        assert system.digests == (OLD, OLD)
        assert "prepared" not in system.transformer.steps


async def test_a_stage_that_dies_between_the_steps_follows_when_it_is_back(monkeypatch):
    monkeypatch.setattr("services.orchestrator.deployment._RETRY_SECONDS", 0.05)
    async with nodes() as system:
        system.transformer.dies_at_commit = True
        await system.deploy()
        assert system.digests == (NEW, OLD)
        # The others keep what they served before, until they know that all have changed over.
        await until(lambda: system.backbone.steps[-1] == "let go")
        (warning,) = system.deployments.warnings()
        assert warning.startswith("transformer on edge does not serve new, which was deployed:")
        system.transformer.dies_at_commit = False
        await until(lambda: system.digests == (NEW, NEW))
        await until(lambda: not system.deployments.warnings())


async def test_a_stage_that_comes_back_with_what_was_before_follows():
    async with nodes() as system:
        await system.deploy()
        system.backbone.tell(OLD, BundleSource.SETTINGS)
        await until(lambda: system.backbone.steps.count("finished") == 2)
        assert system.digests == (NEW, NEW)


@pytest.mark.parametrize(
    ("digest", "source"),
    [(OLD, BundleSource.RELOADED), ("c" * 64, BundleSource.SETTINGS)],
)
async def test_what_a_person_tells_a_stage_afterwards_is_the_newer_word(digest, source):
    async with nodes() as system:
        await system.deploy()
        await until(lambda: system.backbone.steps[-1] == system.transformer.steps[-1] == "finished")
        system.backbone.tell(digest, source)
        await until(lambda: system.models.known[system.servers[0]].digest_of("") == digest)
        system.transformer.tell(OLD, BundleSource.SETTINGS)
        await until(lambda: system.models.known[system.servers[1]].digest_of("") == OLD)
        assert system.digests == (digest, OLD)
        assert system.backbone.steps.count("begun") == system.transformer.steps.count("begun") == 1


async def test_a_stage_that_comes_back_with_what_was_before_that_follows_as_well():
    async with nodes() as system:
        await system.deploy()
        await system.deploy(NEWER)
        # Its settings name what was served first, and it could keep neither of the others.
        system.transformer.tell(OLD, BundleSource.SETTINGS)
        await until(lambda: system.transformer.steps.count("finished") == 3)
        assert system.digests == (NEWER, NEWER)


async def test_of_two_orchestrators_the_one_that_deployed_last_is_followed():
    async with AsyncExitStack() as stack:
        stages = [ToyStage(), ToyStage()]
        addresses = [await start(toy, stack) for toy in stages]
        one, other = [
            await stack.enter_async_context(watching(stages, addresses)) for _ in range(2)
        ]
        await one.deploy()
        # Back to what the first has replaced.
        await other.deploy(OLD)
        for server in one.servers:
            await until(lambda server=server: one.models.known[server].digest_of("") == OLD)
        stages[0].tell(NEW, BundleSource.SETTINGS)
        await until(lambda: stages[0].steps.count("finished") == 3)
        assert one.digests == (OLD, OLD)
        assert [toy.steps.count("begun") for toy in stages] == [3, 2]
        assert [*one.deployments.warnings(), *other.deployments.warnings()] == []


@pytest.mark.parametrize("fails", [False, True])
async def test_a_replica_that_is_found_amid_a_deployment_follows_after_it(fails):
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(nodes())
        await system.deploy()
        system.transformer.may_prepare.clear()
        system.transformer.refusal = "no bundle at /bundles/newer" if fails else ""
        deploying = system.deploy(NEWER)
        await until(lambda: system.backbone.steps[-1] == "prepared")
        replica = ToyStage()
        await system.find(replica, await start(replica, stack))
        system.transformer.may_prepare.set()
        await asyncio.wait([deploying])
        assert (deploying.exception() is not None) is fails
        await until(lambda: replica.digest == (NEW if fails else NEWER))
        assert {replica.digest} == set(system.digests)


async def test_a_stage_that_died_left_and_was_found_again_is_watched_anew():
    async with AsyncExitStack() as stack:
        stages, dying = [ToyStage(), ToyStage()], AsyncExitStack()
        addresses = [await start(stages[0], stack), await start(stages[1], dying)]
        system = await stack.enter_async_context(watching(stages, addresses))
        server = system.servers[1]
        left = system.channels[server]
        await dying.aclose()
        await left.close_after_calls()
        # Its name leads there no more, and it is called again before the watch knows.
        called = left.called
        await until(lambda: system.watching.done() or left.called > called + 1)
        system.channels[server] = Channel(await start(stages[1], stack))
        stages[1].tell(NEW, BundleSource.SETTINGS)
        await until(
            lambda: system.watching.done() or system.models.known[server].digest_of("") == NEW
        )
        assert not system.watching.done()


async def test_nothing_is_deployed_where_a_stage_is_away():
    async with nodes() as system:
        system.table.update(StageHealth(system.servers[0], False, "nobody answers there", DIED))
        with pytest.raises(UnavailableError, match="backbone on edge is unavailable"):
            await system.deploy()
        assert system.transformer.steps == []


async def test_a_model_changes_over_where_it_is_served_and_no_other_server_is_asked():
    async with nodes() as system:
        with pytest.raises(PreconditionError, match="no model 'fast'; its models are: the default"):
            await system.deployments.deploy("fast", "new", NEW)
        for stage in (system.backbone, system.transformer):
            stage.name = "fast"
            stage.tell(OLD, BundleSource.SETTINGS)
        await until(lambda: "fast" in system.models.names)
        # Nobody can call it, and nobody needs to.
        other = stage_address("workstation", Stage.BACKBONE)
        system.table.add(other)
        plain = ServedModel(DEFAULT_MODEL, OLD, "old", BundleSource.SETTINGS)
        system.models.known[other] = StageModels((plain,), frozenset((OLD,)))
        await system.deployments.deploy("fast", "new", NEW)
        assert system.digests == (NEW, NEW)
        # One that has not told may have it.
        del system.models.known[other]
        with pytest.raises(UnavailableError, match="backbone on workstation is unavailable"):
            await system.deployments.deploy("fast", "old", OLD)
        assert system.digests == (NEW, NEW)
