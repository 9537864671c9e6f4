"""One stage's part in a deployment: a call that lasts from its preparation to the end of all."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from common.domain.errors import InternalError, PreconditionError, TandemError, UnavailableError
from common.domain.placement import StageAddress
from common.wire.channels import ServerChannel
from common.wire.connections import CallEnding
from protos.tandem.v1 import models_pb2

# Serving with what is loaded is a matter of a moment; its answer may wait behind frames.
_COMMIT_SECONDS = 15.0


class StageDeployment:
    """A bundle's way into one stage; whoever begins one has to end it by `finish` or `abandon`."""

    def __init__(self, server: StageAddress, channel: ServerChannel) -> None:
        """Call nobody yet.

        Raises:
            UnavailableError: the server's identity is revoked.
        """
        self.server = server
        deploy: Any = channel.current.stream_stream(
            "/tandem.v1.Models/Deploy",
            request_serializer=models_pb2.DeployStep.SerializeToString,
            response_deserializer=models_pb2.DeployProgress.FromString,
        )
        self._call = deploy()
        self._ending = CallEnding(self._call)

    async def prepare(self, model: str, bundle: str, digest: str) -> None:
        """Have the stage load a bundle beside the one that it serves; takes as long as that.

        Raises:
            PreconditionError: the stage cannot serve it, or cannot be told to.
            TandemError: the call failed.
        """
        asked = models_pb2.PrepareBundle(model=model, bundle=bundle, bundle_digest=digest)
        await self._step(models_pb2.DeployStep(prepare=asked), "prepared")

    def require_held(self) -> None:
        """Make sure that what the stage has prepared is there still.

        Raises:
            UnavailableError: its call has ended since, as the stage has.
        """
        if self._call.done():
            raise UnavailableError(f"{self.server.name} was lost after it had loaded the bundle")

    async def commit(self) -> None:
        """Have the stage serve new streams with it.

        Raises:
            TandemError: the call failed, and nobody knows whether the stage serves it.
        """
        step = self._step(models_pb2.DeployStep(commit=models_pb2.CommitBundle()), "committed")
        try:
            await asyncio.wait_for(step, _COMMIT_SECONDS)
        except asyncio.TimeoutError:
            raise UnavailableError(
                f"{self.server.name} has not answered for {_COMMIT_SECONDS:g} s"
            ) from None

    async def finish(self) -> None:
        """All stages serve it: the stage may release what it has served before."""
        try:
            finish = models_pb2.DeployStep(finish=models_pb2.FinishDeployment())
            await self._call.write(finish)
            await asyncio.wait_for(self._call.read(), _COMMIT_SECONDS)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.TimeoutError):
            # It keeps that a little longer.
            pass

    def abandon(self) -> None:
        """Let go of what was prepared; of what was committed nothing changes."""
        self._call.cancel()

    async def _step(self, step: models_pb2.DeployStep, answer: str) -> None:
        try:
            await self._call.write(step)
            progress = await self._call.read()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise await self._error() from error
        if progress is grpc.aio.EOF:
            raise await self._error()
        if progress is None or progress.WhichOneof("progress") != answer:
            raise InternalError(f"{self.server.name} did not answer that it has {answer}")

    async def _error(self) -> TandemError:
        error = await self._ending.error(self.server.name)
        if self._ending.code is grpc.StatusCode.UNIMPLEMENTED:
            return PreconditionError(
                f"{self.server.name} runs a version of Tandem that cannot change over while it "
                "serves: restart it with the new bundle"
            )
        return error
