"""What an operator and a client get to see of the status, and who sends what."""

import grpc
import pytest

from protos.tandem.v1 import operations_pb2, operations_pb2_grpc, stage_pb2, stage_pb2_grpc
from tests.integration.security.calls import channel_to
from tests.integration.security.test_changes import load


async def status_for(cluster, credentials):
    async with channel_to(cluster.address, credentials, "orchestrator/main") as channel:
        stub = operations_pb2_grpc.OperationsStub(channel)
        status = await stub.GetStatus(operations_pb2.GetStatusRequest())
        (watched,) = [each async for each in _first(stub)]
    # Both methods tell the same.
    assert [each.session_id for each in watched.sessions] == [
        each.session_id for each in status.sessions
    ]
    return status


async def _first(stub):
    call = stub.WatchStatus(operations_pb2.WatchStatusRequest())
    async for status in call:
        call.cancel()
        yield status
        return


async def test_a_client_sees_its_own_sessions_and_nothing_else(secured, realm):
    camera = realm.credentials(realm.issue("client/camera"))
    other = realm.credentials(realm.issue("client/other"))
    operator = realm.credentials(realm.issue("operator/ann"))
    async with load(secured.address, camera), load(secured.address, other):
        everything = await status_for(secured, operator)
        own, others = await status_for(secured, camera), await status_for(secured, other)
    assert len(everything.sessions) == 2
    assert len(everything.stages) == 4
    assert len(own.sessions) == len(others.sessions) == 1
    ids = {each.session_id for each in everything.sessions}
    assert {own.sessions[0].session_id, others.sessions[0].session_id} == ids
    for told in (own, others):
        told.ClearField("sessions")
        assert told == operations_pb2.SystemStatus(events=operations_pb2.EventCounts())


async def test_a_sender_is_who_its_certificate_says_and_not_who_it_claims_to_be(secured, realm):
    backbone = realm.issue("backbone/workstation", file_name="sender")
    opening = stage_pb2.TransformerOpen(
        context=stage_pb2.StreamContext(sender="somebody else"), bundle_digest="of another bundle"
    )
    address = secured.stages["edge.transformer"].address
    async with channel_to(address, realm.credentials(backbone), "transformer/edge") as channel:
        stub = stage_pb2_grpc.TransformerStub(channel)
        call = stub.Process(iter([stage_pb2.TransformerRequest(open=opening)]))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "backbone on workstation runs of another bundle" in caught.value.details()
