"""Stages change over to another bundle under load: no frame lost, matching halves, no pause."""

import asyncio
import os
import re
import signal
import time

import grpc
import pytest

from protos.tandem.v1 import operations_pb2, operations_pb2_grpc, tensor_pb2
from tests.bundles import version_of_toy
from tests.harness import Cluster
from tests.streams import LiveStream, frame, jpeg, options, status

pytestmark = pytest.mark.alone

# Of each stage, so that a frame takes twice as long.
PACE_MILLISECONDS = 120
SERVICE_SECONDS = 2 * PACE_MILLISECONDS / 1000


class Watched:
    """A stream of frames sent as fast as they are taken, and what came back."""

    def __init__(self, address):
        self.stream = LiveStream(address)
        self.answers = []
        self.at = []
        self._ends = False
        self._tasks = []

    async def __aenter__(self):
        await self.stream.send(options())
        self._tasks = [asyncio.ensure_future(each()) for each in (self._feed, self._read)]
        return self

    async def __aexit__(self, *_):
        self._ends = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), 60)
        await self.stream.__aexit__()

    @property
    def bundles(self):
        """Of each frame, the version of the bundle that its categories' names are of."""
        return [each.detections.detections[0].category_name.split()[0] for each in self.answers]

    @property
    def gaps(self):
        return [later - one for one, later in zip(self.at, self.at[1:])]

    async def until(self, bundle, frames=1):
        """Wait until so many frames were answered with a bundle."""
        deadline = time.monotonic() + 60
        while self.bundles.count(bundle) < frames:
            assert time.monotonic() < deadline
            await asyncio.wait(self._tasks, timeout=0.02)

    async def _feed(self):
        data, number = jpeg(1), 0
        while not self._ends:
            if number - len(self.answers) >= 6:
                await asyncio.sleep(0.005)
                continue
            number += 1
            await self.stream.send(frame(number, data))
        await self.stream.call.done_writing()
        self.sent = number

    async def _read(self):
        while True:
            answer = await self.stream.call.read()
            if answer is grpc.aio.EOF:
                return
            self.answers.append(answer)
            self.at.append(time.monotonic())

    def assert_all_came_in_order(self):
        assert [each.frame_id for each in self.answers] == list(range(1, self.sent + 1))
        assert {each.WhichOneof("result") for each in self.answers} == {"detections"}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    versions = {name: version_of_toy(folder, name) for name in ("first", "third", "damaged")}
    versions["second"] = version_of_toy(folder, "second", codec="int8")
    half = folder / "damaged" / "transformer.onnx"
    half.write_bytes(half.read_bytes()[:-1])
    (folder / "current").symlink_to("first")
    return versions


@pytest.fixture(scope="module")
def cluster(bundles):
    folder = bundles["first"].folder.parent
    # Whether batches pay is measured as a bundle is loaded, which takes many times a frame's time.
    paced = ("--paced-milliseconds", str(PACE_MILLISECONDS), "--max-batch", "2")
    arguments = ("--bundles", str(folder), *paced)
    cluster = Cluster(folder / "current", arguments, nodes=("edge",))
    yield cluster
    cluster.close()


async def deploy(address, name, bundle, **more):
    request = operations_pb2.DeployBundleRequest(
        **{"bundle": name, "bundle_digest": bundle.digest, **more}
    )
    async with grpc.aio.insecure_channel(address) as channel:
        return await operations_pb2_grpc.OperationsStub(channel).DeployBundle(request, timeout=60)


async def until_one_is_loaded(cluster):
    """Wait until both stages have released what they do not serve."""
    deadline = time.monotonic() + 60
    loop = asyncio.get_running_loop()
    for stage in cluster.stages.values():
        while await loop.run_in_executor(None, stage.metric, "tandem_loaded_bundles") != 1:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


def served(state):
    return {model.bundle_name for stage in state.stages for model in stage.models}


async def test_a_deployment_under_load_loses_nothing_and_makes_no_pause(cluster, bundles):
    async with Watched(cluster.address) as stream:
        await stream.until("first", 10)
        # What the machine itself holds frames up by, where it is busy with other things.
        stalls = max(stream.gaps[2:]) - PACE_MILLISECONDS / 1000
        state = await deploy(cluster.address, "second", bundles["second"])
        assert list(state.warnings) == []
        await stream.until("second", 5)
        await until_one_is_loaded(cluster)
    stream.assert_all_came_in_order()
    change = stream.bundles.index("second")
    assert set(stream.bundles[change:]) == {"second"}
    assert max(stream.gaps[9:]) <= 2 * SERVICE_SECONDS + stalls
    # The new bundle's default codec holds as well.
    codecs = [each.timing.backbone.codec for each in stream.answers]
    assert set(codecs[:change]) == {tensor_pb2.CODEC_FP16}
    assert set(codecs[change:]) == {tensor_pb2.CODEC_INT8}
    assert served(await status(cluster.address)) == {"second"}


async def test_what_cannot_be_served_changes_nothing_and_the_stage_says_why(cluster, bundles):
    before = served(await status(cluster.address))
    for name, bundle, words in (
        ("damaged", bundles["damaged"], "transformer on edge: .*transformer.onnx has sha256"),
        ("absent", bundles["third"], "on edge: no bundle at .*absent"),
        ("third", bundles["first"], "on edge: .*another one, or not the same version"),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
            await deploy(cluster.address, name, bundle)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    with pytest.raises(grpc.aio.AioRpcError, match="has no model 'fast'"):
        await deploy(cluster.address, "third", bundles["third"], model="fast")
    with pytest.raises(grpc.aio.AioRpcError, match="no name of a folder"):
        await deploy(cluster.address, "../third", bundles["third"])
    assert served(await status(cluster.address)) == before
    await until_one_is_loaded(cluster)


async def test_halves_told_by_sighup_one_after_the_other_always_match(cluster, bundles):
    link = bundles["first"].folder.parent / "current"
    async with Watched(cluster.address) as stream:
        before = next(iter(served(await status(cluster.address))))
        await stream.until(before, 3)
        other = link.with_name("next")
        other.symlink_to("third")
        os.replace(str(other), str(link))
        cluster.stages["edge.backbone"].process.send_signal(signal.SIGHUP)
        await until_warned(cluster.address, "is served with different bundles")
        seen = len(stream.answers)
        await stream.until(before, stream.bundles.count(before) + 3)
        assert set(stream.bundles[seen:]) == {before}
        cluster.stages["edge.transformer"].process.send_signal(signal.SIGHUP)
        await stream.until("third", 3)
        await until_one_is_loaded(cluster)
    stream.assert_all_came_in_order()


async def test_a_stage_that_is_started_again_serves_what_was_deployed(cluster, bundles):
    await deploy(cluster.address, "first", bundles["first"])
    cluster.stages["edge.transformer"].terminate()
    cluster.stages["edge.backbone"].terminate()
    again = [cluster.restart(name) for name in ("edge.transformer", "edge.backbone")]
    for stage in again:
        stage.announcement  # noqa: B018 - waits until it is healthy
        (loaded,) = [each for each in stage.log_events() if each["event"] == "engine loaded"]
        assert loaded["bundle"] == "first"
    # What the settings name counts again after SIGHUP, and when it has changed.
    again[0].process.send_signal(signal.SIGHUP)
    await until_warned(cluster.address, "third .* on transformer on edge")


async def until_warned(address, words):
    deadline = time.monotonic() + 60
    while not any(re.search(words, each) for each in (await status(address)).warnings):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
