"""A trace shows each attempt to have a frame served, and why there was another."""

import asyncio
import re
from dataclasses import replace

import pytest

pytest.importorskip("opentelemetry.sdk", reason="OpenTelemetry is not on this machine")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from common.domain.video import FrameCodec
from common.telemetry.open_telemetry import ServedTraces
from protos.tandem.v1 import detector_pb2
from services.orchestrator.session.frame_encoding import FrameEncoding
from tests.streams import jpeg
from tests.unit.orchestrator.test_dispatcher import WEIGHT, running, two_toys
from tests.unit.orchestrator.test_video_routes import watching
from tests.unit.orchestrator.toys import dies, fails, serves


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def traces(exporter):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    served = ServedTraces(provider)
    yield served
    served.close()


async def test_a_retry_is_a_span_beside_the_first(traces, exporter):
    toys = two_toys()
    for toy in toys.values():
        toy.answer = fails
    picture = detector_pb2.Frame(frame_id=1, encoded=b"a picture")
    sent = []

    async def fails_once(frame_id, context):
        sent.append(picture.traceparent)
        for toy in toys.values():
            toy.answer = records_and_serves
        return await fails(frame_id, context)

    async def records_and_serves(frame_id, context):
        sent.append(picture.traceparent)
        return await serves(frame_id, context)

    for toy in toys.values():
        toy.answer = fails_once
    async with running(toys) as orchestra:
        dispatcher = orchestra.dispatcher()
        with traces.stream().frame("frame") as span:
            await asyncio.wait_for(dispatcher.serve(picture, WEIGHT, span=span), 30)
        await dispatcher.close()
    first, second, root = exporter.get_finished_spans()
    assert [each.name for each in (first, second, root)] == ["transfer", "transfer", "frame"]
    assert {each.parent.span_id for each in (first, second)} == {root.context.span_id}
    assert first.attributes["error.type"] == "INTERNAL"
    assert not first.status.is_ok
    assert second.status.is_unset
    assert [each.attributes["tandem.is_retry"] for each in (first, second)] == [False, True]
    assert first.attributes["tandem.node"] != second.attributes["tandem.node"]
    # Each stage's span is part of the attempt that brought the frame there.
    ids = [re.fullmatch("00-([0-9a-f]{32})-([0-9a-f]{16})-0[13]", each).groups() for each in sent]
    assert [int(span_id, 16) for _, span_id in ids] == [
        first.context.span_id,
        second.context.span_id,
    ]
    assert {int(trace_id, 16) for trace_id, _ in ids} == {root.context.trace_id}


async def test_a_frame_that_is_not_traced_carries_nothing(traces, exporter):
    toys = two_toys()
    picture = detector_pb2.Frame(frame_id=1, encoded=b"a picture", traceparent="not sampled")
    async with running(toys) as orchestra:
        dispatcher = orchestra.dispatcher()
        await asyncio.wait_for(dispatcher.serve(picture, WEIGHT), 30)
        await dispatcher.close()
    assert picture.traceparent == ""
    assert not exporter.get_finished_spans()


async def test_what_is_only_decoded_is_part_of_no_trace(traces, exporter):
    async with watching("edge", "workstation") as (toys, orchestra, dispatcher, video):
        orchestra.router.set_operator_pair(None)
        first = orchestra.router.active_pair().backbone
        (other,) = set(toys) - {first}
        for number in range(3):
            if number == 2:
                toys[first].answer = dies
            unit, place = video.frame(number, number == 0)
            with traces.stream().frame("frame") as span:
                await asyncio.wait_for(dispatcher.serve(unit, WEIGHT, place, span), 30)
    assert toys[other].streams[0] == [(0,), (1,), 2]
    assert toys[other].traced == [("frame", 2)]
    assert toys[first].traced == [("frame", number) for number in range(3)]
    attempts = [each for each in exporter.get_finished_spans() if each.name == "transfer"]
    before = [each.attributes.get("tandem.decode_only_frames") for each in attempts]
    assert before == [None, None, None, 2]


async def test_a_picture_that_is_encoded_for_the_link_stays_part_of_its_trace(traces):
    toys = two_toys()
    async with running(toys) as orchestra:
        encoding = FrameEncoding(FrameCodec.JPEG, 30, lambda seconds: None)
        orchestra.resources = replace(orchestra.resources, frame_encoding=encoding)
        dispatcher = orchestra.dispatcher()
        picture = detector_pb2.Frame(frame_id=1, encoded=jpeg(0))
        with traces.stream().frame("frame") as span:
            await asyncio.wait_for(dispatcher.serve(picture, WEIGHT, span=span), 30)
        await dispatcher.close()
    assert [traced for toy in toys.values() for traced in toy.traced] == [("frame", 1)]
