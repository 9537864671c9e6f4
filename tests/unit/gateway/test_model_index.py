"""The index of models while the orchestrator is away, and what its HTTP requests may say."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from common.domain.errors import InvalidInputError
from services.gateway.detection_pool import DetectionPool
from services.gateway.open_inference.grpc_messages import index_to_wire
from services.gateway.open_inference.http_messages import index_to_http, wants_ready_only
from services.gateway.open_inference.model import IndexedModel, Models
from services.gateway.picture_metrics import PictureMetrics
from services.gateway.readiness import Readiness
from tandem.client import DetectorClient

UNAVAILABLE = {
    "name": "tandem",
    "version": "1",
    "state": "UNAVAILABLE",
    "reason": "nothing can serve it now",
}


async def test_without_an_orchestrator_the_default_model_is_unavailable():
    async with DetectorClient("127.0.0.1:1") as client:
        pool = DetectionPool(client, 1, PictureMetrics(CollectorRegistry()))
        models = Models(pool, Readiness(client, asyncio.Event()), "tandem")
        assert index_to_http(await models.index(ready=False)) == [UNAVAILABLE]
        assert await models.index(ready=True) == []


def test_both_transports_tell_the_same():
    models = [IndexedModel("tandem", True), IndexedModel("fast", False)]
    over_grpc = [
        {"name": each.name, "version": each.version, "state": each.state, "reason": each.reason}
        for each in index_to_wire(models).models
    ]
    assert over_grpc == index_to_http(models)
    assert [each["state"] for each in over_grpc] == ["READY", "UNAVAILABLE"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", False),
        (b"{}", False),
        (b'{"ready": true}', True),
        (b'{"ready": false, "a": 1}', False),
    ],
)
def test_a_request_may_be_empty(body, expected):
    assert wants_ready_only(body) is expected


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"ready": "perhaps"}', b"\xff", b"[" * 100_000])
def test_what_makes_no_sense_is_refused(body):
    with pytest.raises(InvalidInputError, match="ready no boolean"):
        wants_ready_only(body)
