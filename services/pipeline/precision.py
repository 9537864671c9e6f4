"""What each half is computed in: as its user wishes, or as its model recommends. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Dict, Optional

from common.bundle import PART_OF, Graph, Manifest
from common.domain.errors import InvalidInputError
from common.domain.placement import Stage
from common.engines.base import Device, Precision
from common.engines.registry import computes_in


class PrecisionWish(Enum):
    """What the user of an engine says of the precision of a half."""

    AUTO = "auto"
    """What the model recommends, where the engine can; otherwise fp32."""
    AUTO_OR_FP16 = "auto-or-fp16"
    """The same, but fp16 where the model recommends nothing and the engine can."""
    FP32 = "fp32"
    FP16 = "fp16"

    @property
    def asked(self) -> Optional[Precision]:
        """The precision that the user asks for, which is obeyed or refused; None: he does not."""
        return Precision(self.value) if self.value in _PRECISIONS else None


_PRECISIONS = tuple(each.value for each in Precision)
_WISHES = ", ".join(each.value for each in PrecisionWish)
PRECISION_FORM = f"one of {_WISHES}, or that by half, such as backbone=fp16,transformer=fp32"
"""How wishes are written."""


@dataclass(frozen=True)
class PrecisionWishes:
    """The wishes for both halves; a part of the bottleneck is computed as the half beside it."""

    backbone: PrecisionWish = PrecisionWish.AUTO
    transformer: PrecisionWish = PrecisionWish.AUTO

    @classmethod
    def parse(cls, text: str) -> PrecisionWishes:
        """Read `fp16`, which is for both halves, or `backbone=fp16,transformer=fp32`.

        A half that is left out is `auto`.

        Raises:
            InvalidInputError: it is neither.
        """
        text = text.strip()
        if "=" not in text:
            both = _wish(text, text)
            return cls(both, both)
        wishes: Dict[Stage, PrecisionWish] = {}
        for part in text.split(","):
            half, _, value = part.partition("=")
            stage = {each.value: each for each in Stage}.get(half.strip())
            if stage is None or stage in wishes:
                raise _malformed(text)
            wishes[stage] = _wish(value.strip(), text)
        return cls(*(wishes.get(stage, PrecisionWish.AUTO) for stage in Stage))

    def of(self, graph: Graph) -> PrecisionWish:
        """The wish for a half, or for the part of the bottleneck beside it."""
        return self.backbone if _half(graph) is Stage.BACKBONE else self.transformer


@dataclass(frozen=True)
class ChosenPrecision:
    """What a half is computed in.

    Attributes:
        precision: that.
        note: what a person should know of the choice; empty where it is what was asked for.
    """

    precision: Precision
    note: str = ""


def choose_precision(
    manifest: Manifest,
    graph: Graph,
    wishes: PrecisionWishes,
    engine: str,
    device: Optional[Device],
) -> ChosenPrecision:
    """Choose what a half, or a part of the bottleneck, is computed in.

    A precision that is asked for is chosen in any case, and the engine refuses it if it cannot. A
    recommendation is followed where the engine can.

    Args:
        manifest: of the bundle, which may recommend a precision for each half.
        graph: which half or part.
        wishes: of the user.
        engine: its name.
        device: where it computes; None for its usual one.

    Raises:
        ConfigurationError: there is no such engine, it is not installed, or it has no such device.
    """
    wish = wishes.of(graph)
    if wish.asked is not None:
        return ChosenPrecision(wish.asked)
    recommended = manifest.precision
    if recommended is not None:
        half = _half(graph)
        told = recommended.backbone if half is Stage.BACKBONE else recommended.transformer
        precision, source = Precision(told), "the model recommends"
    elif wish is PrecisionWish.AUTO_OR_FP16:
        precision, source = Precision.FP16, "the settings prefer"
    else:
        return ChosenPrecision(Precision.FP32)
    if computes_in(engine, device, precision):
        return ChosenPrecision(precision, f"{source} {precision.value}")
    note = f"{source} {precision.value}, which engine {engine} does not compute in here"
    return ChosenPrecision(Precision.FP32, note)


def _half(graph: Graph) -> Stage:
    if isinstance(graph, Stage):
        return graph
    return next(stage for stage, part in PART_OF.items() if part is graph)


def _wish(value: str, text: str) -> PrecisionWish:
    try:
        return PrecisionWish(value)
    except ValueError:
        raise _malformed(text) from None


def _malformed(text: str) -> InvalidInputError:
    return InvalidInputError(f"{text!r} is no precision: it has to be {PRECISION_FORM}")
