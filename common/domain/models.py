"""What a stage serves: which bundle streams take, by the name of their model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import FrozenSet, Optional, Tuple

DEFAULT_MODEL = ""
"""The name of the model of streams that name none."""


class BundleSource(Enum):
    """Who has said which bundle a model is served with."""

    SETTINGS = "settings"
    """The settings, as they were read at the start."""
    RELOADED = "reloaded"
    """The folder that the settings name, read anew after SIGHUP."""
    DEPLOYED = "deployed"
    """A deployment, in this process or in one before it."""


@dataclass(frozen=True)
class ServedModel:
    """One model of a stage.

    Attributes:
        name: by which streams choose it; `DEFAULT_MODEL` for those that name none.
        bundle_digest: of the bundle that new streams take.
        bundle_name: as its manifest calls it.
        source: who has said so.
        note: what a person should know of it, in a sentence; otherwise empty.
    """

    name: str
    bundle_digest: str
    bundle_name: str
    source: BundleSource
    note: str = ""


@dataclass(frozen=True)
class StageModels:
    """The models of a stage, and the bundles in its memory.

    Attributes:
        models: each of them.
        loaded_digests: of all bundles that a stream may be opened with.
    """

    models: Tuple[ServedModel, ...]
    loaded_digests: FrozenSet[str]

    def digest_of(self, name: str) -> Optional[str]:
        """The bundle that new streams of a model take; None if there is no such model."""
        model = self.model(name)
        return None if model is None else model.bundle_digest

    def model(self, name: str) -> Optional[ServedModel]:
        """The model of this name; None if there is none."""
        return next((each for each in self.models if each.name == name), None)


def is_digest(text: str) -> bool:
    """Whether this is a sha256 in lower-case hexadecimal, as digests of bundles are."""
    return len(text) == 64 and set(text) <= set("0123456789abcdef")
