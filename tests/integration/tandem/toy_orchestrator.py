"""A small real orchestrator in this process, and misbehaving ones."""

import asyncio
from contextlib import asynccontextmanager

import grpc

from common.domain.placement import Placement
from common.wire.placements import node_pair_to_wire, requested_pair_from_wire
from protos.tandem.v1 import (
    detection_pb2,
    detector_pb2,
    detector_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
)


class ToyDetector(detector_pb2_grpc.DetectorServicer):
    """Answers each frame with one box as wide as the frame's image is long, in bytes.

    Attributes:
        options: of the latest stream.
        received: ids of the frames read, over all streams.
        gate: frames are answered while it is set.
        ended: set once a stream is over for the server.
    """

    def __init__(self):
        self.options = None
        self.received = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.ended = asyncio.Event()

    async def Detect(self, request_iterator, context):
        try:
            async for request in request_iterator:
                if request.WhichOneof("request") == "options":
                    self.options = request.options
                    continue
                self.received.append(request.frame.frame_id)
                await self.gate.wait()
                yield await self.answer(request.frame, context)
        finally:
            self.ended.set()

    async def answer(self, frame, context):
        size = len(frame.encoded) or len(frame.raw.data)
        detection = detection_pb2.Detection(
            category_id=1,
            category_name="person",
            score=0.75,
            box=detection_pb2.Box(x_min=1, y_min=2, x_max=1 + size, y_max=4),
        )
        return detector_pb2.DetectResponse(
            frame_id=frame.frame_id,
            detections=detection_pb2.Detections(detections=[detection]),
            placement=detector_pb2.PLACEMENT_BACKBONE,
            timing=detection_pb2.Timing(
                backbone=detection_pb2.StageTiming(node="edge", execute_seconds=0.25),
                total_seconds=0.5,
            ),
        )


class RefusingDetector(ToyDetector):
    """Ends the stream at frame 2 with a status."""

    async def answer(self, frame, context):
        if frame.frame_id == 2:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more today")
        return await super().answer(frame, context)


class ErringDetector(ToyDetector):
    """Answers frame 1 with an error and drops frame 2."""

    async def answer(self, frame, context):
        response = await super().answer(frame, context)
        if frame.frame_id == 1:
            response.error.code = grpc.StatusCode.INVALID_ARGUMENT.value[0]
            response.error.message = "undecodable image"
        if frame.frame_id == 2:
            response.dropped.CopyFrom(detector_pb2.Dropped())
            response.placement = detector_pb2.PLACEMENT_UNSPECIFIED
        return response


class ForgetfulDetector(ToyDetector):
    """Takes some frames, answers the first two and ends the stream well.

    It ends only when the last of them has come: gRPC loses the status of a stream that ends while
    its client writes, which then counts as a lost connection.
    """

    def __init__(self, taken):
        super().__init__()
        self._taken = taken

    async def Detect(self, request_iterator, context):
        frames = []
        async for request in request_iterator:
            if request.WhichOneof("request") == "frame":
                frames.append(request.frame)
            if len(frames) == self._taken:
                break
        for frame in frames[:2]:
            yield await self.answer(frame, context)


class ShufflingDetector(ToyDetector):
    """Answers with the wrong ids."""

    async def answer(self, frame, context):
        response = await super().answer(frame, context)
        response.frame_id += 7
        return response


class ToyOperations(operations_pb2_grpc.OperationsServicer):
    """Knows one sick stage; refuses the placement `full`."""

    def __init__(self):
        self.setting = detector_pb2.PLACEMENT_UNSPECIFIED

    def status(self):
        return operations_pb2.SystemStatus(
            placement_setting=self.setting,
            placement=detector_pb2.PLACEMENT_WORKSTATION,
            setting=node_pair_to_wire(requested_pair_from_wire(self.setting, "", "")),
            current=node_pair_to_wire(Placement.WORKSTATION.node_pair),
            stages=[
                operations_pb2.StageStatus(
                    node="edge", stage="backbone", address="h:1", healthy=False, reason="gone"
                )
            ],
            placements=[
                operations_pb2.PlacementStatus(
                    placement=detector_pb2.PLACEMENT_WORKSTATION,
                    nodes=node_pair_to_wire(Placement.WORKSTATION.node_pair),
                    available=True,
                    frames=3,
                    frames_per_second=1.5,
                )
            ],
            sessions=[operations_pb2.SessionStatus(session_id="s", frames_answered=3)],
            uptime_seconds=9.0,
        )

    async def GetStatus(self, request, context):
        return self.status()

    async def WatchStatus(self, request, context):
        for _ in range(3):
            yield self.status()

    async def SetPlacement(self, request, context):
        if request.placement == detector_pb2.PLACEMENT_FULL:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "backbone on edge is down: gone")
        self.setting = request.placement
        return self.status()


@asynccontextmanager
async def serving(detector):
    """Serve on a free port; yields the address."""
    server = grpc.aio.server()
    detector_pb2_grpc.add_DetectorServicer_to_server(detector, server)
    operations_pb2_grpc.add_OperationsServicer_to_server(ToyOperations(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
