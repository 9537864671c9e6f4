"""Models of different families side by side on the same stages: streams choose by name."""

import asyncio

import grpc
import numpy as np
import pytest

from protos.tandem.v1 import operations_pb2, operations_pb2_grpc
from tests.bundles import version_of_toy
from tests.harness import TOY_TENSORS, Cluster
from tests.streams import LiveStream, boxes, detect, detect_until_error, frame, options, status
from tests.waiting import PATIENCE_SECONDS, until

SEEDS = range(1, 9)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    # Two tensors cross the cut of one of them, so that halves of both would not even fit.
    versions = {
        name: version_of_toy(folder, name, of=TOY_TENSORS) for name in ("levels", "levels-2")
    }
    return {"plain": version_of_toy(folder, "plain"), **versions}


@pytest.fixture(scope="module")
def cluster(bundles):
    folder = bundles["plain"].folder.parent
    models = ("--models", f"levels={folder / 'levels'}", "--bundles", str(folder))
    # Frames of different streams are executed together where they can be.
    batches = ("--max-batch", "4", "--batch-wait-milliseconds", "5")
    cluster = Cluster(folder / "plain", (*models, *batches), nodes=("edge",))
    yield cluster
    cluster.close()


def requests(model):
    return [options(model=model), *(frame(seed) for seed in SEEDS)]


def versions(answers):
    """Of each answer, the version of the bundle that its categories' names are of."""
    return {each.detections.detections[0].category_name.split()[0] for each in answers}


async def test_streams_of_two_models_share_stages_and_nothing_else(cluster, bundles):
    alone = {model: await detect(cluster.address, requests(model)) for model in ("", "levels")}
    assert [versions(answers) for answers in alone.values()] == [{"plain"}, {"levels"}]
    together = await asyncio.gather(
        *(detect(cluster.address, requests(model)) for model in ("", "levels") * 3)
    )
    for number, answers in enumerate(together):
        expected = alone[("", "levels")[number % 2]]
        assert [each.frame_id for each in answers] == list(SEEDS)
        for one, other in zip(answers, expected):
            # Bundles compute what they compute alone, whatever is executed in between.
            np.testing.assert_allclose(boxes(one), boxes(other), atol=1e-3)
    state = await status(cluster.address)
    for stage in state.stages:
        assert {each.name: each.bundle_digest for each in stage.models} == {
            "": bundles["plain"].digest,
            "levels": bundles["levels"].digest,
        }
        assert all(each.HasField("estimate") for each in stage.models)
    (choice,) = state.models
    assert (choice.name, choice.current.backbone) == ("levels", "edge")
    full = choice.placements[0]
    assert (full.available, full.frames) == (True, 4 * len(SEEDS))
    assert state.placements[0].frames == 8 * len(SEEDS)
    served = {"model": "levels", "outcome": "detections"}
    assert cluster.orchestrator.metric("tandem_model_frames_total", **served) == full.frames


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        ("fast", grpc.StatusCode.FAILED_PRECONDITION, "'fast'.*models are: the default, 'levels'"),
        ("../levels", grpc.StatusCode.INVALID_ARGUMENT, "is no model's name"),
    ],
)
async def test_a_name_that_there_is_not_is_refused_with_those_that_there_are(
    cluster, model, code, words
):
    answers, error = await detect_until_error(cluster.address, requests(model))
    assert (answers, error.code) == ([], code)
    with pytest.raises(AssertionError, match=words):
        await detect(cluster.address, requests(model))
    with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
        await deploy(cluster.address, model, "levels-2", "a" * 64)
    assert caught.value.code() is code


async def deploy(address, model, name, digest):
    request = operations_pb2.DeployBundleRequest(model=model, bundle=name, bundle_digest=digest)
    async with grpc.aio.insecure_channel(address) as channel:
        return await operations_pb2_grpc.OperationsStub(channel).DeployBundle(request, timeout=60)


async def test_one_model_changes_over_and_the_other_streams_on(cluster, bundles):
    ended, answers = asyncio.Event(), {"": [], "levels": []}

    async def stream(model):
        async with LiveStream(cluster.address) as live:
            await live.send(options(model=model))
            while not ended.is_set():
                await live.send(frame(len(answers[model]) + 1))
                answers[model] += await live.receive(1)

    streams = asyncio.gather(*(stream(model) for model in answers))
    try:
        await until(lambda: streams.done() or all(answers.values()))
        state = await deploy(cluster.address, "levels", "levels-2", bundles["levels-2"].digest)
        assert list(state.warnings) == []
        await until(lambda: streams.done() or "levels-2" in versions(answers["levels"][-1:]))
        assert not streams.done()
    finally:
        ended.set()
        await asyncio.wait_for(streams, PATIENCE_SECONDS)
    for came in answers.values():
        assert [each.frame_id for each in came] == list(range(1, len(came) + 1))
    assert versions(answers[""]) == {"plain"}
    assert versions(answers["levels"]) == {"levels", "levels-2"}
    assert {
        (model.name, model.bundle_name) for stage in state.stages for model in stage.models
    } == {("", "plain"), ("levels", "levels-2")}
