"""Watches which bundles every stage serves."""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Dict, Mapping, Optional

import grpc
import structlog

from common.domain.errors import InvalidInputError, UnavailableError
from common.domain.models import StageModels
from common.domain.placement import StageAddress
from common.wire.channels import ServerChannel
from common.wire.models import stage_models_from_wire
from common.wire.parsing import parse_answer
from protos.tandem.v1 import models_pb2

log = structlog.get_logger()

# A stage that is older than models has none to tell.
_OLD_STAGE_SECONDS = 30.0


class ModelsWatch:
    """Keeps a call to each stage that tells of its models, and of each change of them."""

    def __init__(
        self,
        channels: Mapping[StageAddress, ServerChannel],
        interval_seconds: float,
        on_change: Callable[[StageAddress, StageModels], None],
    ) -> None:
        """Prepare; `run` watches.

        Args:
            channels: one to each stage's server.
            interval_seconds: between tries at a server that does not answer.
            on_change: called with what each server tells, each time.
        """
        self._channels = dict(channels)
        self._interval_seconds = interval_seconds
        self._on_change = on_change
        self._watches: Dict[StageAddress, asyncio.Task[None]] = {}
        self._first_looks = {address: asyncio.Event() for address in channels}
        self._failed: Optional[asyncio.Future[None]] = None

    async def run(self) -> None:
        """Watch every stage until closed.

        Raises:
            Exception: watching one of them failed, which is a fault in here.
        """
        self._failed = asyncio.get_running_loop().create_future()
        for address in self._channels:
            self._begin(address)
        await self._failed

    def add(self, address: StageAddress, channel: ServerChannel) -> None:
        """Watch one more server."""
        self._channels[address] = channel
        self._first_looks[address] = asyncio.Event()
        if self._failed is not None:
            self._begin(address)

    def remove(self, address: StageAddress) -> None:
        """Watch a server no more."""
        self._channels.pop(address)
        self._first_looks.pop(address)
        watch = self._watches.pop(address, None)
        if watch is not None:
            watch.cancel()

    async def first_look(self, seconds: float) -> None:
        """Wait until each stage has told, or tells nothing, but no longer than this."""
        looks = [asyncio.ensure_future(look.wait()) for look in self._first_looks.values()]
        if looks:
            _, late = await asyncio.wait(looks, timeout=seconds)
            for look in late:
                look.cancel()

    async def close(self) -> None:
        """Stop watching."""
        if self._failed is not None:
            self._failed.cancel()
        watches, self._watches = tuple(self._watches.values()), {}
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    def _begin(self, address: StageAddress) -> None:
        def ended(watch: asyncio.Task[None]) -> None:
            error = None if watch.cancelled() else watch.exception()
            if error is not None and self._failed is not None and not self._failed.done():
                self._failed.set_exception(error)

        watch = asyncio.ensure_future(self._watch(address, self._channels[address]))
        self._watches[address] = watch
        watch.add_done_callback(ended)

    async def _watch(self, address: StageAddress, channel: ServerChannel) -> None:
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
                # Its identity is revoked, which its health tells.
                pass
            self._first_looks[address].set()
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
                self._on_change(address, models)
                self._first_looks[address].set()
        finally:
            call.cancel()
