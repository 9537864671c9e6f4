"""`Models`: what a stage serves, and its change to another bundle."""

from __future__ import annotations

import asyncio
from typing import Any

from common.domain.errors import InvalidInputError, UnavailableError
from common.domain.models import is_digest
from common.wire.models import stage_models_to_wire
from protos.tandem.v1 import models_pb2, models_pb2_grpc
from services.pipeline.changeover import Changeover
from services.pipeline.stage_bundles import StageBundles

Context = Any  # grpc.aio.ServicerContext, whose type arguments differ from method to method.


class ModelsServicer(models_pb2_grpc.ModelsServicer):
    """Answers orchestrators."""

    def __init__(
        self, bundles: StageBundles[Any], changeover: Changeover[Any], draining: asyncio.Event
    ) -> None:
        """Tell of `bundles`, and change them by `changeover`, until `draining` is set."""
        self._bundles = bundles
        self._changeover = changeover
        self._draining = draining

    async def Watch(  # noqa: N802
        self, request: models_pb2.WatchModelsRequest, context: Context
    ) -> None:
        """See models.proto."""
        draining = asyncio.ensure_future(self._draining.wait())
        try:
            while not self._draining.is_set():
                changed = asyncio.ensure_future(self._bundles.wait_changed())
                try:
                    if self._bundles.models.models:
                        await context.write(stage_models_to_wire(self._bundles.models))
                    await asyncio.wait([changed, draining], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
        finally:
            draining.cancel()

    async def Deploy(self, request_iterator: Any, context: Context) -> None:  # noqa: N802
        """See models.proto."""
        prepare = (await _step(request_iterator, "prepare")).prepare
        if not is_digest(prepare.bundle_digest):
            raise InvalidInputError("the digest of a bundle is a sha256 in lower-case hexadecimal")
        self._refuse_if_draining()
        asked = (prepare.model, prepare.bundle, prepare.bundle_digest)
        async with self._changeover.prepared(*asked) as loaded:
            self._refuse_if_draining()
            await context.write(models_pb2.DeployProgress(prepared=models_pb2.BundlePrepared()))
            await _step(request_iterator, "commit")
            note = await self._changeover.commit(prepare.model, prepare.bundle, loaded)
            committed = models_pb2.BundleCommitted(note=note)
            await context.write(models_pb2.DeployProgress(committed=committed))
            # What SIGHUP asks for meanwhile comes after that: until then nobody knows which bundle
            # the other half needs this one to keep.
            await _step(request_iterator, "finish")
            self._bundles.settle(prepare.model)

    def _refuse_if_draining(self) -> None:
        if self._draining.is_set():
            raise UnavailableError("it is draining")


async def _step(requests: Any, kind: str) -> models_pb2.DeployStep:
    """The next step of a deployment.

    Raises:
        InvalidInputError: it is another one, or there is none.
    """
    async for request in requests:
        if request.WhichOneof("step") == kind:
            return request  # type: ignore[no-any-return]
        break
    raise InvalidInputError(f"the next step of a deployment has to be `{kind}`")
