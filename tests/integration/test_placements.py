"""Frames through every placement of a real cluster."""

import asyncio

import grpc
import numpy as np
import pytest

from protos.tandem.v1 import detector_pb2, operations_pb2, operations_pb2_grpc, tensor_pb2
from tests.streams import LiveStream, boxes, detect, frame, options, status, watch_until

PLACEMENTS = {
    detector_pb2.PLACEMENT_FULL: ("edge", "edge"),
    detector_pb2.PLACEMENT_BACKBONE: ("edge", "workstation"),
    detector_pb2.PLACEMENT_TRANSFORMER: ("workstation", "edge"),
    detector_pb2.PLACEMENT_WORKSTATION: ("workstation", "workstation"),
}
FRAMES = [frame(number) for number in range(30)]


async def set_placement(address, placement):
    async with grpc.aio.insecure_channel(address) as channel:
        stub = operations_pb2_grpc.OperationsStub(channel)
        return await stub.SetPlacement(operations_pb2.SetPlacementRequest(placement=placement))


async def test_all_placements_give_the_same_boxes(cluster):
    answers = {
        placement: await detect(
            cluster.address,
            [options(placement=placement, codec=tensor_pb2.CODEC_FP32), *FRAMES],
        )
        for placement in PLACEMENTS
    }
    reference = answers[detector_pb2.PLACEMENT_FULL]
    for placement, responses in answers.items():
        assert [each.frame_id for each in responses] == list(range(30))
        for response, expected in zip(responses, reference):
            assert boxes(response).shape == (5, 6)
            np.testing.assert_allclose(boxes(response), boxes(expected), atol=1e-3)
            assert response.placement == placement
    assert len({boxes(response).tobytes() for response in reference}) == 30


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_a_placement_runs_on_the_nodes_it_names(cluster, placement):
    (response,) = await detect(cluster.address, [options(placement=placement), frame(0)])
    nodes = response.timing.backbone.node, response.timing.transformer.node
    assert nodes == PLACEMENTS[placement]


async def test_timing_accounts_for_the_whole_time(cluster):
    responses = await detect(cluster.address, [options(), *FRAMES[:5]])
    for response in responses:
        total = response.timing.total_seconds
        backbone, transformer = response.timing.backbone, response.timing.transformer
        assert backbone.execute_seconds > 0
        assert transformer.execute_seconds > 0
        assert backbone.held_seconds + backbone.transfer_seconds <= total
        assert transformer.held_seconds + transformer.transfer_seconds <= backbone.held_seconds
        # 8 channels of 3 x 4 cells, 2 bytes each: the toy bundle's default codec is fp16.
        assert transformer.request_bytes == 8 * 3 * 4 * 2
        assert backbone.request_bytes == len(FRAMES[response.frame_id].frame.encoded)


async def test_several_clients_at_once_each_get_their_own_answers(cluster):
    streams = [
        [options(placement=placement, codec=tensor_pb2.CODEC_FP32), *FRAMES]
        for placement in PLACEMENTS
    ] * 2
    answers = await asyncio.gather(*(detect(cluster.address, each) for each in streams))
    for responses in answers:
        assert [each.frame_id for each in responses] == list(range(30))
        for response, expected in zip(responses, answers[0]):
            np.testing.assert_allclose(boxes(response), boxes(expected), atol=1e-3)


async def test_a_stream_without_options_is_served_where_the_server_chooses(cluster):
    responses = await detect(cluster.address, FRAMES[:3])
    for response in responses:
        assert response.WhichOneof("result") == "detections"
        nodes = response.timing.backbone.node, response.timing.transformer.node
        assert nodes == PLACEMENTS[response.placement]


async def test_set_placement_moves_an_open_stream_and_keeps_the_order(cluster):
    try:
        async with LiveStream(cluster.address) as stream:
            await stream.send(*FRAMES[:10])
            await stream.receive(10)
            state = await watch_until(cluster.address, lambda state: len(state.sessions) == 1)
            left = state.sessions[0].placement
            new = next(placement for placement in PLACEMENTS if placement != left)
            state = await set_placement(cluster.address, new)
            after = []
            # Frames take the old way until the new one has served the copy of a frame.
            while [each.placement for each in after[-5:]] != [new] * 5:
                await stream.send(frame(10 + len(after)))
                after += await stream.receive(1)
            assert await stream.rest() == []
    finally:
        await set_placement(cluster.address, detector_pb2.PLACEMENT_UNSPECIFIED)
    assert state.placement == new
    assert [each.frame_id for each in after] == list(range(10, 10 + len(after)))
    placements = [each.placement for each in after]
    moved = placements.index(new)
    assert set(placements[:moved]) <= {left}
    assert set(placements[moved:]) == {new}


async def test_two_nodes_can_be_named_instead_of_a_placement(cluster):
    named = detector_pb2.DetectRequest(
        options=detector_pb2.StreamOptions(backbone_node="workstation", transformer_node="edge")
    )
    (response,) = await detect(cluster.address, [named, frame(0)])
    assert response.placement == detector_pb2.PLACEMENT_TRANSFORMER


async def test_an_unknown_node_is_named(cluster):
    named = detector_pb2.DetectRequest(
        options=detector_pb2.StreamOptions(backbone_node="edge", transformer_node="moon")
    )
    (response,) = await detect(cluster.address, [named, frame(0)])
    assert response.error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert "transformer on moon" in response.error.message


async def test_switching_under_load_loses_nothing(cluster):
    async def switch_about():
        for _ in range(5):
            for placement in PLACEMENTS:
                await set_placement(cluster.address, placement)

    stream = [options(), *(frame(number) for number in range(200))]
    try:
        responses, _ = await asyncio.gather(detect(cluster.address, stream), switch_about())
    finally:
        await set_placement(cluster.address, detector_pb2.PLACEMENT_UNSPECIFIED)
    assert [each.frame_id for each in responses] == list(range(200))
    assert {each.WhichOneof("result") for each in responses} == {"detections"}


async def test_options_limit_what_is_reported(cluster):
    (everything,) = await detect(cluster.address, [options(), frame(3)])
    scores = boxes(everything)[:, 1]
    assert list(scores) == sorted(scores, reverse=True)
    threshold = float(scores[1:3].mean())
    (above,) = await detect(cluster.address, [options(score_threshold=threshold), frame(3)])
    assert len(above.detections.detections) == 2
    (best,) = await detect(cluster.address, [options(max_detections=1), frame(3)])
    np.testing.assert_array_equal(boxes(best), boxes(everything)[:1])


async def test_status_reports_stages_placements_and_sessions(cluster):
    async with LiveStream(cluster.address) as stream:
        await stream.send(options(placement=detector_pb2.PLACEMENT_BACKBONE), *FRAMES[:4])
        await stream.receive(4)
        state = await status(cluster.address)
    assert {(each.node, each.stage) for each in state.stages} == {
        (node, stage) for node in ("edge", "workstation") for stage in ("backbone", "transformer")
    }
    assert all(each.healthy for each in state.stages)
    assert [each.placement for each in state.placements] == list(PLACEMENTS)
    assert all(each.available for each in state.placements)
    (session,) = state.sessions
    assert (session.frames_answered, session.frames_in_flight) == (4, 0)
    assert session.placement == detector_pb2.PLACEMENT_BACKBONE


async def test_a_client_that_vanishes_leaves_no_session(cluster):
    async with LiveStream(cluster.address) as stream:
        await stream.send(*FRAMES)
        await stream.receive(2)
        assert len((await status(cluster.address)).sessions) == 1
    await watch_until(cluster.address, lambda state: not state.sessions)
