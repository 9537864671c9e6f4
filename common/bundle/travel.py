"""How features travel between the halves: codecs, their calibration, and the bottleneck."""

from __future__ import annotations

import itertools
from typing import Dict, Optional, Sequence, Tuple

from pydantic import Field, model_validator
from typing_extensions import Annotated, Self

from common.bundle.frozen import Frozen, inconsistent
from common.domain.codec import CALIBRATED_BITS, LATENT_CODECS, Codec

# These bounds are wide enough for any features, and no range within them overflows float32.
_Finite = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)]
_Spread = Annotated[float, Field(ge=0, le=1e30, allow_inf_nan=False)]
_Clip = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]


class Calibration(Frozen):
    """What the codecs q6 to q2 know of the features; `tandem model calibrate` measures it.

    The range of a channel reaches from `mean - clip * std` to `mean + clip * std`. Where several
    tensors cross the cut, the channels of all of them stand one after another, in the order of the
    cut.
    """

    frames: int = Field(gt=0, description="how many frames it was measured on")
    mean: Tuple[_Finite, ...] = Field(description="of each channel's values")
    std: Tuple[_Spread, ...] = Field(description="standard deviation of each channel's values")
    clip: Dict[str, _Clip] = Field(
        description="codec -> half of its range, in standard deviations of a channel"
    )

    def of_tensors(self, channels: Sequence[int]) -> Tuple[Calibration, ...]:
        """The calibration of each of several tensors, whose channels stand here one after another.

        Args:
            channels: of each tensor.
        """
        ends = tuple(itertools.accumulate(channels))
        return tuple(
            self.model_copy(update={"mean": self.mean[start:end], "std": self.std[start:end]})
            for start, end in zip((0, *ends), ends)
        )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.mean) != len(self.std):
            raise inconsistent(f"{len(self.mean)} means, but {len(self.std)} stds")
        calibrated = {codec.value for codec in CALIBRATED_BITS}
        if set(self.clip) != calibrated:
            raise inconsistent(f"clip has to have the keys {', '.join(sorted(calibrated))}")
        return self


class CodecDefaults(Frozen):
    """How features travel unless a client asks for another codec."""

    default: str = Field(default="fp16", description="name of a codec in common.codec")
    calibration: Optional[Calibration] = Field(
        default=None, description="without it the codecs q6 to q2 cannot be used"
    )

    @model_validator(mode="after")
    def _check_default(self) -> Self:
        known = [codec.value for codec in Codec]
        if self.default not in known:
            raise inconsistent(f"unknown codec {self.default!r}; known codecs: {', '.join(known)}")
        if Codec(self.default) in CALIBRATED_BITS and self.calibration is None:
            raise inconsistent(
                f"the default codec {self.default} needs a calibration: see "
                "`tandem model calibrate`"
            )
        return self


class RateMeasurement(Frozen):
    """What one latent rate keeps and costs, as `tandem model calibrate` measured it."""

    average_precision: Optional[float] = Field(
        default=None, ge=0, le=1, description="AP on an annotated set"
    )
    bytes_per_frame: float = Field(
        ge=0, allow_inf_nan=False, description="coded given the frame before, mean"
    )
    bytes_per_key_frame: float = Field(ge=0, allow_inf_nan=False, description="coded alone, mean")


class LatentRate(Frozen):
    """How finely latents are quantised.

    Latents come from the bottleneck's encoder as integers, in small fractions of a usual step.
    """

    step: int = Field(gt=0, le=1 << 15, description="from level to level, in latent units")
    keep_within: int = Field(
        default=0,
        ge=0,
        le=1 << 15,
        description="a latent that is at most this far from the frame before's keeps that level, "
        "in latent units; 0: none does",
    )
    measured: Optional[RateMeasurement] = None


class Bottleneck(Frozen):
    """The learned bottleneck between the halves: features to latents, and back.

    `bottleneck_encoder.onnx` takes `features` and gives `latents`; `bottleneck_decoder.onnx` takes
    `latents` and gives `features`. Latents are float32 with integer values, [N,channels,h,w] for
    features [N,feature_channels,h,w]. `latent_tables.json` has the tables of the entropy coder.
    """

    channels: int = Field(gt=0, le=1024, description="channels of the latents")
    rates: Dict[str, LatentRate] = Field(description="codec -> its rate")

    @model_validator(mode="after")
    def _check(self) -> Self:
        latent = [codec.value for codec in LATENT_CODECS]
        if set(self.rates) != set(latent):
            raise inconsistent(f"rates has to have the keys {', '.join(latent)}")
        return self
