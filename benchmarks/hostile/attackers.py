"""Peers that send mutated messages to every method of every service, and watch the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from benchmarks.hostile import calls
from benchmarks.hostile.calls import Exchange, Tally, Targets
from benchmarks.hostile.honest import Honest
from benchmarks.hostile.mutations import Mutator
from protos.tandem.v1 import detector_pb2, operations_pb2, stage_pb2, tensor_pb2
from tests.attacks import delimited

# Of one stream: opening one costs as much as a few frames.
_FRAMES = 40
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD = b"GET /metrics HTTP/1.1\r\nHost: here\r\n"


class Attacker:
    """One hostile peer; what it does follows from its seed, and the counts from the tally."""

    def __init__(self, targets: Targets, honest: Honest, tally: Tally, seed: int) -> None:
        """Attack nothing yet."""
        self._targets = targets
        self._honest = honest
        self._tally = tally
        self._mutator = Mutator(seed)
        self._draw = self._mutator.random
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def run(self, messages: int, until: Callable[[], bool] = lambda: False) -> None:
        """Attack until so many messages have been sent by all, or `until` says so."""
        attacks: list[Callable[[], Awaitable[None]]] = [
            *[self._frames_to_orchestrator] * 6,
            *[self._frames_to_backbone] * 5,
            *[self._features_to_transformer] * 8,
            *[self._opening] * 3,
            *[self._wire] * 3,
            self._short_calls,
            self._socket,
        ]
        self._channels = {each: calls.channel_to(each) for each in self._targets.grpc}
        try:
            for attack in self._dealt(attacks):
                if self._tally.messages >= messages or until():
                    break
                await attack()
        finally:
            for channel in self._channels.values():
                await channel.close()

    def _dealt(
        self, attacks: list[Callable[[], Awaitable[None]]]
    ) -> Iterator[Callable[[], Awaitable[None]]]:
        """All of them in an order drawn anew for every round, so that none is left out for long."""
        while True:
            self._draw.shuffle(attacks)
            yield from attacks

    async def _frames_to_orchestrator(self) -> None:
        """A stream of frames, whose options may be mutated, and the last message as well."""
        ids = self._ids()
        frames = [detector_pb2.DetectRequest(frame=self._frame(number)) for number in ids]
        is_tried = self._draw.random() < 0.3
        codec = self._draw.choice(tensor_pb2.Codec.keys())
        options = detector_pb2.DetectRequest(
            options=detector_pb2.StreamOptions(score_threshold=0.0, codec=codec)
        )
        if is_tried:
            self._mutator.fields(options.options)
        late = detector_pb2.DetectRequest(frame=self._honest_frame(ids[-1]))
        last = self._last(options, late)
        exchange = await self._stream(
            self._targets.orchestrator,
            calls.DETECT,
            [*(each.SerializeToString() for each in (options, *frames)), *last],
        )
        answers = [detector_pb2.DetectResponse.FromString(each) for each in exchange.answers]
        self._take_frames(exchange, answers)
        is_refused = exchange.code is not grpc.StatusCode.OK
        wanted = [] if is_tried and not answers and is_refused else ids
        got = [each.frame_id for each in answers]
        self._tally.in_order(exchange.method, wanted, got, len(ids) + len(last))

    async def _frames_to_backbone(self) -> None:
        ids = self._ids()
        opening = self._honest.backbone_opening()
        frames = [stage_pb2.BackboneRequest(frame=self._frame(number)) for number in ids]
        late = stage_pb2.BackboneRequest(frame=self._honest_frame(0))
        last = self._last(opening, late)
        await self._stage_stream(
            self._targets.backbone, calls.BACKBONE, ids, [opening, *frames], last
        )

    async def _features_to_transformer(self) -> None:
        ids = self._ids()
        opening = self._honest.transformer_opening()
        first, *others = ids
        features = [self._features(first), *map(self._features_or_short, others)]
        late = stage_pb2.TransformerRequest(features=self._honest.features(self._draw))
        last = self._last(opening, late)
        await self._stage_stream(
            self._targets.transformer, calls.TRANSFORMER, ids, [opening, *features], last
        )

    async def _opening(self) -> None:
        """A stage's stream whose first message is mutated."""
        opening: Any
        if self._draw.random() < 0.5:
            address, method = self._targets.backbone, calls.BACKBONE
            opening = self._honest.backbone_opening()
            frame: Message = stage_pb2.BackboneRequest(frame=self._honest_frame(1))
        else:
            address, method = self._targets.transformer, calls.TRANSFORMER
            opening = self._honest.transformer_opening()
            frame = stage_pb2.TransformerRequest(features=self._honest.features(self._draw))
        self._mutator.fields(opening.open)
        messages = [opening.SerializeToString(), frame.SerializeToString()]
        self._take_stage_frames(await self._stream(address, method, messages))

    async def _wire(self) -> None:
        """A stream of frames whose first message is no protobuf, or hardly."""
        request = detector_pb2.DetectRequest(frame=self._honest_frame(1))
        address, method, message = self._draw.choice(
            (
                (self._targets.orchestrator, calls.DETECT, request),
                (self._targets.backbone, calls.BACKBONE, self._honest.backbone_opening()),
                (self._targets.transformer, calls.TRANSFORMER, self._honest.transformer_opening()),
            )
        )
        data = self._mutator.wire(message.SerializeToString())
        exchange = await self._stream(address, method, [data])
        if method == calls.DETECT:
            answers = [detector_pb2.DetectResponse.FromString(each) for each in exchange.answers]
            self._take_frames(exchange, answers)
        else:
            self._take_stage_frames(exchange)

    async def _short_calls(self) -> None:
        """One call of each method of health, status, placement and reflection."""
        health = health_pb2.HealthCheckRequest(service="tandem.v1.Detector")
        listed = reflection_pb2.ServerReflectionRequest(list_services="")
        kinds: list[tuple[str, Message, bool]] = [
            (calls.GET_STATUS, operations_pb2.GetStatusRequest(), True),
            (calls.WATCH_STATUS, operations_pb2.WatchStatusRequest(), True),
            (calls.SET_PLACEMENT, operations_pb2.SetPlacementRequest(), True),
            (calls.HEALTH_CHECK, health, False),
            (calls.HEALTH_WATCH, health, False),
            (calls.REFLECTION, listed, False),
            ("/tandem.v1.Detector/Nothing", listed, False),
        ]
        self._draw.shuffle(kinds)
        for method, message, is_ours in kinds:
            address = (
                self._targets.orchestrator if is_ours else self._draw.choice(self._targets.grpc)
            )
            await self._short_call(address, method, self._changed(message))

    async def _short_call(self, address: str, method: str, data: bytes) -> None:
        channel = self._channels[address]
        self._tally.messages += 1
        if method == calls.REFLECTION:
            exchange = await calls.stream(channel, method, [data])
        elif method in (calls.WATCH_STATUS, calls.HEALTH_WATCH):
            exchange = await self._watched(channel, method, data)
        else:
            exchange = await calls.ask(channel, method, data)
        if method == calls.SET_PLACEMENT and exchange.code is grpc.StatusCode.UNAVAILABLE:
            # Its answer where nodes do not serve, which is not this caller's fault.
            self._tally.codes[f"{method} {exchange.code.name}"] += 1
            return
        self._tally.ended(exchange)

    async def _watched(self, channel: grpc.aio.Channel, method: str, data: bytes) -> Exchange:
        """A watch may go on without a word; then it is in order."""
        try:
            async with asyncio.timeout(1):
                return await calls.watch(channel, method, data)
        except TimeoutError:
            return Exchange(method, (), grpc.StatusCode.OK, "")

    async def _socket(self) -> None:
        """Bytes on a connection that are not the protocol's, or hardly."""
        data = self._draw.choice(
            (
                self._mutator.noise(2000),
                _PREFACE + self._mutator.noise(500),
                # An HTTP/2 frame of any kind and length after an empty SETTINGS frame.
                _PREFACE + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]) + self._mutator.noise(300),
                _HEAD + self._mutator.noise(5000),
                self._mutator.edited(_HEAD + b"\r\n"),
                b"\x16\x03\x01" + self._mutator.noise(500),
            )
        )
        address = self._draw.choice((*self._targets.grpc, *self._targets.metrics))
        self._tally.messages += 1
        await calls.send_to_socket(address, data)

    async def _stage_stream(
        self, address: str, method: str, ids: list[int], messages: list[Message], last: list[bytes]
    ) -> None:
        """A stream of an opening, one message for each of `ids`, and perhaps another."""
        sent = [each.SerializeToString() for each in messages]
        exchange = await self._stream(address, method, [*sent, *last])
        got = self._take_stage_frames(exchange)
        self._tally.in_order(method, ids, got, len(ids) + len(last))

    async def _stream(self, address: str, method: str, messages: list[bytes]) -> Exchange:
        exchange = await calls.stream(self._channels[address], method, messages)
        self._tally.messages += len(messages)
        self._tally.ended(exchange)
        return exchange

    def _take_frames(self, exchange: Exchange, answers: list[detector_pb2.DetectResponse]) -> None:
        for answer, data in zip(answers, exchange.answers, strict=True):
            self._tally.pictures += 1
            if answer.WhichOneof("result") == "error":
                error = answer.error
                self._tally.frame_failed(exchange.method, error.code, data, error.message)

    def _take_stage_frames(self, exchange: Exchange) -> list[int]:
        """The ids of the frames that were answered."""
        ids = []
        for data in exchange.answers:
            answer = stage_pb2.StageResponse.FromString(data)
            if answer.WhichOneof("response") != "result":
                continue
            ids.append(answer.result.frame_id)
            self._tally.pictures += 1
            if answer.result.WhichOneof("result") == "error":
                error = answer.result.error
                self._tally.frame_failed(exchange.method, error.code, data, error.message)
        return ids

    def _ids(self) -> list[int]:
        """Of one stream's frames."""
        first = self._draw.choice((0, 1, 2**32, 2**64 - 1 - _FRAMES))
        return list(range(first, first + _FRAMES))

    def _honest_frame(self, frame_id: int) -> detector_pb2.Frame:
        return detector_pb2.Frame(frame_id=frame_id, encoded=self._honest.pictures[0])

    def _frame(self, frame_id: int) -> detector_pb2.Frame:
        """One that is mutated, but for its id."""
        frame = self._honest_frame(frame_id)
        kind = self._draw.random()
        if kind < 0.6:
            frame.encoded = self._mutator.picture(self._draw.choice(self._honest.pictures))
        elif kind < 0.8:
            frame.raw.CopyFrom(self._honest.raw_image(self._draw))
            if self._draw.random() < 0.5:
                self._mutator.fields(frame.raw)
            else:
                frame.raw.data = self._mutator.edited(frame.raw.data)
        elif kind < 0.95:
            self._mutator.fields(frame)
            frame.frame_id = frame_id
        return frame

    def _features(self, frame_id: int) -> stage_pb2.TransformerRequest:
        """Those of one frame, mutated, but for its id."""
        features = self._honest.features(self._draw)
        kind = self._draw.random()
        if kind < 0.5:
            tensor = self._draw.choice([features.tensor, *features.further_tensors])
            tensor.data = self._mutator.edited(tensor.data)
        elif kind < 0.7:
            self._mutator.fields(self._draw.choice([features.tensor, *features.further_tensors]))
        elif kind < 0.8:
            self._mutator.fields(features.geometry)
        elif kind < 0.95:
            self._mutator.fields(features)
        features.frame_id = frame_id
        return stage_pb2.TransformerRequest(features=features)

    def _features_or_short(self, frame_id: int) -> stage_pb2.TransformerRequest:
        """As `_features`, or a short message of the frame that follows upon the one before."""
        request = self._features(frame_id)
        if self._draw.random() < 0.8:
            return request
        data = self._mutator.edited(request.features.tensor.data)
        return stage_pb2.TransformerRequest(next_latents=data)

    def _last(self, *messages: Message) -> list[bytes]:
        """A stream's last message, which may be none at all, or one that is out of place."""
        kind = self._draw.random()
        message = self._draw.choice(messages)
        if kind < 0.5:
            return []
        if kind < 0.6:
            return [message.SerializeToString()]
        return [self._changed(message)]

    def _changed(self, message: Message) -> bytes:
        if self._draw.random() < 0.5:
            changed = type(message)()
            changed.CopyFrom(message)
            self._mutator.fields(changed)
            data = changed.SerializeToString()
            return data + delimited(15, b"later") if self._draw.random() < 0.1 else data
        return self._mutator.wire(message.SerializeToString())


async def attack(
    targets: Targets,
    honest: Honest,
    *,
    peers: int,
    messages: int,
    seed: int,
    until: Callable[[], bool] = lambda: False,
) -> Tally:
    """Let some peers attack at once, until so many messages were sent, or `until` says so."""
    tally = Tally()
    attackers = [Attacker(targets, honest, tally, seed * 1000 + each) for each in range(peers)]
    await asyncio.gather(*(each.run(messages, until) for each in attackers))
    return tally
