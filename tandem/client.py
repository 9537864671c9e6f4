"""The client of a running Tandem system.

    async with DetectorClient("127.0.0.1:50050") as client:
        async for result in client.detect(frames):
            for detection in result.detections:
                print(result.frame_id, detection.category_name, detection.score, detection.box)

`frames` is any iterable, plain or asynchronous, of JPEG or PNG bytes, of arrays (HxWx3, uint8,
RGB), or of `EncodedImage` and `RawImage`. Results come in the order of the frames, one a frame.
`detect_video` reads a file or a camera by itself, and sends what is H.264 or H.265 as it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

import grpc

from common.domain.address import DEFAULT_PORT, parse_address
from common.domain.codec import Codec
from common.domain.detections import DEFAULT_SCORE_THRESHOLD, OverloadPolicy, StreamOptions
from common.domain.errors import InvalidInputError, TandemError, UnavailableError
from common.domain.placement import NodePair, Placement
from common.domain.status import SystemStatus
from common.domain.video import VideoFormat
from common.security.tls import TlsMaterial
from common.telemetry.tracing import Traces
from common.wire.channels import ServerChannel
from common.wire.errors import ConnectionFault, connection_fault, error_from_rpc
from common.wire.message_sizes import message_bytes_metadata
from common.wire.operations import system_status_from_wire
from common.wire.placements import checked_model, placement_to_wire
from protos.tandem.v1 import detector_pb2_grpc, operations_pb2, operations_pb2_grpc
from tandem.access import Credentials, refusal_of
from tandem.asked import checked_limit, codec_named, pair_named
from tandem.client_traces import client_traces
from tandem.handshake import is_refused
from tandem.keepalive import CHANNEL_OPTIONS
from tandem.pictures import JPEG_QUALITY
from tandem.results import FrameResult, VideoResult
from tandem.stream import DetectStream, Server
from tandem.supply import Frames, FrameSupply

if TYPE_CHECKING:
    from tandem.sources import Tell
    from tandem.video import DetectOptions

DEFAULT_RECONNECT_SECONDS = 60.0
"""How long a stream waits for a lost orchestrator: enough for its machine to start anew."""

_MAX_IN_FLIGHT = {OverloadPolicy.BLOCK: 32, OverloadPolicy.DROP_OLDEST: 256}


class DetectorClient:
    """A connection to the orchestrator; any number of streams may share it.

    Every error is a `TandemError` whose text is a sentence for the user. Use it as an
    asynchronous context manager: leaving it ends the streams that are still open.
    """

    def __init__(
        self,
        address: str,
        *,
        reconnect_seconds: float = DEFAULT_RECONNECT_SECONDS,
        credentials: Credentials | None = None,
        traces: Traces | None = None,
    ) -> None:
        """Prepare; the connection is made by the first call.

        Args:
            address: where the orchestrator listens: `tx2.local`, `10.0.0.2:50050`, `[::1]:50050`,
                `unix:PATH`; the port is 50050 if it is left out.
            reconnect_seconds: how long a stream waits for an orchestrator that was lost, and sends
                it again what it left unanswered (from a live source, drops it); 0: not at all. A
                stream keeps the frames in flight in memory for that.
            credentials: of a system with TLS: whom to trust, and who you are; None: no encryption.
            traces: what is traced; None: what the program or the environment has set up.

        Raises:
            InvalidInputError: that is no address, or the time is negative.
            ConfigurationError: a file of the credentials cannot be read, or makes no sense.
        """
        if not reconnect_seconds >= 0:
            raise InvalidInputError(f"reconnect_seconds is {reconnect_seconds}, not 0 or more")
        self._address = parse_address(address, DEFAULT_PORT, "the server's address")
        self._reconnect_seconds = reconnect_seconds
        self._streams: set[DetectStream] = set()
        self._traces = traces
        self._credentials = credentials
        self._tls = None if credentials is None else credentials.load()
        self._channel: ServerChannel | None = None

    async def __aenter__(self) -> Self:
        """Open the channel."""
        server_name = "" if self._credentials is None else self._credentials.server_name
        self._channel = ServerChannel(
            str(self._address), CHANNEL_OPTIONS, self._tls, server_name=server_name
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all streams and close the channel."""
        for stream in tuple(self._streams):
            await stream.close()
        if self._channel is not None:
            await self._channel.close()
        self._channel = None

    async def detect(
        self,
        frames: Frames,
        *,
        placement: Placement | NodePair | str | None = None,
        score_threshold: float = DEFAULT_SCORE_THRESHOLD,
        max_detections: int = 0,
        overload: OverloadPolicy = OverloadPolicy.BLOCK,
        codec: Codec | str | None = None,
        max_link_bits_per_second: int = 0,
        track: bool = False,
        max_in_flight: int | None = None,
        video: VideoFormat | None = None,
        frame_bytes: int = 0,
        model: str = "",
    ) -> AsyncIterator[FrameResult]:
        """Stream frames; yields one result a frame, in order.

        The source is read only when the stream has room, so memory stays bounded however long
        the stream and however slow the server or the consumer. A plain iterable is advanced in a
        thread, so it may block. Leaving the loop early cancels the stream. An orchestrator that is
        lost and comes back is a pause.

        Args:
            frames: what to detect on; closed at the end if it can be.
            placement: which node runs which stage, also as `backbone=NODE,transformer=NODE`;
                None leaves it to the server.
            score_threshold: detections below it are left out, 0 to 1.
            max_detections: at most this many a frame, the highest scores first; 0: all.
            overload: `DROP_OLDEST` for a live source, whose newest frame wins.
            codec: how features travel between the stages; None leaves it to the server.
            max_link_bits_per_second: what the features may take of the link between the stages, on
                average: the server chooses the finest latent rate within it. 0: no limit; only
                without a `codec`, and of effect where the bundle has a bottleneck.
            track: number the objects: detections of the same object have the same `track_id`.
            max_in_flight: frames sent whose results have not been taken yet; None: 32, or 256
                for a live source, since dropped frames wait for older ones to be answered.
            video: what the frames are access units of; they are `AccessUnit` then, in order and
                beginning with a key frame. None: they are pictures. See `detect_video`.
            frame_bytes: how large the largest frames are, as they are sent. Told to the server, so
                that a stream which begins with very many others waits for none of them. 0: not
                known; a larger frame than this is served as well.
            model: by which of the server's models, by its name; empty: its default model.

        Raises:
            PreconditionError: the server has no such model; the message lists those it has.
            TandemError: the server ended the stream, or it cannot be reached.
            UnavailableError: it was lost, and did not come back in time.
            InvalidInputError: an argument or a frame is malformed, or the source failed; results
                of the frames sent before come first.
        """
        options = StreamOptions(
            requested_pair=pair_named(placement),
            score_threshold=score_threshold,
            max_detections=max_detections,
            overload=overload,
            codec=codec_named(codec),
            max_link_bits_per_second=checked_limit(max_link_bits_per_second, codec),
            track=track,
            video=video,
            model=checked_model(model),
        )
        if max_in_flight is None:
            max_in_flight = _MAX_IN_FLIGHT[overload]
        latest: TlsMaterial | None = None
        traces = (self._traces or client_traces()).stream()

        def open_call(wait: bool) -> Any:
            nonlocal latest
            latest = None if self._tls is None else self._tls.material
            stub = detector_pb2_grpc.DetectorStub(self._open_channel())
            # A crowd that lost its server begins anew all at once, but its frames are known.
            told = message_bytes_metadata(max(frame_bytes, supply.largest_bytes))
            metadata = (*(self._metadata() or ()), *traces.metadata, *told)
            return stub.Detect(wait_for_ready=wait, metadata=metadata or None)

        supply = FrameSupply(frames, max_in_flight, traces, video=video)
        server = Server(
            open_call=open_call,
            error=self._translated,
            accepts_again=lambda: self._tls is not None and self._tls.material is not latest,
            reconnect_seconds=self._reconnect_seconds,
        )
        stream = DetectStream(server, supply, options)
        self._streams.add(stream)
        try:
            async for result in stream.results():
                yield result
        finally:
            self._streams.discard(stream)
            await stream.close()

    async def detect_video(
        self,
        source: str,
        *,
        with_pixels: bool = False,
        live: bool | None = None,
        transcode: Literal["jpeg"] | None = None,
        jpeg_quality: int = JPEG_QUALITY,
        source_reconnect_seconds: float | None = None,
        tell: Tell | None = None,
        **options: Unpack[DetectOptions],
    ) -> AsyncIterator[VideoResult]:
        """Detect in a video, a camera's or a network stream; yields one result a frame, in order.

        H.264 and H.265 are sent as they are where the services decode them: neither
        interlaced, nor with B frames, nor turned when they are shown. All else is sent as JPEG.
        Leaving the loop early closes the source.

        Args:
            source: path of a video, a camera's number, or a URL, as for `tandem detect`.
            with_pixels: results have the pixels of their frames, which this process decodes.
            live: True: a URL is a camera, even if it looks like a file, and a file plays at its
                own speed; the newest frame wins, unless `overload` says otherwise. False: every
                frame is answered. None: cameras and network streams are live.
            transcode: `jpeg`: all frames are sent as JPEG.
            jpeg_quality: 1 to 100, of frames that are sent as JPEG.
            source_reconnect_seconds: for how long a camera that is lost is opened anew; 0: not at
                all. None: as long as `tandem detect` does.
            tell: called, from any thread, with a sentence when something goes wrong with the source
                and it goes on, or when H.264 or H.265 has to be sent as JPEG. None: nobody is told.
            options: of `detect`.

        Raises:
            InvalidInputError: there is no such source, or it holds nothing that can be read.
            UnavailableError: the camera does not answer, or did not come back in time.
            TandemError: as of `detect`.
        """
        # Who reads no video needs nothing of FFmpeg.
        from tandem.sources import DEFAULT_RECONNECT_SECONDS as SOURCE_RECONNECT_SECONDS
        from tandem.sources import VideoForm, untold
        from tandem.video import VideoOpening, results_of_video

        form = VideoForm.ACCESS_UNITS if transcode is None else VideoForm.JPEG
        patience = source_reconnect_seconds
        if patience is None:
            patience = SOURCE_RECONNECT_SECONDS
        opening = VideoOpening(source, form, live, jpeg_quality, patience, tell or untold)
        results = results_of_video(self.detect, opening, options, with_pixels)
        async with aclosing(results):
            async for result in results:
                yield result

    async def status(self) -> SystemStatus:
        """Nodes, placements and sessions now.

        Raises:
            TandemError: the server cannot be reached.
        """
        return await self._operation("GetStatus", operations_pb2.GetStatusRequest())

    async def watch_status(self, interval_seconds: float = 1.0) -> AsyncIterator[SystemStatus]:
        """The status now and again at every interval, until the loop is left.

        Raises:
            InvalidInputError: the interval is under 0.1 seconds.
            TandemError: the server cannot be reached any more.
        """
        stub = operations_pb2_grpc.OperationsStub(self._open_channel())
        request = operations_pb2.WatchStatusRequest()
        request.interval.FromNanoseconds(round(interval_seconds * 1e9))
        call = stub.WatchStatus(request, metadata=self._metadata())
        try:
            async for status in call:
                yield self._status(status)
        except grpc.aio.AioRpcError as error:
            raise await self._translated(error.code(), error.details()) from error
        finally:
            call.cancel()

    async def set_placement(self, placement: Placement | NodePair | str | None) -> SystemStatus:
        """Set where streams go that leave it to the server; None lets the server choose.

        Raises:
            UnavailableError: no route can serve the placement now; the setting stays.
            TandemError: the server cannot be reached.
        """
        pair = pair_named(placement)
        named = pair.placement if pair else None
        request = operations_pb2.SetPlacementRequest(placement=placement_to_wire(named))
        if pair is not None and named is None:
            request.backbone_node, request.transformer_node = pair.backbone, pair.transformer
        return await self._operation("SetPlacement", request)

    async def deploy(self, bundle: str, digest: str, *, model: str = "") -> SystemStatus:
        """Change a model over to a bundle that lies in each stage's folder of bundles; minutes.

        Open streams change over as well, and no frame is lost. Cancelled early, it changes nothing.

        Args:
            bundle: name of its folder there.
            digest: of the bundle: sha256 of its bundle.json, in lower-case hexadecimal.
            model: that is to be served with it; empty: the one of streams that name none.

        Raises:
            InvalidInputError: that is no name of a folder, or no digest.
            PreconditionError: a stage cannot serve it, or there is no such model, and nothing has
                changed.
            UnavailableError: a stage cannot be reached, and nothing has changed.
            TandemError: the server cannot be reached.
        """
        request = operations_pb2.DeployBundleRequest(
            bundle=bundle, bundle_digest=digest, model=model
        )
        return await self._operation("DeployBundle", request)

    async def _operation(
        self,
        name: str,
        request: operations_pb2.GetStatusRequest
        | operations_pb2.SetPlacementRequest
        | operations_pb2.DeployBundleRequest,
    ) -> SystemStatus:
        method = getattr(operations_pb2_grpc.OperationsStub(self._open_channel()), name)
        try:
            return self._status(await method(request, metadata=self._metadata()))
        except grpc.aio.AioRpcError as error:
            raise await self._translated(error.code(), error.details()) from error

    def _status(self, answer: operations_pb2.SystemStatus | None) -> SystemStatus:
        # What gRPC gives for an answer that cannot be parsed.
        if answer is None:
            raise UnavailableError(f"what answers at {self._address} is no Tandem orchestrator")
        return system_status_from_wire(answer)

    def _open_channel(self) -> grpc.aio.Channel:
        if self._channel is None:
            raise RuntimeError("DetectorClient is used outside of its 'async with' block")
        return self._channel.current

    def _metadata(self) -> tuple[tuple[str, str], ...] | None:
        return None if self._credentials is None else self._credentials.metadata

    async def _translated(self, code: grpc.StatusCode, details: str | None) -> TandemError:
        fault = connection_fault(code, details)
        if fault is ConnectionFault.UNKNOWN_NAME:
            host = self._address.host
            return UnavailableError(f"the name {host} is not found (server {self._address})")
        if fault is ConnectionFault.NOBODY:
            return UnavailableError(f"no Tandem orchestrator answers at {self._address}")
        if fault is ConnectionFault.NOT_GRPC or code is grpc.StatusCode.UNIMPLEMENTED:
            return UnavailableError(f"what answers at {self._address} is no Tandem orchestrator")
        if (
            fault is ConnectionFault.CLOSED
            and self._credentials is not None
            and not await is_refused(self._address, self._credentials)
        ):
            return UnavailableError(f"the connection to the server at {self._address} was lost")
        refusal = refusal_of(code, fault, str(self._address), self._credentials)
        return refusal or error_from_rpc(code, details, f"orchestrator at {self._address}")
