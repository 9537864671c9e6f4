"""How frames are prepared for a model: their size, and the scale of their values."""

from __future__ import annotations

from typing import Tuple, Union

from pydantic import Field, model_validator
from typing_extensions import Annotated, Literal, Self

from common.bundle.frozen import Frozen, inconsistent

LONGEST_INPUT = 8192
"""Of an input's sides, pixels: the memory of an engine grows with both of them."""


class ShortestEdgeInput(Frozen):
    """DETR's own resize: the short side to `shortest_edge`, the long one at most `longest_edge`."""

    policy: Literal["shortest_edge"] = "shortest_edge"
    shortest_edge: int = Field(default=800, gt=0, le=LONGEST_INPUT, description="pixels")
    longest_edge: int = Field(default=1333, gt=0, le=LONGEST_INPUT, description="pixels")

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.longest_edge < self.shortest_edge:
            raise inconsistent(
                f"longest_edge {self.longest_edge} is below shortest_edge {self.shortest_edge}"
            )
        return self


class FixedInput(Frozen):
    """Letterbox: a frame is scaled to fit, placed at the top left, and padded to this size."""

    policy: Literal["fixed"] = "fixed"
    height: int = Field(gt=0, le=LONGEST_INPUT, description="pixels")
    width: int = Field(gt=0, le=LONGEST_INPUT, description="pixels")


class StretchInput(Frozen):
    """A frame is scaled to this size, whatever its shape, so that nothing is padded."""

    policy: Literal["stretch"] = "stretch"
    height: int = Field(gt=0, le=LONGEST_INPUT, description="pixels")
    width: int = Field(gt=0, le=LONGEST_INPUT, description="pixels")


DetrInput = Annotated[Union[ShortestEdgeInput, FixedInput], Field(discriminator="policy")]
"""What a DETR is prepared by, whose encoding and mask know of padding."""
InputPolicy = Annotated[
    Union[ShortestEdgeInput, FixedInput, StretchInput], Field(discriminator="policy")
]


# Pixels are divided by the one less the other, in float32.
_Mean = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
_Divisor = Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)]


class Normalization(Frozen):
    """Per-channel (R, G, B) mean and standard deviation of pixels scaled to 0..1."""

    mean: Tuple[_Mean, _Mean, _Mean] = (0.485, 0.456, 0.406)
    std: Tuple[_Divisor, _Divisor, _Divisor] = (0.229, 0.224, 0.225)
