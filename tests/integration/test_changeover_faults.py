"""Changes of the bundle that go wrong, over TLS, with roles and signatures: nothing is lost by any.

The transformer's engine does what a test says, so that a change stands still where it is looked at.
"""

import asyncio
import signal
from contextlib import asynccontextmanager

import pytest

from common.bundle.signature import sign, write_keys
from common.domain.errors import PreconditionError, UnavailableError
from common.security.identity import Identity
from tandem.access import Credentials
from tandem.client import DetectorClient
from tests.authorities import Realm
from tests.bundles import version_of_toy
from tests.changing import Watched
from tests.faulty import tell
from tests.harness import Cluster
from tests.integration.security.calls import channel_to
from tests.integration.tandem.commands import tandem
from tests.waiting import until

ORCHESTRATOR = "orchestrator/main"
SERVER_NAME = Identity.parse(ORCHESTRATOR).server_name


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Signed ones, which stages want, and others; by their names."""
    folder = tmp_path_factory.mktemp("bundles")
    key, other = folder / "key.pem", folder / "other.pem"
    write_keys(key)
    write_keys(other)
    names = ("first", "second", "unsigned", "foreign", "one-half", "changed")
    versions = {name: version_of_toy(folder, name) for name in names}
    for name, bundle in versions.items():
        signer = {"unsigned": None, "foreign": other}.get(name, key)
        if signer is not None:
            sign(bundle.folder, (bundle.folder / "bundle.json").read_bytes(), signer)
    (folder / "one-half" / "transformer.onnx").unlink()
    manifest = folder / "changed" / "bundle.json"
    manifest.write_text(manifest.read_text() + "\n")
    (folder / "current").symlink_to("first")
    return versions


class System:
    """One node with its orchestrator, a client and an operator.

    Attributes:
        bundles: by their names.
        told: file that tells the transformer's engine what to do.
        cluster: the services.
    """

    def __init__(self, bundles, folder):
        self.bundles = bundles
        self.told = folder / "told"
        self._realm = Realm(folder)
        self._people = {role: self._realm.issue(f"{role}/ann") for role in ("client", "operator")}
        home = bundles["first"].folder.parent
        arguments = ("--bundles", str(home), "--require-signature", str(home / "key.pem.pub"))
        self.cluster = Cluster(
            home / "current",
            (*arguments, "--paced-milliseconds", "20"),
            ("--health-interval-seconds", "0.2", "--unavailable-after", "30"),
            nodes=("edge",),
            faulty={"edge.transformer": self.told},
            secured_by=self._realm.arguments,
        )

    @asynccontextmanager
    async def streaming(self):
        """A client's stream, whose frames all have to be served."""
        credentials = self._realm.credentials(self._people["client"])
        channel = channel_to(self.cluster.address, credentials, ORCHESTRATOR)
        async with Watched(self.cluster.address, channel) as stream:
            yield stream
        stream.assert_all_came_in_order()

    def operating(self):
        """The operator's connection."""
        own = self._people["operator"]
        credentials = Credentials(
            self._realm.peers.path, own.certificate, own.key, server_name=SERVER_NAME
        )
        return DetectorClient(self.cluster.address, credentials=credentials)

    @asynccontextmanager
    async def used(self):
        """Both."""
        async with self.streaming() as stream, self.operating() as client:
            yield stream, client

    def deploy(self, client, name):
        return asyncio.ensure_future(client.deploy(name, self.bundles[name].digest))

    async def command(self, role, name, **environment):
        """What `tandem model deploy` by somebody of this role said."""
        own = self._people[role]
        arguments = (
            *("model", "deploy", self.bundles[name].folder, "--server", self.cluster.address),
            *("--tls-ca", self._realm.peers.path, "--tls-server-name", SERVER_NAME),
            *("--tls-certificate", own.certificate, "--tls-key", own.key),
        )
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, lambda: tandem(*arguments, **environment))

    async def hangs(self, file):
        """Wait until the transformer's engine says by a file that it hangs."""
        await until(self.told.with_name(file).exists)
        self.told.with_name(file).unlink()

    def hang_up(self, stage):
        self.cluster.stages[f"edge.{stage}"].process.send_signal(signal.SIGHUP)


@pytest.fixture(scope="module")
def system(bundles, tmp_path_factory):
    running = System(bundles, tmp_path_factory.mktemp("system"))
    yield running
    running.cluster.close()


def served(state):
    return {model.bundle_name for stage in state.stages for model in stage.models}


def differing(state):
    return [each for each in state.warnings if "is served with different bundles" in each]


async def more(stream, bundle, frames=5):
    await stream.until(bundle, stream.bundles.count(bundle) + frames)


async def test_operators_deploy_by_the_command_and_clients_do_not(system):
    async with system.streaming() as stream:
        await more(stream, "first")
        refused = await system.command("client", "second")
        assert refused.returncode != 0
        assert "does not let you do this" in refused.stderr
        # A variable that no fork takes: this one is a process of its own.
        deployed = await system.command("operator", "second", PYTHONUNBUFFERED="1")
        assert deployed.returncode == 0, deployed.stderr
        assert (
            f"deployed: second, digest {system.bundles['second'].digest}"
            in deployed.stdout.replace("\n", "")
        )
        await more(stream, "second")
        back = await system.command("operator", "first")
        assert back.returncode == 0, back.stderr
        await more(stream, "first")
    changes = [one for one, other in zip(stream.bundles, stream.bundles[1:]) if one != other]
    assert changes == ["first", "second"]


async def test_what_is_not_signed_by_the_key_changes_nothing_and_says_so(system):
    async with system.used() as (stream, client):
        for name, words in (
            ("unsigned", "bundle.*unsigned is not signed: bundle.sig is missing"),
            ("foreign", "foreign: bundle.sig is no signature of its bundle.json by the key"),
            ("changed", "changed: bundle.sig is no signature of its bundle.json by the key"),
            ("one-half", "transformer.onnx"),
        ):
            with pytest.raises(PreconditionError, match=f"on edge: .*{words}"):
                await system.deploy(client, name)
        await more(stream, "first")
        state = await client.status()
        assert served(state) == {"first"}
        assert not differing(state)
    assert set(stream.bundles) == {"first"}


async def test_frames_go_on_while_a_bundle_is_loaded_and_warmed_up(system):
    async with system.used() as (stream, client):
        tell(system.told, "load:hang")
        deploying = system.deploy(client, "second")
        await system.hangs("loading")
        await more(stream, "first")
        with pytest.raises(PreconditionError, match="second is being deployed at the moment"):
            await client.deploy("first", system.bundles["first"].digest)
        tell(system.told, "last:hang")
        await system.hangs("hanging")
        await more(stream, "first")
        assert not deploying.done()
        tell(system.told, "")
        assert served(await deploying) == {"second"}
        await more(stream, "second")
        await system.deploy(client, "first")
        await more(stream, "first")


async def test_a_stage_that_is_told_by_sighup_amid_a_deployment_follows_that_after_it(system):
    async with system.operating() as client:
        tell(system.told, "load:hang")
        deploying = system.deploy(client, "second")
        await system.hangs("loading")
        system.hang_up("backbone")
        tell(system.told, "")
        await deploying
        async for state in client.watch_status(0.1):
            if differing(state):
                break
        # Its settings name the first one; the other half has only what was deployed.
        async with system.streaming() as stream:
            await more(stream, "second")
            system.hang_up("transformer")
            async for state in client.watch_status(0.1):
                if not differing(state):
                    break
            await more(stream, "first")


@pytest.mark.parametrize("name", ["edge.transformer", "edge.backbone"])
async def test_a_stage_that_dies_amid_a_deployment_ends_it_and_the_next_one_works(system, name):
    async with system.used() as (stream, client):
        await more(stream, "first")
        tell(system.told, "load:hang")
        deploying = system.deploy(client, "second")
        await system.hangs("loading")
        system.cluster.stages[name].kill()
        stage = name.partition(".")[2]
        with pytest.raises(UnavailableError, match=f"{stage} on edge"):
            await deploying
        tell(system.told, "")
        system.cluster.restart(name).announcement  # noqa: B018 - waits until it is healthy
        await more(stream, "first")
        async for state in client.watch_status(0.1):
            if all(each.healthy for each in state.stages):
                break
        assert served(state) == {"first"}
        await system.deploy(client, "second")
        await more(stream, "second")
        await system.deploy(client, "first")
        await more(stream, "first")
