"""RF-DETR (https://arxiv.org/abs/2511.09554): DINOv2 by windows, a projector, a light decoder.

It is cut after the projector, which makes one level of the backbone's four.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.bundle import Normalization, Opset, RecommendedPrecision, SigmoidScoring
from common.bundle.preparation import LONGEST_INPUT
from detr.errors import WeightsError
from detr.families.base import Preparation, SplitModel
from detr.families.fields import Fields
from detr.families.loading import build_model, configuration_of, load_model
from detr.families.preparation import stretched
from detr.families.sizes import cut_tensors, require_cells, traced_size
from detr.families.whole import Whole
from detr.importing.known_fields import names
from detr.importing.processors import PREPROCESSOR_NAME
from detr.importing.reading import read_safetensors

NAME = "rf_detr"
SIDE = 560
"""Of the input where nothing is stated, pixels: that of the first published size."""
_DINO = Fields(
    honoured=names(
        "apply_layernorm hidden_act hidden_size image_size layer_norm_eps mlp_ratio "
        "num_attention_heads num_hidden_layers num_windows out_features out_indices patch_size "
        "qkv_bias use_mask_token use_swiglu_ffn window_block_indexes"
    ),
    only={"num_channels": (3,), "reshape_hidden_states": (True,), "num_register_tokens": (0,)},
    # It has to be what the layers are numbered by.
    irrelevant=names("stage_names"),
)
FIELDS = Fields(
    honoured=names(
        "activation_function attention_bias c2f_num_blocks d_model decoder_activation_function "
        "decoder_cross_attention_heads decoder_ffn_dim decoder_layers decoder_n_points "
        "decoder_self_attention_heads hidden_expansion layer_norm_eps num_queries"
    ),
    only={"num_feature_levels": (1,)},
    # Of masks, and of kernels that are not used.
    irrelevant=names(
        "disable_custom_kernels intermediate_size mask_class_loss_coefficient "
        "mask_dice_loss_coefficient mask_downsample_ratio mask_point_sample_ratio "
        "segmentation_head_activation_function"
    ),
    inner={"backbone_config": {"rf_detr_dinov2": _DINO}},
)


class RfDetr:
    """See `detr.families.base.Family`."""

    name = NAME
    model_types = (NAME,)
    samples_discretely = False
    fields = FIELDS

    def build(self, config: Mapping[str, Any]) -> nn.Module:
        """See the Protocol."""
        return build_model(NAME, "RfDetr", self.fields.checked(config))

    def read(self, folder: Path, config: Mapping[str, Any]) -> nn.Module:
        """See the Protocol."""
        return load_model(
            NAME,
            "RfDetr",
            self.fields.checked(config),
            read_safetensors(folder),
            folder,
            # It hides patches, in pretraining.
            may_lack=("mask_token",),
        )

    def preparation(self, stated: Mapping[str, Any], config: Mapping[str, Any]) -> Preparation:
        """See the Protocol."""
        if stated and stated.get("size") is None:
            raise WeightsError(
                f"{PREPROCESSOR_NAME} states no size, without which transformers resizes frames by "
                "their shortest edge; let it state the height and width that were trained."
            )
        inner = config.get("backbone_config")
        side = inner.get("image_size") if isinstance(inner, dict) else None
        # What its positions were trained for.
        if type(side) is not int or not 0 < side <= LONGEST_INPUT:
            side = SIDE
        return stretched(stated, "RfDetr", side, Normalization())

    def require_input(self, model: nn.Module, preparation: Preparation) -> None:
        """See the Protocol."""
        settings: Any = model.config
        stride = settings.backbone_config.patch_size
        require_cells(
            preparation,
            [stride],
            stride * settings.backbone_config.num_windows,
            settings.num_queries,
        )
        height, width = traced_size(preparation)
        if height != width:
            # Its code counts a window's rows by the width.
            raise WeightsError(f"an input of {height} x {width} is no square, as RF-DETR needs.")

    def split(self, model: nn.Module, preparation: Preparation) -> SplitModel:
        """See the Protocol."""
        size = traced_size(preparation)
        self.require_input(model, preparation)
        backbone = ProjectedBackbone(model, size).eval()
        settings: Any = model.config
        return SplitModel(
            family=NAME,
            whole=Whole(model),
            backbone=backbone,
            transformer=LightDecoder(model, size).eval(),
            cut=cut_tensors(backbone, preparation),
            preparation=preparation,
            scoring=SigmoidScoring(top_k=settings.num_queries),
            # GridSample came with 16.
            opset=Opset(backbone=13, transformer=16),
            precision=RecommendedPrecision(backbone="fp16", transformer="fp32"),
            configuration=self.fields.stated(configuration_of(model)),
        )


class ProjectedBackbone(nn.Module):
    """Pixels of one size to the projector's output."""

    def __init__(self, model: Any, size: tuple[int, int]) -> None:
        """Take a copy of a model's backbone, with its positions for this height and width."""
        super().__init__()
        self.encoder = copy.deepcopy(model.model.backbone)
        embeddings = self.encoder.backbone.embeddings
        patches = size[0] // embeddings.patch_size * (size[1] // embeddings.patch_size)
        with torch.no_grad():
            # Traced, they would be interpolated by an operator that opset 13 lacks.
            positions = embeddings.interpolate_pos_encoding(
                torch.zeros(1, patches + 1, embeddings.position_embeddings.shape[2]), *size
            )
        self.positions = nn.Buffer(positions)
        embeddings.interpolate_pos_encoding = lambda *_: self.positions

    def forward(self, pixels: Tensor) -> Tensor:
        """Features [N,C,h,w] of pixels [N,3,H,W]."""
        levels = self.encoder.backbone(pixels).feature_maps
        return self.encoder.projector(levels)  # type: ignore[no-any-return]


class LightDecoder(nn.Module):
    """The projector's output to the raw outputs of the last decoder layer."""

    def __init__(self, model: Any, size: tuple[int, int]) -> None:
        """Take a copy of a model but for its backbone."""
        super().__init__()
        self.given = _Given()
        self.rest = copy.deepcopy(model, {id(model.model.backbone): self.given})
        self.rest.model.backbone = self.given
        stride = model.config.backbone_config.patch_size
        cells = [(size[0] // stride, size[1] // stride)]
        nothing = torch.zeros(1, cells[0][0] * cells[0][1], model.config.d_model)
        _, proposals, invalid = model.model.gen_encoder_output_proposals(
            nothing, torch.zeros(nothing.shape[:2], dtype=torch.bool), cells
        )
        self.proposals, self.invalid = nn.Buffer(proposals), nn.Buffer(invalid)
        # They are the same for every frame, since there is no padding.
        self.rest.model.gen_encoder_output_proposals = self._proposals

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N,Q,K] and boxes [N,Q,4] of features [N,C,h,w]."""
        self.given.features = features
        # Of the first argument it asks the batch only.
        outputs = self.rest(features)
        return outputs.logits, outputs.pred_boxes

    def _proposals(
        self, memory: Tensor, mask: Tensor, shapes: object
    ) -> tuple[Tensor, Tensor, Tensor]:
        return memory.masked_fill(self.invalid, 0.0), self.proposals, self.invalid


class _Given(nn.Module):
    """Stands where the backbone stood, and returns what was given."""

    features: Tensor

    def forward(self, pixels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The features, and where they are valid: everywhere, in each frame."""
        rows, columns = (int(size) for size in self.features.shape[2:])
        return self.features, torch.ones(1, rows, columns, dtype=torch.bool)
