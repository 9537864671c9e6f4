"""The limits on streams fit each other: who may open a session can also be served."""

import pytest

from common.server.account import StreamBytes
from common.server.budget import ByteBudget, FrameCost
from common.server.options import server_options
from common.wire.stage_client import OPEN_TIMEOUT_SECONDS
from services.backbone.settings import BackboneSettings
from services.orchestrator.settings import OrchestratorSettings
from services.transformer.service import TransformerSettings

# A house with 256 cameras, and programs beside them, behind one address.
CROWD = 256 + 16


def orchestrator(**more):
    return OrchestratorSettings(nodes={}, **more)


STAGES = (
    BackboneSettings(bundle="b", node="n", transformers={"n": "h:1"}),
    TransformerSettings(bundle="b", node="n"),
)


def test_a_crowd_behind_one_address_has_room():
    assert orchestrator().sessions_of_a_host >= CROWD
    assert orchestrator().max_sessions >= 4 * CROWD


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: type(stage).__name__)
def test_a_stage_takes_two_streams_of_each_session(stage):
    assert stage.max_sessions >= 2 * orchestrator().max_sessions


@pytest.mark.parametrize("settings", [orchestrator(), *STAGES])
def test_a_call_that_a_starved_process_takes_late_is_not_ended_by_grpc(settings):
    # Its default is 30 s, and the status that a caller gets then is CANCELLED.
    seconds = dict(server_options(settings))["grpc.server_max_unrequested_time_in_server"]
    assert seconds > 10 * OPEN_TIMEOUT_SECONDS


def test_every_session_has_room_for_its_next_ordinary_frame():
    settings = orchestrator()
    budget = ByteBudget(
        settings.max_buffered_bytes, settings.max_message_bytes, FrameCost(3), share_peers=True
    )
    for number in range(settings.max_sessions):
        host = number // settings.sessions_of_a_host
        stream = StreamBytes(budget, host, lambda: None, told_bytes=50_000)
        # A coroutine that has to wait for room would not end at once.
        with pytest.raises(StopIteration):
            stream.reserve().send(None)
    assert not budget.wide.taken_bytes


@pytest.mark.parametrize(
    ("told", "of_a_host"),
    [
        ({}, 300),
        ({"max_sessions": 2}, 2),
        ({"max_sessions": 8}, 4),
        ({"max_sessions": 400}, 100),
        ({"max_sessions": 400, "max_sessions_per_host": 400}, 400),
        ({"max_sessions": 400, "max_sessions_per_host": 1000}, 400),
    ],
)
def test_one_host_gets_a_quarter_unless_told_otherwise(told, of_a_host):
    assert orchestrator(**told).sessions_of_a_host == of_a_host
