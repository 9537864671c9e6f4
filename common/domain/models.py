"""What a stage serves: which bundle streams take, by the name of their model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import FrozenSet, Iterable, Optional, Tuple

DEFAULT_MODEL = ""
"""The name of the model of streams that name none."""
MOST_MODELS = 32
"""Of one stage; each takes the memory of its half."""
MODEL_NAME_RULE = (
    "a model's name has letters, digits, '_', '-' and '.', 64 at most, begins with a letter or a "
    "digit, and is not 'default'"
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


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
        out_of_order: why its streams cannot be served now, in a sentence; otherwise empty.
    """

    name: str
    bundle_digest: str
    bundle_name: str
    source: BundleSource
    note: str = ""
    out_of_order: str = ""


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


def is_model_name(text: str) -> bool:
    """Whether a model may have this name, beside the default model; see `MODEL_NAME_RULE`."""
    return _NAME.fullmatch(text) is not None and text != "default"


def told_models(names: Iterable[str]) -> str:
    """The models of these names as people are told of them, such as `the default, 'fast'`."""
    return ", ".join(repr(name) if name else "the default" for name in names) or "none"


def is_digest(text: str) -> bool:
    """Whether this is a sha256 in lower-case hexadecimal, as digests of bundles are."""
    return len(text) == 64 and set(text) <= set("0123456789abcdef")
