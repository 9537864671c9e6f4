"""Changes a stage over to another bundle while streams go on."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, asynccontextmanager
from typing import AsyncIterator, Dict, Generic

import structlog

from common.bundle import Bundle
from common.domain.errors import ConfigurationError, EngineError, PreconditionError, TandemError
from common.domain.models import BundleSource
from services.pipeline.configured_bundles import ConfiguredBundles
from services.pipeline.loaded_bundle import BundleLoader, Core, LoadedBundle
from services.pipeline.stage_bundles import StageBundles

log = structlog.get_logger()


class Changeover(Generic[Core]):
    """Changes over to a bundle that was deployed, or to what the settings' folder holds now.

    One change is under way at a time. What cannot be loaded changes nothing.
    """

    def __init__(
        self,
        configured: ConfiguredBundles,
        bundles: StageBundles[Core],
        loader: BundleLoader[Core],
    ) -> None:
        """Change nothing yet.

        Args:
            configured: finds the bundles.
            bundles: those in memory.
            loader: loads others.
        """
        self._configured = configured
        self._bundles = bundles
        self._loader = loader
        self._turn = asyncio.Lock()
        self._asked = asyncio.Event()
        self._loading = ""

    def ask_to_reload(self) -> None:
        """Have the folders of the settings read anew, as soon as no other change is under way."""
        self._asked.set()

    async def run(self) -> None:
        """Follow `ask_to_reload` until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            async with self._turn:
                await self._reload()

    @asynccontextmanager
    async def prepared(
        self, model: str, name: str, digest: str
    ) -> AsyncIterator[LoadedBundle[Core]]:
        """Load a bundle beside those that are served; it is released if it is not served then.

        Args:
            model: that is to be served with it.
            name: of its folder in the folder of bundles.
            digest: of the bundle.

        Raises:
            InvalidInputError: that is no name of a folder.
            PreconditionError: it cannot be served, or another change is under way; whoever asked
                knows which stage says so.
        """
        self._bundles.serving(model)
        if self._turn.locked():
            raise PreconditionError(
                f"it is changing over to {self._loading} at the moment: try again when it has done "
                "so"
            )
        async with self._turn:
            self._loading = name
            try:
                loop = asyncio.get_running_loop()
                bundle = await loop.run_in_executor(None, self._configured.find, name, digest)
                loaded = await self._load(bundle)
                loaded.pipeline.require_able()
            except (PreconditionError, ConfigurationError, EngineError) as error:
                log.warning("bundle not prepared", bundle=name, digest=digest, reason=str(error))
                raise PreconditionError(str(error)) from error
            with self._bundles.held(loaded):
                yield loaded

    async def commit(self, model: str, name: str, loaded: LoadedBundle[Core]) -> str:
        """Serve new streams of a model with a bundle that is prepared.

        Returns:
            What a person should know of it, such as what a restart would serve; otherwise empty.
        """
        loop = asyncio.get_running_loop()
        digest = loaded.bundle.digest
        note = await loop.run_in_executor(None, self._configured.keep_deployed, model, name, digest)
        self._bundles.serve(model, loaded, BundleSource.DEPLOYED, note)
        log.info("changed over", model=model, bundle=loaded.name, digest=digest, note=note)
        return note

    async def _reload(self) -> None:
        """Serve what the folders of the settings hold now, all of it or nothing."""
        self._loading = "what its settings name"
        loop = asyncio.get_running_loop()
        with ExitStack() as held:
            found: Dict[str, LoadedBundle[Core]] = {}
            try:
                bundles = await loop.run_in_executor(None, self._configured.read)
                for model, bundle in bundles.items():
                    found[model] = await self._load(bundle)
                    held.enter_context(self._bundles.held(found[model]))
            except TandemError as error:
                self._tell_refused(str(error))
                return
            for model, loaded in found.items():
                is_new = self._bundles.serving(model).loaded is not loaded
                log.info(
                    "changed over" if is_new else "bundle unchanged",
                    model=model,
                    bundle=loaded.name,
                    digest=loaded.bundle.digest,
                )
                self._bundles.serve(model, loaded, BundleSource.RELOADED)
                await loop.run_in_executor(None, self._configured.deployed.write, model, None)

    def _tell_refused(self, reason: str) -> None:
        log.error("the bundle stays as it was", reason=reason)
        for model in self._bundles.models.models:
            self._bundles.note(model.name, f"SIGHUP changed nothing: {reason}")

    async def _load(self, bundle: Bundle) -> LoadedBundle[Core]:
        """Load a bundle, unless it is in memory.

        Raises:
            EngineError: it cannot be loaded, or does not compute.
            ConfigurationError: it is damaged.
        """
        loaded = self._bundles.find(bundle.digest)
        if loaded is not None:
            return loaded
        try:
            return await self._loader.load(bundle)
        except TandemError:
            raise
        # An engine may raise anything, such as for want of memory.
        except Exception as error:
            log.exception("loading failed", bundle=bundle.manifest.name)
            raise EngineError(f"its engine cannot load it ({type(error).__name__})") from error
