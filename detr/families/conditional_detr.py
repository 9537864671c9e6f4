"""Conditional DETR (https://arxiv.org/abs/2108.06152): DETR with conditional queries.

Scores are sigmoids. It is cut after `input_projection`, as DETR is, and takes the same encoding and
mask.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.bundle import Opset, RecommendedPrecision, SigmoidScoring
from detr.families.base import Preparation, SplitModel
from detr.families.fields import Fields
from detr.families.loading import build_model, configuration_of, load_model, transformers_class
from detr.families.norms import thaw_norms
from detr.families.preparation import shortest_edge
from detr.families.sizes import cut_tensors
from detr.families.timm_resnet import own_resnet, own_resnet_keys
from detr.importing.known_fields import names
from detr.importing.reading import read_safetensors

NAME = "conditional_detr"
# What its image processor keeps unless it is told otherwise.
_TOP_K = 100
_RESNET = Fields(
    honoured=names(
        "depths downsample_in_bottleneck downsample_in_first_stage embedding_size hidden_act "
        "hidden_sizes layer_type out_features out_indices"
    ),
    only={"num_channels": (3,)},
    irrelevant=names("stage_names"),
)
FIELDS = Fields(
    honoured=names(
        "activation_function d_model decoder_attention_heads decoder_ffn_dim decoder_layers "
        "encoder_attention_heads encoder_ffn_dim encoder_layers num_hidden_layers num_queries"
    ),
    only={
        "num_channels": (3,),
        "position_embedding_type": ("sine",),
        # transformers does it to a backbone of timm's alone, which is not installed.
        "dilation": (False,),
        "scale_embedding": (False,),
    },
    # Of learned positions, which the first release of the family had no code for.
    irrelevant=names("max_position_embeddings"),
    inner={"backbone_config": {"resnet": _RESNET}},
)


class ConditionalDetr:
    """See `detr.families.base.Family`."""

    name = NAME
    model_types = (NAME,)
    samples_discretely = False
    fields = FIELDS

    def build(self, config: Mapping[str, Any]) -> nn.Module:
        """See the Protocol."""
        return build_model(NAME, "ConditionalDetr", self.fields.checked(own_resnet(config)))

    def read(self, folder: Path, config: Mapping[str, Any]) -> nn.Module:
        """See the Protocol."""
        tensors = own_resnet_keys(read_safetensors(folder))
        settings = self.fields.checked(own_resnet(config))
        return load_model(NAME, "ConditionalDetr", settings, tensors, folder)

    def preparation(self, stated: Mapping[str, Any], config: Mapping[str, Any]) -> Preparation:
        """See the Protocol."""
        return shortest_edge(stated, "ConditionalDetr")

    def require_input(self, model: nn.Module, preparation: Preparation) -> None:
        """It takes any size."""

    def split(self, model: nn.Module, preparation: Preparation) -> SplitModel:
        """See the Protocol."""
        backbone = ProjectedResNet(model).eval()
        settings: Any = model.config
        return SplitModel(
            family=NAME,
            whole=WholeWithPadding(model),
            backbone=backbone,
            transformer=ConditionalTransformer(model).eval(),
            cut=cut_tensors(backbone, preparation),
            preparation=preparation,
            scoring=SigmoidScoring(top_k=_TOP_K),
            opset=Opset(backbone=13, transformer=13),
            precision=RecommendedPrecision(backbone="fp16", transformer="fp32"),
            configuration=self.fields.stated(configuration_of(model)),
            position_channels=settings.d_model,
        )


class WholeWithPadding(nn.Module):
    """A whole model, which takes padding."""

    def __init__(self, model: nn.Module) -> None:
        """Take the model itself."""
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N,Q,K] and boxes [N,Q,4] of pixels [N,3,H,W]; padding [N,H,W] is true there."""
        outputs = self.model(pixels, pixel_mask=(~padding).long())
        return outputs.logits, outputs.pred_boxes


class ProjectedResNet(nn.Module):
    """Pixels to the projected last stage of the backbone."""

    def __init__(self, model: Any) -> None:
        """Take copies of a model's backbone and of its projection."""
        super().__init__()
        self.backbone = thaw_norms(copy.deepcopy(model.model.backbone.model))
        self.projection = copy.deepcopy(model.model.input_projection)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features [N,C,h,w] of pixels [N,3,H,W]."""
        return self.projection(self.backbone(pixels).feature_maps[-1])  # type: ignore[no-any-return]


class ConditionalTransformer(nn.Module):
    """Features, encoding and mask to the raw outputs of the last decoder layer."""

    def __init__(self, model: Any) -> None:
        """Take copies of a model's modules but for its backbone."""
        super().__init__()
        self.encoder = copy.deepcopy(model.model.encoder)
        self.decoder = copy.deepcopy(model.model.decoder)
        self.queries = copy.deepcopy(model.model.query_position_embeddings)
        self.classes = copy.deepcopy(model.class_labels_classifier)
        self.boxes = copy.deepcopy(model.bbox_predictor)
        self.inverse_sigmoid = transformers_class(f"{NAME}.modeling_{NAME}", "inverse_sigmoid")

    def forward(self, features: Tensor, pos: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Detect, as `ConditionalDetrModel` and the class around it do.

        Args:
            features: [N,C,h,w].
            pos: [N or 1,d,h,w].
            mask: [N,h,w], added to attention scores: 0, or -1e4 on padding.

        Returns:
            logits [N,Q,K] and boxes [N,Q,4].
        """
        position = (pos + torch.zeros_like(features[:, :1])).flatten(2).transpose(1, 2)
        # What has four axes is taken as it is, and added.
        added = mask.flatten(1)[:, None, None]
        memory = self.encoder(
            inputs_embeds=features.flatten(2).transpose(1, 2),
            attention_mask=added,
            spatial_position_embeddings=position,
        ).last_hidden_state
        queries = self.queries.weight[None].repeat(features.shape[0], 1, 1)
        decoded = self.decoder(
            inputs_embeds=torch.zeros_like(queries),
            attention_mask=None,
            spatial_position_embeddings=position,
            object_queries_position_embeddings=queries,
            encoder_hidden_states=memory,
            encoder_attention_mask=added,
        )
        hidden = decoded.last_hidden_state
        centre = self.inverse_sigmoid(decoded.reference_points).transpose(0, 1)
        offset = torch.cat([centre, torch.zeros_like(centre)], dim=-1)
        return self.classes(hidden), (self.boxes(hidden) + offset).sigmoid()
