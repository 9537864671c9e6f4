"""`bundle.json`: the contract between who exports a model and who runs it.

There are two formats. A DETR is written in format 1, which every release of Tandem reads; the
models of other families need format 2. Whoever runs a bundle reads both by the same names, and
knows no family: all that it has to know of a model stands in the manifest.
"""

from __future__ import annotations

from typing import Dict, Optional, Tuple, Union

from pydantic import Field, JsonValue, field_validator, model_validator
from typing_extensions import Annotated, Literal, Self

from common.bundle.architecture import Architecture
from common.bundle.cut import ONLY_TENSOR, CutTensor, require_cut
from common.bundle.frozen import Frozen, inconsistent
from common.bundle.preparation import DetrInput, InputPolicy, Normalization
from common.bundle.reading import is_plain_name
from common.bundle.scoring import Scoring, SoftmaxScoring
from common.bundle.travel import Bottleneck, CodecDefaults
from common.domain.codec import LATENT_CODECS, Codec
from common.domain.errors import ConfigurationError

DETR_FAMILY = "detr"
"""The family of every bundle of format 1."""

_Name = Annotated[str, Field(max_length=200)]
# Of the wire's uint32 and of COCO files alike.
_LARGEST_ID = (1 << 31) - 1


class Category(Frozen):
    """One row of the class head.

    A row of the head without a category is never reported; COCO leaves some ids unused.
    """

    class_index: int = Field(ge=0, le=100_000, description="row of the class head")
    id: int = Field(ge=0, le=_LARGEST_ID, description="COCO category id")
    name: _Name


class Opset(Frozen):
    """The version of ONNX's operators that each half is written in."""

    backbone: int = Field(default=13, ge=13, le=99)
    transformer: int = Field(default=13, ge=13, le=99)


class RecommendedPrecision(Frozen):
    """In which precision an engine that has the choice computes each half, unless it is told."""

    backbone: Literal["fp32", "fp16"] = "fp16"
    transformer: Literal["fp32", "fp16"] = "fp32"


# A class's fields stand in `bundle.json` base by base, so these four make the order of the keys.
class _Heading(Frozen):
    format_version: int
    name: _Name


class _Common(_Heading):
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
                raise inconsistent(f"{name!r} is no file directly in the bundle's folder")
        return value

    @field_validator("categories")
    @classmethod
    def _have_rows_of_their_own(cls, value: Tuple[Category, ...]) -> Tuple[Category, ...]:
        if len({category.class_index for category in value}) < len(value):
            raise inconsistent("two categories have the same class_index")
        return value


class _DetrModel(_Heading):
    architecture: Architecture
    split: Literal["projected", "c5"] = Field(
        default="projected",
        description="cut after the 1x1 input_proj, or before it as in the thesis",
    )
    feature_channels: int = Field(gt=0, description="channels that cross the cut")
    feature_stride: int = Field(gt=0, description="input pixels a feature cell")


class DetrManifest(_Common, _DetrModel):
    """The content of `bundle.json` in format 1: a DETR."""

    format_version: Literal[1] = 1
    input: DetrInput

    @property
    def family(self) -> str:
        """The family of models that it belongs to."""
        return DETR_FAMILY

    @property
    def cut(self) -> Tuple[CutTensor, ...]:
        """The tensors that cross the cut; see `FamilyManifest.cut`."""
        tensor = CutTensor(
            name=ONLY_TENSOR, channels=self.feature_channels, stride=self.feature_stride
        )
        return (tensor,)

    @property
    def position_channels(self) -> Optional[int]:
        """Channels of the positional encoding; see `FamilyManifest.position_channels`."""
        return self.architecture.hidden_dim

    @property
    def scoring(self) -> Scoring:
        """How class logits become scores."""
        return SoftmaxScoring()

    @property
    def opset(self) -> Opset:
        """The version of ONNX's operators that each half is written in."""
        return Opset()

    @property
    def precision(self) -> Optional[RecommendedPrecision]:
        """In which precision to compute each half; None: nothing is recommended."""
        return None

    @model_validator(mode="after")
    def _check_against_architecture(self) -> Self:
        architecture = self.architecture
        channels = {
            "projected": architecture.hidden_dim,
            "c5": architecture.backbone_channels,
        }[self.split]
        if self.feature_channels != channels:
            raise inconsistent(
                f"feature_channels is {self.feature_channels}, but split {self.split!r} of this "
                f"architecture has {channels}"
            )
        if self.feature_stride != architecture.stride:
            raise inconsistent(
                f"feature_stride is {self.feature_stride}, but this architecture has "
                f"{architecture.stride}"
            )
        _require_codecs(self)
        rows = [category.class_index for category in self.categories]
        if rows and max(rows) >= architecture.classes:
            raise inconsistent(
                f"a category has class_index {max(rows)}, but there are only "
                f"{architecture.classes} classes"
            )
        return self


class _FamilyModel(_Heading):
    family: str = Field(
        pattern="^[a-z][a-z0-9_]*$",
        max_length=64,
        description="of the model, as its exporter knows it",
    )
    configuration: Dict[str, JsonValue] = Field(
        default_factory=dict,
        description="the family's own configuration that determines the halves: for people, and "
        "for building them anew; whoever runs them does not read it",
    )
    opset: Opset = Opset()
    precision: RecommendedPrecision = RecommendedPrecision()
    cut: Tuple[CutTensor, ...] = Field(description="the tensors that cross it, the finest first")
    position_channels: Optional[int] = Field(
        default=None,
        gt=0,
        le=8192,
        multiple_of=4,
        description="of the positional encoding that the transformer half takes as `pos`, with the "
        "padding as `mask`, beside the one cut tensor; null: it takes the cut tensors alone",
    )
    scoring: Scoring


class FamilyManifest(_Common, _FamilyModel):
    """The content of `bundle.json` in format 2: a model of any family but DETR's own."""

    format_version: Literal[2] = 2

    @field_validator("family")
    @classmethod
    def _is_not_detr(cls, value: str) -> str:
        if value == DETR_FAMILY:
            raise inconsistent("a plain DETR is written in format 1")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        require_cut(self.cut)
        if len(self.cut) > 1 and self.position_channels is not None:
            raise inconsistent(
                f"position_channels are those beside one cut tensor, and there are {len(self.cut)}"
            )
        if len(self.cut) > 1 and self.bottleneck is not None:
            raise inconsistent(
                f"a bottleneck stands between one cut tensor, and there are {len(self.cut)}"
            )
        _require_codecs(self)
        return self


Manifest = Union[DetrManifest, FamilyManifest]
"""The content of `bundle.json`, in either format."""


def require_detr(manifest: Manifest, what: str) -> DetrManifest:
    """The manifest of a plain DETR, for what works with no other family.

    Args:
        manifest: of any bundle.
        what: needs a DETR, for the message; it begins the sentence.

    Raises:
        ConfigurationError: the bundle is of another family.
    """
    if not isinstance(manifest, DetrManifest):
        raise ConfigurationError(
            f"{what} needs a plain DETR, and {manifest.name} is of the family {manifest.family}"
        )
    return manifest


def _require_codecs(manifest: Manifest) -> None:
    calibration = manifest.codec.calibration
    channels = sum(tensor.channels for tensor in manifest.cut)
    if calibration is not None and len(calibration.mean) != channels:
        raise inconsistent(
            f"the codec calibration has {len(calibration.mean)} channels, the features "
            f"have {channels}"
        )
    if Codec(manifest.codec.default) in LATENT_CODECS and manifest.bottleneck is None:
        raise inconsistent(f"the default codec {manifest.codec.default} needs a bottleneck")
