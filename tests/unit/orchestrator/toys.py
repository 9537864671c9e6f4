"""Toy backbones behind real gRPC servers, and the orchestrator's parts in front of them.

A route ends at its backbone here: what a transformer would do is part of the backbone's answer.
"""

import asyncio
import time
from contextlib import asynccontextmanager

import grpc
from google.rpc import status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from common.domain.detections import StreamOptions
from common.domain.placement import Stage, StageAddress
from common.server.account import StreamBytes
from common.server.budget import ByteBudget, FrameCost
from common.server.guard import StreamGuard, StreamLimits
from common.server.interception import BoundedCalls
from common.telemetry.metrics import Metrics
from common.wire.channels import ServerChannel
from protos.tandem.v1 import detector_pb2, detector_pb2_grpc, stage_pb2, stage_pb2_grpc
from services.orchestrator.counters import EventCounters, FrameCounters
from services.orchestrator.decision.policy import Policy
from services.orchestrator.routing.measurements import Measurements
from services.orchestrator.routing.route_table import RouteTable
from services.orchestrator.routing.router import Router, RoutingOptions
from services.orchestrator.routing.routes import StageHealth
from services.orchestrator.servicers import DetectorServicer
from services.orchestrator.session.dispatcher import Dispatcher
from services.orchestrator.session.resources import SessionResources
from services.orchestrator.session.sessions import Sessions
from tests.misbehaving import good_answer

MEBIBYTE = 1 << 20  # Half of all ids: a mirrored request's are above.
MIRRORED_FROM = 1 << 63
MIRRORED = "mirrored"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def failure(frame_id, code, message="as the test says"):
    """An answer that is an error of the frame, told by the backbone."""
    answer = stage_pb2.FrameResult(frame_id=frame_id)
    answer.error.CopyFrom(status_pb2.Status(code=code.value[0], message=message))
    answer.timing.backbone.node = "toy"
    return answer


class ToyBackbone:
    """A backbone whose answers a test chooses.

    Attributes:
        answer: gives the result of each frame: a function of the frame's id and the call's context.
        openings: the first message of each stream.
        frame_ids: of the frames that came, in their order.
        streams: of each stream what came on it: the number of a frame to be served, the number in a
            tuple of one to be decoded only, number and `MIRRORED` of a mirrored request.
        traced: kind of request and number of each frame that came with a `traceparent`.
        codecs: of the stream that each frame came on, as on the wire, by its id.
        opened: what it answers to openings; a test may add what it tells.
        refused: codecs, as on the wire, that it takes no stream for.
        health: tells whether it serves.
        address: where it listens.
    """

    def __init__(self):
        self.answer = serves
        self.openings = []
        self.frame_ids = []
        self.streams = []
        self.traced = []
        self.codecs = {}
        self.opened = stage_pb2.Opened(node="toy", bundle_digest="d")
        self.refused = set()
        self.health = health.aio.HealthServicer()
        self.address = ""

    @asynccontextmanager
    async def running(self, port=0):
        toy = self

        class Servicer(stage_pb2_grpc.BackboneServicer):
            async def Process(self, request_iterator, context):  # noqa: N802
                opening = (await request_iterator.__anext__()).open
                toy.openings.append(opening)
                if opening.codec in toy.refused:
                    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not by this codec")
                await context.write(stage_pb2.StageResponse(opened=toy.opened))
                came = []
                toy.streams.append(came)
                async for request in request_iterator:
                    kind = request.WhichOneof("request")
                    if getattr(request, kind).traceparent:
                        toy.traced.append((kind, number_of(getattr(request, kind))))
                    if kind == "decode_only":
                        came.append((number_of(request.decode_only),))
                        continue
                    is_mirrored = request.frame.frame_id >= MIRRORED_FROM
                    number = number_of(request.frame)
                    came.append((number, MIRRORED) if is_mirrored else number)
                    toy.frame_ids.append(request.frame.frame_id)
                    toy.codecs[request.frame.frame_id] = opening.codec
                    result = await toy.answer(request.frame.frame_id, context)
                    await context.write(stage_pb2.StageResponse(result=result))

        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        stage_pb2_grpc.add_BackboneServicer_to_server(Servicer(), server)
        await self.health.set("tandem.v1.Backbone", SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, server)
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        self.address = f"127.0.0.1:{port}"
        await server.start()
        try:
            yield self
        finally:
            await server.stop(None)


async def serves(frame_id, context):
    return good_answer(frame_id)


async def fails(frame_id, context):
    """The backbone says that its engine failed."""
    return failure(frame_id, grpc.StatusCode.INTERNAL)


async def refuses(frame_id, context):
    """The backbone says that the frame is no picture."""
    return failure(frame_id, grpc.StatusCode.INVALID_ARGUMENT, "no picture")


async def dies(frame_id, context):
    """The stream ends as if the process were gone."""
    await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")


async def has_no_room(frame_id, context):
    return failure(frame_id, grpc.StatusCode.RESOURCE_EXHAUSTED, "no room")


async def loses_its_decoder(frame_id, context):
    """The backbone has lost what it had decoded of the stream."""
    return failure(frame_id, grpc.StatusCode.UNAVAILABLE, "the decoder is gone")


async def hangs(frame_id, context):
    await asyncio.Event().wait()


def stage_address(node, stage, where="not dialled"):
    return StageAddress(node, stage, where)


def servers_of(*nodes):
    """Both stages of each node, none of which listens."""
    return [stage_address(node, stage) for node in nodes for stage in Stage]


def router_of(servers, metrics=None, **changes):
    """A router to these servers, all of them healthy; nothing is mirrored unless said."""
    table = RouteTable(StageHealth(each, True) for each in servers)
    values = {
        "policy": Policy(),
        "unavailable_after_seconds": 5.0,
        "recovery_seconds": 0.0,
        "mirror_share": 0.0,
    }
    values.update(changes)
    measurements = Measurements(values["policy"].located_at, servers)
    events = EventCounters(metrics or Metrics())
    return Router(table, measurements, RoutingOptions(**values), events)


def set_health(router, server, healthy, reason="gone", fault="died"):
    """Tell a router of a server's health, as the monitor would."""
    told = ("", "") if healthy else (reason, fault)
    router.stage_changed(StageHealth(server, healthy, *told, interrupted=True))


class Rig:
    """The orchestrator's parts in front of toy backbones, one for each node.

    Attributes:
        backbones: their addresses, by node.
        sessions: of the orchestrator.
        budget: of the bytes that they hold.
    """

    def __init__(self, toys, channels, *, max_group_bytes=MEBIBYTE, **changes):
        self.backbones = {each.node: each for each in channels}
        transformers = [stage_address(node, Stage.TRANSFORMER) for node in toys]
        metrics = Metrics()
        self.router = router_of([*channels, *transformers], metrics, **changes)
        self.draining = asyncio.Event()
        self.resources = SessionResources(
            router=self.router,
            channels=channels,
            frames=FrameCounters(metrics),
            metrics=metrics,
            draining=self.draining,
            max_group_bytes=max_group_bytes,
        )
        self.sessions = Sessions(self.resources)
        self.budget = ByteBudget(64 * MEBIBYTE, MEBIBYTE, FrameCost(3), share_peers=False)

    def account(self):
        return StreamBytes(self.budget, "peer", lambda: None)

    def dispatcher(self, **options):
        return Dispatcher("session", StreamOptions(**options), self.resources, self.account())

    def set_health(self, node, healthy, **told):
        set_health(self.router, self.backbones[node], healthy, **told)

    @asynccontextmanager
    async def serving(self):
        """Serve clients; gives the address."""
        limits = StreamLimits(
            streams=8, streams_of_a_peer=8, unopened_streams=8, silence_seconds=0.0
        )
        servicer = DetectorServicer(self.sessions, StreamGuard(limits, self.budget))
        server = grpc.aio.server(interceptors=[BoundedCalls()])
        detector_pb2_grpc.add_DetectorServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(None)


@asynccontextmanager
async def rig(toys, **changes):
    """A rig in front of `toys`, by the names of their nodes, all of them running."""
    channels = {
        stage_address(node, Stage.BACKBONE, toy.address): ServerChannel(
            toy.address or "127.0.0.1:1"
        )
        for node, toy in toys.items()
    }
    try:
        yield Rig(toys, channels, **changes)
    finally:
        for channel in channels.values():
            await channel.close()


async def until(condition):
    """Wait until a condition holds."""
    end = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        await asyncio.sleep(0.005)


class Video:
    """The frames of one session, as they come, and where they are in its video."""

    def __init__(self, kept):
        self.kept = kept
        self.key_frames = []

    def frame(self, frame_id, key_frame=False):
        """The next frame and its place."""
        if key_frame:
            self.key_frames.append(frame_id)
        unit = access_unit(frame_id, key_frame)
        return unit, self.kept.add(unit, 10, key_frame=key_frame)

    def assert_decodable(self, came):
        """A decoder could decode what came on a stream: each frame once, and with all before it."""
        numbers = numbers_of(came)
        for before, after in zip([None, *numbers], numbers):
            assert after in self.key_frames or after - 1 == before, came


def numbers_of(came):
    """Of all frames that came on a stream, in their order."""
    return [each[0] if isinstance(each, tuple) else each for each in came]


def access_unit(frame_id, key_frame=False, size=10):
    unit = detector_pb2.AccessUnit(data=frame_id.to_bytes(size, "big"), key_frame=key_frame)
    return detector_pb2.Frame(frame_id=frame_id, encoded_video=unit)


def number_of(frame):
    """Which frame it is: of video, whatever its id."""
    data = frame.encoded_video.data
    return int.from_bytes(data, "big") if data else frame.frame_id


def frame(frame_id):
    return detector_pb2.Frame(frame_id=frame_id, encoded=b"a picture")
