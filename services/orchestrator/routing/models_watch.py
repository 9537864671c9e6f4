"""Watches which bundles every stage serves."""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import grpc
import structlog

from common.domain.errors import InvalidInputError, UnavailableError
from common.domain.models import StageModels
from common.domain.placement import StageAddress
from common.wire.channels import ServerChannel
from common.wire.models import stage_models_from_wire
from common.wire.parsing import parse_answer
from protos.tandem.v1 import models_pb2
from services.orchestrator.routing.first_looks import wait_for_first_looks

log = structlog.get_logger()

# A stage that is older than models has none to tell.
_OLD_STAGE_SECONDS = 30.0


class ModelsWatch:
    """Keeps a call to each stage that tells of its models, and of each change of them."""

    def __init__(
        self,
        channels: Mapping[StageAddress, ServerChannel],
        interval_seconds: float,
        *,
        on_told: Callable[[StageAddress, StageModels], None],
        on_left: Callable[[StageAddress], None],
    ) -> None:
        """Prepare; `run` watches.

        Args:
            channels: one to each stage's server; those that come and go there are followed.
            interval_seconds: between tries at a server that does not answer.
            on_told: called with what each server tells, each time.
            on_left: called when a server is gone for good.
        """
        self._channels = channels
        self._interval_seconds = interval_seconds
        self._on_told = on_told
        self._on_left = on_left
        # Each with the channel that it calls by.
        self._watches: Dict[StageAddress, Tuple[ServerChannel, asyncio.Task[None]]] = {}
        self._first_looks: Dict[StageAddress, asyncio.Event] = {}
        self._failure: Optional[asyncio.Future[None]] = None

    async def run(self) -> None:
        """Watch every stage until closed.

        Raises:
            Exception: watching one of them failed, which is a fault in here.
        """
        self._failure = asyncio.get_running_loop().create_future()
        self._follow_channels()
        while not self._failure.done():
            await asyncio.wait([self._failure], timeout=self._interval_seconds)
            self._follow_channels()
        await self._failure

    async def first_look(self) -> None:
        """Wait until each stage has told, or tells nothing, for a bounded time."""
        self._follow_channels()
        await wait_for_first_looks(self._first_looks.values())

    async def close(self) -> None:
        """Stop watching."""
        if self._failure is not None:
            self._failure.cancel()
        watches, self._watches = tuple(self._watches.values()), {}
        for _, watch in watches:
            watch.cancel()
        await asyncio.gather(*(watch for _, watch in watches), return_exceptions=True)

    def _follow_channels(self) -> None:
        # One that left and was found again meanwhile has another channel.
        for address, (channel, watch) in tuple(self._watches.items()):
            if self._channels.get(address) is not channel:
                watch.cancel()
                del self._watches[address], self._first_looks[address]
                self._on_left(address)
        for address, channel in self._channels.items():
            if address not in self._watches:
                self._first_looks[address] = asyncio.Event()
                watch = asyncio.ensure_future(self._watch(address, channel))
                self._watches[address] = channel, watch
                watch.add_done_callback(self._ended)

    def _ended(self, watch: asyncio.Task[None]) -> None:
        error = None if watch.cancelled() else watch.exception()
        if error is not None and self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)

    async def _watch(self, address: StageAddress, channel: ServerChannel) -> None:
        look = self._first_looks[address]
        while True:
            wait_seconds = self._interval_seconds
            try:
                await self._follow(address, channel)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    wait_seconds = _OLD_STAGE_SECONDS
            except InvalidInputError as error:
                log.warning("models not understood", name=address.name, reason=str(error))
            except UnavailableError:
                # Its identity is revoked, which its health tells; or it has just left.
                pass
            look.set()
            await asyncio.sleep(wait_seconds)

    async def _follow(self, address: StageAddress, channel: ServerChannel) -> None:
        watch: Any = channel.current.unary_stream(
            "/tandem.v1.Models/Watch",
            request_serializer=models_pb2.WatchModelsRequest.SerializeToString,
        )
        call = watch(models_pb2.WatchModelsRequest())
        try:
            async for data in call:
                models = stage_models_from_wire(parse_answer(models_pb2.StageModels, data))
                self._on_told(address, models)
                self._first_looks[address].set()
        finally:
            call.cancel()
