"""`bundle.json`: the contract between who exports a model and who runs it."""

from __future__ import annotations

from typing import Dict, Optional, Tuple, Union

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Annotated, Literal, Self

from common.bundle.reading import is_plain_name
from common.domain.codec import CALIBRATED_BITS, LATENT_CODECS, Codec

FORMAT_VERSION = 1
LONGEST_INPUT = 8192
"""Of an input's sides, pixels: the memory of an engine grows with both of them."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _inconsistent(message: str) -> PydanticCustomError:
    return PydanticCustomError("inconsistent", message)


class Architecture(_Frozen):
    """What the DETR is made of (DETR paper, section 3.2 and appendix A.4)."""

    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101"]
    base_width: int = Field(
        default=64, gt=0, le=1024, description="channels of the ResNet's first stage"
    )
    dilation: bool = Field(
        default=False, description="dilated last stage: the DC5 models, stride 16"
    )
    encoder_layers: int = Field(default=6, ge=0, le=64)
    decoder_layers: int = Field(default=6, ge=1, le=64)
    hidden_dim: int = Field(default=256, gt=0, le=8192, description="width of the transformer")
    heads: int = Field(default=8, gt=0, le=256)
    feedforward_dim: int = Field(default=2048, gt=0, le=1 << 16)
    queries: int = Field(default=100, gt=0, le=10_000)
    classes: int = Field(
        default=91, gt=0, le=100_000, description="rows of the class head less the 'no object' one"
    )

    @model_validator(mode="after")
    def _check_hidden_dim(self) -> Self:
        if self.hidden_dim % self.heads:
            raise _inconsistent(
                f"hidden_dim {self.hidden_dim} is no multiple of {self.heads} heads"
            )
        # Sine and cosine, for row and column.
        if self.hidden_dim % 4:
            raise _inconsistent(f"hidden_dim {self.hidden_dim} is no multiple of 4")
        return self

    @property
    def backbone_channels(self) -> int:
        """Channels of the backbone's last stage (C5)."""
        expansion = 1 if self.backbone in ("resnet18", "resnet34") else 4
        return self.base_width * 8 * expansion

    @property
    def stride(self) -> int:
        """Input pixels a feature cell, in each direction."""
        return 16 if self.dilation else 32


class ShortestEdgeInput(_Frozen):
    """DETR's own resize: the short side to `shortest_edge`, the long one at most `longest_edge`."""

    policy: Literal["shortest_edge"] = "shortest_edge"
    shortest_edge: int = Field(default=800, gt=0, le=LONGEST_INPUT, description="pixels")
    longest_edge: int = Field(default=1333, gt=0, le=LONGEST_INPUT, description="pixels")

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.longest_edge < self.shortest_edge:
            raise _inconsistent(
                f"longest_edge {self.longest_edge} is below shortest_edge {self.shortest_edge}"
            )
        return self


class FixedInput(_Frozen):
    """Letterbox: a frame is scaled to fit, placed at the top left, and padded to this size."""

    policy: Literal["fixed"] = "fixed"
    height: int = Field(gt=0, le=LONGEST_INPUT, description="pixels")
    width: int = Field(gt=0, le=LONGEST_INPUT, description="pixels")


InputPolicy = Annotated[Union[ShortestEdgeInput, FixedInput], Field(discriminator="policy")]


# Pixels are divided by the one less the other, in float32.
_Mean = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
_Divisor = Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)]


class Normalization(_Frozen):
    """Per-channel (R, G, B) mean and standard deviation of pixels scaled to 0..1."""

    mean: Tuple[_Mean, _Mean, _Mean] = (0.485, 0.456, 0.406)
    std: Tuple[_Divisor, _Divisor, _Divisor] = (0.229, 0.224, 0.225)


_Name = Annotated[str, Field(max_length=200)]
# Of the wire's uint32 and of COCO files alike.
_LARGEST_ID = (1 << 31) - 1


class Category(_Frozen):
    """One row of the class head.

    A row of the head without a category is never reported; COCO leaves some ids unused.
    """

    class_index: int = Field(ge=0, le=100_000, description="row of the class head")
    id: int = Field(ge=0, le=_LARGEST_ID, description="COCO category id")
    name: _Name


# These bounds are wide enough for any features, and no range within them overflows float32.
_Finite = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)]
_Spread = Annotated[float, Field(ge=0, le=1e30, allow_inf_nan=False)]
_Clip = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]


class Calibration(_Frozen):
    """What the codecs q6 to q2 know of the features; `tandem model calibrate` measures it.

    The range of a channel reaches from `mean - clip * std` to `mean + clip * std`.
    """

    frames: int = Field(gt=0, description="how many frames it was measured on")
    mean: Tuple[_Finite, ...] = Field(description="of each channel's values")
    std: Tuple[_Spread, ...] = Field(description="standard deviation of each channel's values")
    clip: Dict[str, _Clip] = Field(
        description="codec -> half of its range, in standard deviations of a channel"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.mean) != len(self.std):
            raise _inconsistent(f"{len(self.mean)} means, but {len(self.std)} stds")
        calibrated = {codec.value for codec in CALIBRATED_BITS}
        if set(self.clip) != calibrated:
            raise _inconsistent(f"clip has to have the keys {', '.join(sorted(calibrated))}")
        return self


class CodecDefaults(_Frozen):
    """How features travel unless a client asks for another codec."""

    default: str = Field(default="fp16", description="name of a codec in common.codec")
    calibration: Optional[Calibration] = Field(
        default=None, description="without it the codecs q6 to q2 cannot be used"
    )

    @model_validator(mode="after")
    def _check_default(self) -> Self:
        known = [codec.value for codec in Codec]
        if self.default not in known:
            raise _inconsistent(f"unknown codec {self.default!r}; known codecs: {', '.join(known)}")
        if Codec(self.default) in CALIBRATED_BITS and self.calibration is None:
            raise _inconsistent(
                f"the default codec {self.default} needs a calibration: see "
                "`tandem model calibrate`"
            )
        return self


class RateMeasurement(_Frozen):
    """What one latent rate keeps and costs, as `tandem model calibrate` measured it."""

    average_precision: Optional[float] = Field(
        default=None, ge=0, le=1, description="AP on an annotated set"
    )
    bytes_per_frame: float = Field(
        ge=0, allow_inf_nan=False, description="coded given the frame before, mean"
    )
    bytes_per_key_frame: float = Field(ge=0, allow_inf_nan=False, description="coded alone, mean")


class LatentRate(_Frozen):
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


class Bottleneck(_Frozen):
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
            raise _inconsistent(f"rates has to have the keys {', '.join(latent)}")
        return self


class Manifest(_Frozen):
    """The content of `bundle.json`."""

    format_version: Literal[1] = 1
    name: _Name
    architecture: Architecture
    split: Literal["projected", "c5"] = Field(
        default="projected",
        description="cut after the 1x1 input_proj, or before it as in the thesis",
    )
    feature_channels: int = Field(gt=0, description="channels that cross the cut")
    feature_stride: int = Field(gt=0, description="input pixels a feature cell")
    input: InputPolicy
    normalization: Normalization = Normalization()
    categories: Tuple[Category, ...] = Field(max_length=100_000)
    files: Dict[str, str] = Field(
        max_length=64, description="file name -> sha256, lower-case hexadecimal"
    )
    codec: CodecDefaults = CodecDefaults()
    bottleneck: Optional[Bottleneck] = Field(
        default=None, description="without it the latent codecs cannot be used"
    )
    license: str
    origin: str = Field(description="where the weights come from, in a sentence")
    trained: bool = Field(
        default=True, description="false: random weights, whose boxes mean nothing"
    )

    @field_validator("files")
    @classmethod
    def _are_plain_names(cls, value: Dict[str, str]) -> Dict[str, str]:
        for name in value:
            if not is_plain_name(name):
                raise _inconsistent(f"{name!r} is no file directly in the bundle's folder")
        return value

    @model_validator(mode="after")
    def _check_against_architecture(self) -> Self:
        architecture = self.architecture
        channels = {
            "projected": architecture.hidden_dim,
            "c5": architecture.backbone_channels,
        }[self.split]
        if self.feature_channels != channels:
            raise _inconsistent(
                f"feature_channels is {self.feature_channels}, but split {self.split!r} of this "
                f"architecture has {channels}"
            )
        if self.feature_stride != architecture.stride:
            raise _inconsistent(
                f"feature_stride is {self.feature_stride}, but this architecture has "
                f"{architecture.stride}"
            )
        calibration = self.codec.calibration
        if calibration is not None and len(calibration.mean) != channels:
            raise _inconsistent(
                f"the codec calibration has {len(calibration.mean)} channels, the features "
                f"have {channels}"
            )
        if Codec(self.codec.default) in LATENT_CODECS and self.bottleneck is None:
            raise _inconsistent(f"the default codec {self.codec.default} needs a bottleneck")
        rows = [category.class_index for category in self.categories]
        if len(set(rows)) != len(rows):
            raise _inconsistent("two categories have the same class_index")
        if rows and max(rows) >= architecture.classes:
            raise _inconsistent(
                f"a category has class_index {max(rows)}, but there are only "
                f"{architecture.classes} classes"
            )
        return self
