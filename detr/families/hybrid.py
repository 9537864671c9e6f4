"""What RT-DETRv2 and D-FINE share: levels of a convolutional backbone, and a hybrid encoder.

Both are cut after `encoder_input_proj`, the 1x1 convolutions that bring each level of the backbone
to the encoder's width. A half calls transformers' own modules: the second one is the whole model,
with the features that are given to it in the place of its backbone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from common.bundle import Opset, RecommendedPrecision, SigmoidScoring
from detr.families.base import Preparation, SplitModel
from detr.families.fields import Fields
from detr.families.loading import build_model, configuration_of, load_model
from detr.families.norms import thaw_norms
from detr.families.preparation import NOT_NORMALISED, stretched
from detr.families.sizes import cut_tensors, require_cells
from detr.families.whole import Whole
from detr.importing.known_fields import names
from detr.importing.reading import read_safetensors

SIDE = 640
"""Of the input that all published sizes of both were trained for, pixels."""
HONOURED = names(
    "activation_function backbone_config batch_norm_eps d_model decoder_activation_function "
    "decoder_attention_heads decoder_ffn_dim decoder_in_channels decoder_layers decoder_method "
    "decoder_n_points decoder_offset_scale encode_proj_layers encoder_activation_function "
    "encoder_attention_heads encoder_ffn_dim encoder_hidden_dim encoder_in_channels encoder_layers "
    "feat_strides hidden_expansion layer_norm_eps normalize_before num_feature_levels num_queries "
    "positional_encoding_temperature"
)
"""Fields that both build their modules by."""
ONLY: Mapping[str, tuple[Any, ...]] = {
    # With it transformers leaves the positional encoding out.
    "eval_size": (None,),
    # Anchors are made for the input's size.
    "anchor_image_size": (None,),
    # transformers has no code that runs with it.
    "learn_initial_query": (False,),
    # transformers refines boxes whatever this says.
    "with_box_refine": (True,),
    "decoder_method": ("default", "discrete"),
    "pruned_heads": ({},),
}
"""Fields of which other values mean what transformers does not compute, or not as trained."""


class LevelsBackbone(nn.Module):
    """Pixels to the projected levels of the backbone."""

    def __init__(self, model: Any) -> None:
        """Take copies of a model's backbone and of its projections."""
        super().__init__()
        self.backbone = thaw_norms(copy.deepcopy(model.model.backbone.model))
        self.projections = copy.deepcopy(model.model.encoder_input_proj)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Levels [N,C,h,w] of pixels [N,3,H,W], finest first."""
        levels = self.backbone(pixels).feature_maps
        return tuple(project(x) for project, x in zip(self.projections, levels, strict=True))


class LevelsTransformer(nn.Module):
    """Projected levels to the raw outputs of the last decoder layer."""

    def __init__(self, model: Any) -> None:
        """Take a copy of a model but for its backbone."""
        super().__init__()
        self.given = Given()
        # What it has in their places is in the other half, and can be large.
        kept = {id(model.model.backbone): self.given, id(model.model.encoder_input_proj): None}
        self.rest = copy.deepcopy(model, kept)
        self.rest.model.backbone = self.given
        count = len(model.model.encoder_input_proj)
        self.rest.model.encoder_input_proj = nn.ModuleList(nn.Identity() for _ in range(count))

    def forward(self, *levels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N,Q,K] and boxes [N,Q,4] of levels [N,C,h,w]."""
        self.given.levels = levels
        # Of the first argument it asks the batch only.
        outputs = self.rest(levels[0])
        return outputs.logits, outputs.pred_boxes


class Given(nn.Module):
    """Stands where a backbone stood, and returns what was given."""

    levels: Sequence[Tensor] = ()

    def forward(self, pixels: Tensor, mask: Tensor) -> list[tuple[Tensor, None]]:
        """The levels; nobody reads a mask, since there is no padding."""
        return [(level, None) for level in self.levels]


class HybridFamily:
    """What both families do; see `detr.families.base.Family`.

    Attributes:
        name: the family's, as bundles and `model_type` have it.
        prefix: what the names of its classes in transformers begin with.
        fields: of its configuration.
    """

    name: str
    prefix: str
    fields: Fields
    samples_discretely = True

    @property
    def model_types(self) -> tuple[str, ...]:
        """See the Protocol."""
        return (self.name,)

    def build(self, config: Mapping[str, Any]) -> nn.Module:
        """See the Protocol."""
        return build_model(self.name, self.prefix, self.fields.checked(config))

    def read(self, folder: Path, config: Mapping[str, Any]) -> nn.Module:
        """See the Protocol."""
        return load_model(
            self.name,
            self.prefix,
            self.fields.checked(config),
            read_safetensors(folder),
            folder,
            # It stands for labels that noise was added to, in training.
            may_lack=("denoising_class_embed.weight",),
        )

    def preparation(self, stated: Mapping[str, Any], config: Mapping[str, Any]) -> Preparation:
        """See the Protocol."""
        return stretched(stated, "RTDetr", SIDE, NOT_NORMALISED)

    def require_input(self, model: Any, preparation: Preparation) -> None:
        """See the Protocol."""
        strides = model.config.feat_strides
        require_cells(preparation, strides, max(strides), model.config.num_queries)

    def split(self, model: Any, preparation: Preparation) -> SplitModel:
        """Cut a model after its projections; see the Protocol."""
        self.require_input(model, preparation)
        backbone = LevelsBackbone(model).eval()
        discrete = model.config.decoder_method == "discrete"
        return SplitModel(
            family=self.name,
            whole=Whole(model),
            backbone=backbone,
            transformer=LevelsTransformer(model).eval(),
            cut=cut_tensors(backbone, preparation),
            preparation=preparation,
            scoring=SigmoidScoring(top_k=model.config.num_queries),
            # GridSample came with 16.
            opset=Opset(backbone=13, transformer=13 if discrete else 16),
            precision=RecommendedPrecision(backbone="fp16", transformer="fp32"),
            configuration=self.fields.stated(configuration_of(model)),
        )
