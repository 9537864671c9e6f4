"""What is said about a model beside its weights: in `args` of a checkpoint, or in `config.json`.

The `args` are those that the official training script saves with a model (`main.py` of its code).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.bundle import Architecture
from detr.errors import WeightsError

DEFAULT_HEADS = 8
"""The paper's."""


@dataclass(frozen=True)
class Stated:
    """What a source says about a model.

    Attributes:
        source: its name, for messages; empty where there is none.
        heads: attention heads, or None.
        dilation: whether the last stage is dilated, or None.
        sizes: for a field of `Architecture`, its name in the source and its value there. The
            weights show these values too, and must agree.
        names: names of the class head's rows; None where nothing names them.
        unknown: fields of the source that mean nothing to a DETR.
    """

    source: str = ""
    heads: int | None = None
    dilation: bool | None = None
    sizes: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    names: Mapping[int, str] | None = None
    unknown: tuple[str, ...] = ()

    def check(self, path: Path, architecture: Architecture) -> None:
        """Compare it with what the weights show.

        Raises:
            WeightsError: they contradict each other.
        """
        for key, (name, value) in self.sizes.items():
            actual = getattr(architecture, key)
            if actual != value:
                raise WeightsError(
                    f"{path}: {self.source} says that {name} is {value}, but the weights are of a "
                    f"model with {actual}."
                )


class Reader:
    """Looks up values by type; an error names what is wrong, and null counts as absent."""

    def __init__(self, source: str, content: Mapping[str, Any]) -> None:
        self.source = source
        self.content = content

    def whole(self, *names: str) -> int | None:
        """Return the first of these that is there; it is a whole number above 0."""
        value: int | None = self._first(
            names, lambda x: type(x) is int and x > 0, "a whole number above 0"
        )
        return value

    def flag(self, *names: str) -> bool | None:
        """Return the first of these that is there; it is true or false."""
        value: bool | None = self._first(names, lambda x: type(x) is bool, "true or false")
        return value

    def text(self, *names: str) -> str | None:
        """Return the first of these that is there; it is text."""
        value: str | None = self._first(names, lambda x: type(x) is str, "text")
        return value

    def only(self, name: str, *allowed: Any) -> None:
        """Refuse a value that means another model than Tandem's.

        Raises:
            WeightsError: it is there, and none of these.
        """
        value = self.content.get(name)
        if value is None or any(value == one and type(value) is type(one) for one in allowed):
            return
        choice = " or ".join(repr(one) for one in allowed)
        raise WeightsError(
            f"{self.source}: {name} is {shown(value)}, and Tandem's DETR has only {choice} there."
        )

    def _first(self, names: tuple[str, ...], fits: Callable[[Any], bool], kind: str) -> Any:
        for name in names:
            value = self.content.get(name)
            if value is None:
                continue
            if not fits(value):
                raise WeightsError(f"{self.source}: {name} is {shown(value)}, not {kind}.")
            return value
        return None


def shown(value: Any) -> str:
    """Return a value as a message shows it, cut if it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


_SOURCE = "args in the checkpoint"
_SIZES = {
    "encoder_layers": "enc_layers",
    "decoder_layers": "dec_layers",
    "hidden_dim": "hidden_dim",
    "feedforward_dim": "dim_feedforward",
    "queries": "num_queries",
}


def stated_by_args(args: Mapping[str, Any]) -> Stated:
    """Read what determines the computation; the rest concerns training only.

    Raises:
        WeightsError: a value means another model than Tandem's, or is of a wrong type.
    """
    if not args:
        return Stated()
    reader = Reader(_SOURCE, args)
    reader.only("pre_norm", False)
    reader.only("masks", False)
    reader.only("position_embedding", "sine", "v2")
    reader.only("two_stage", False)
    sizes: dict[str, tuple[str, Any]] = {}
    for key, name in _SIZES.items():
        # An encoder may have no layer.
        value = args.get(name) if args.get(name) == 0 else reader.whole(name)
        if value is not None:
            sizes[key] = (name, value)
    backbone = reader.text("backbone")
    if backbone is not None:
        sizes["backbone"] = ("backbone", backbone)
    return Stated(_SOURCE, reader.whole("nheads"), reader.flag("dilation"), sizes)
