"""A stream whose bundle is changed under it, and what operators ask for meanwhile."""

import asyncio
import re
import time

import grpc

from protos.tandem.v1 import operations_pb2, operations_pb2_grpc
from tests.streams import LiveStream, frame, jpeg, options, status
from tests.waiting import PATIENCE_SECONDS, until


class Watched:
    """A stream of frames sent as fast as they are taken, and what came back."""

    def __init__(self, address, channel=None):
        self.stream = LiveStream(address, channel)
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
        await asyncio.wait_for(asyncio.gather(*self._tasks), PATIENCE_SECONDS)
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
        await until(lambda: self._has_failed or self.bundles.count(bundle) >= frames)
        assert not self._has_failed

    @property
    def _has_failed(self):
        return any(each.done() for each in self._tasks)

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


async def deploy(address, name, bundle, **more):
    request = operations_pb2.DeployBundleRequest(
        **{"bundle": name, "bundle_digest": bundle.digest, **more}
    )
    async with grpc.aio.insecure_channel(address) as channel:
        return await operations_pb2_grpc.OperationsStub(channel).DeployBundle(
            request, timeout=PATIENCE_SECONDS
        )


async def until_one_is_loaded(cluster):
    """Wait until both stages have released what they do not serve."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    loop = asyncio.get_running_loop()
    for stage in cluster.stages.values():
        while await loop.run_in_executor(None, stage.metric, "tandem_loaded_bundles") != 1:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


def served(state):
    return {model.bundle_name for stage in state.stages for model in stage.models}


async def until_warned(address, words):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not any(re.search(words, each) for each in (await status(address)).warnings):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
