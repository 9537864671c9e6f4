"""The bundles in a stage's memory: which one new streams take, and which ones are not needed."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Callable, Dict, Generic, Iterator, Optional, Tuple

from common.domain.errors import PreconditionError
from common.domain.models import (
    DEFAULT_MODEL,
    BundleSource,
    ServedModel,
    StageModels,
    told_models,
)
from services.pipeline.loaded_bundle import Core, LoadedBundle


@dataclass(frozen=True)
class Serving(Generic[Core]):
    """The bundle that new streams of a model take.

    Attributes:
        loaded: which one.
        source: who has said so.
        note: what a person should know of it; otherwise empty.
    """

    loaded: LoadedBundle[Core]
    source: BundleSource
    note: str = ""


class StageBundles(Generic[Core]):
    """The bundles in memory, by their digests.

    A stream keeps its bundle to its end. The bundle that a model was served with before stays, with
    or without streams, until the other half is known to have the new one: until a stream was
    opened with that, or the deployment is complete. So two halves that are told one after the
    other match at any time. One bundle may serve several models.
    """

    def __init__(self, stage_name: str, release: Callable[[LoadedBundle[Core]], None]) -> None:
        """Begin without any.

        Args:
            stage_name: such as `backbone on edge`, for errors.
            release: gives a bundle's memory back; called once none of its streams is open.
        """
        self._stage_name = stage_name
        self._release = release
        self._loaded: Dict[str, LoadedBundle[Core]] = {}
        self._serving: Dict[str, Serving[Core]] = {}
        # What a model was served with before, while the other half may not have the new one.
        self._former: Dict[str, LoadedBundle[Core]] = {}
        self._changed = asyncio.Event()

    @property
    def loaded(self) -> Tuple[LoadedBundle[Core], ...]:
        """All that are in memory."""
        return tuple(self._loaded.values())

    @property
    def models(self) -> StageModels:
        """What is told of it."""
        return StageModels(
            tuple(
                ServedModel(
                    name=name,
                    bundle_digest=serving.loaded.bundle.digest,
                    bundle_name=serving.loaded.bundle.manifest.name,
                    source=serving.source,
                    note=serving.note,
                    out_of_order=serving.loaded.out_of_order or serving.loaded.unable,
                )
                for name, serving in self._serving.items()
            ),
            frozenset(each for each, loaded in self._loaded.items() if self._is_offered(loaded)),
        )

    async def wait_changed(self) -> None:
        """Wait until `models` is another one than now."""
        await self._changed.wait()

    def serving(self, model: str) -> Serving[Core]:
        """The bundle that new streams of a model take.

        Raises:
            PreconditionError: there is no such model.
        """
        if model not in self._serving:
            raise PreconditionError(
                f"{self._stage_name} has no model {model!r}; its models are: "
                f"{told_models(self._serving)}"
            )
        return self._serving[model]

    def is_served(self, loaded: LoadedBundle[Core]) -> bool:
        """Whether new streams of some model take it."""
        return any(serving.loaded is loaded for serving in self._serving.values())

    def find(self, digest: str) -> Optional[LoadedBundle[Core]]:
        """The bundle of this digest, if it is in memory."""
        return self._loaded.get(digest)

    @contextmanager
    def stream_of(self, digest: str) -> Iterator[LoadedBundle[Core]]:
        """The bundle of this digest, which stays in memory while a stream is served with it.

        Args:
            digest: of the bundle; empty: that of the model of streams that name none.

        Raises:
            PreconditionError: it is not in memory; the message names those that are.
        """
        loaded = self._loaded.get(digest) if digest else self.serving(DEFAULT_MODEL).loaded
        if loaded is None:
            known = ", ".join(self._loaded)
            raise PreconditionError(
                f"{self._stage_name} does not serve the bundle {digest}; it serves {known}"
            )
        loaded.streams += 1
        try:
            yield loaded
        finally:
            loaded.streams -= 1
            self._sweep()

    @contextmanager
    def held(self, loaded: LoadedBundle[Core]) -> Iterator[None]:
        """Take a bundle that was loaded, or is there already, and keep it meanwhile."""
        self._loaded[loaded.bundle.digest] = loaded
        loaded.holds += 1
        try:
            yield
        finally:
            loaded.holds -= 1
            self._sweep()

    def serve(
        self, model: str, loaded: LoadedBundle[Core], source: BundleSource, note: str = ""
    ) -> None:
        """Have new streams of a model take this bundle."""
        before = self._serving.get(model)
        if not self.is_served(loaded):
            loaded.place.begin_line()
        self._loaded[loaded.bundle.digest] = loaded
        self._serving[model] = Serving(loaded, source, note)
        if before is not None and before.loaded is not loaded:
            # One that was never opened is not what the other half has.
            if before.loaded.was_opened or model not in self._former:
                self._former[model] = before.loaded
            loaded.was_opened = False
            if not self.is_served(before.loaded):
                # Its frames on their way are older, and streams answer in order.
                before.loaded.place.join(loaded.place)
        self._sweep()
        self._note_change()

    def note(self, model: str, note: str) -> None:
        """Take note of something that a person should know of a model."""
        serving = self._serving[model]
        if serving.note != note:
            self._serving[model] = replace(serving, note=note)
            self._note_change()

    def order_changed(self) -> None:
        """Why a bundle cannot serve, or that it can, has become another."""
        self._note_change()

    def opened(self, loaded: LoadedBundle[Core]) -> None:
        """A stream was opened with this bundle by both halves."""
        if loaded.was_opened:
            return
        loaded.was_opened = True
        for model, serving in self._serving.items():
            if serving.loaded is loaded:
                self._former.pop(model, None)
        self._sweep()

    def settle(self, model: str) -> None:
        """All stages serve the model with what this one serves it with."""
        self._former.pop(model, None)
        self._sweep()

    def _is_offered(self, loaded: LoadedBundle[Core]) -> bool:
        """Whether streams may be opened with it, as far as others are told."""
        return (
            self.is_served(loaded)
            or loaded in self._former.values()
            # Of one that is only held for a deployment nobody may know yet.
            or loaded.streams > 0
        )

    def _sweep(self) -> None:
        """Release what is not needed."""
        for digest, loaded in tuple(self._loaded.items()):
            if not loaded.holds and not self._is_offered(loaded):
                del self._loaded[digest]
                self._release(loaded)
                self._note_change()

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
