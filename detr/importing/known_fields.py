"""Fields of `config.json` that change no detection, and those of DETR's own configuration.

They are those of transformers, versions 4.20 to 5.23.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def names(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


# Of saving, of transformers' own running, and of names, which are read elsewhere.
COMMON = names(
    "_attn_implementation _commit_hash _name_or_path architectures attn_implementation "
    "chunk_size_feed_forward disable_custom_kernels dtype id2label is_encoder_decoder label2id "
    "model_type num_labels "
    "output_attentions output_hidden_states problem_type return_dict tie_word_embeddings "
    "torch_dtype transformers_version use_cache"
)
# Of training: starting values, losses and their matching, noise, what is frozen.
TRAINING = names(
    "activation_dropout attention_dropout attention_probs_dropout_prob auxiliary_loss bbox_cost "
    "bbox_loss_coefficient box_noise_scale class_cost class_loss_coefficient classifier_dropout "
    "cls_loss_coefficient decoder_layerdrop dice_loss_coefficient drop_path_rate dropout "
    "encoder_layerdrop eos_coefficient focal_alpha focal_loss_alpha focal_loss_gamma "
    "freeze_backbone_batch_norms giou_cost giou_loss_coefficient group_detr hidden_dropout_prob "
    "init_std init_xavier_std initializer_bias_prior_prob initializer_range label_noise_ratio "
    "layerscale_value mask_loss_coefficient matcher_alpha matcher_bbox_cost matcher_class_cost "
    "matcher_gamma matcher_giou_cost num_denoising use_focal_loss weight_loss_bbox "
    "weight_loss_ddf weight_loss_fgl weight_loss_giou weight_loss_vfl"
)
# Of text that is generated; releases before 5 write them into every configuration in another one.
TEXT = names(
    "diversity_penalty encoder_no_repeat_ngram_size length_penalty max_length min_length "
    "no_repeat_ngram_size num_beam_groups num_beams num_return_sequences repetition_penalty "
    "temperature top_k top_p typical_p"
)
ABSENT: tuple[Any, ...] = (None, False, [], {})
"""What a field says that is not used, as of a backbone that stands in `backbone_config`."""

# Of running, of saving and of text, which releases before 5 write where somebody set them.
_BASE = names(
    "_num_labels bos_token_id eos_token_id finetuning_task gradient_checkpointing pad_token_id "
    "prefix sep_token_id task_specific_params tf_legacy_loss tokenizer_class torchscript "
    "use_bfloat16"
)
# Read, held against the weights, or refused by `detr.importing.hub`. The decoder and the encoder
# of DETR have no other count of layers or positions than these.
_DETR = names(
    "activation_function backbone backbone_config backbone_kwargs d_model decoder_attention_heads "
    "decoder_ffn_dim decoder_layers dilation encoder_attention_heads encoder_ffn_dim "
    "encoder_layers hidden_size max_position_embeddings normalize_before num_attention_heads "
    "num_channels num_hidden_layers num_queries position_embedding_type pruned_heads "
    "quantization_config scale_embedding use_pretrained_backbone use_timm_backbone"
)
_BACKBONE = names(
    "backbone depths downsample_in_bottleneck downsample_in_first_stage embedding_size "
    "features_only freeze_batch_norm_2d hidden_act hidden_sizes layer_type num_channels "
    "out_features out_indices output_stride stage_names use_pretrained_backbone use_timm_backbone"
)
_WITHOUT_EFFECT = COMMON | TRAINING | TEXT | _BASE


def unknown_to_detr(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields of a DETR's configuration that no release of transformers gives it."""
    inner = config.get("backbone_config")
    nested = inner if isinstance(inner, dict) else {}
    return (
        *_unknown(config, _DETR),
        *(f"backbone_config.{name}" for name in _unknown(nested, _BACKBONE)),
    )


def _unknown(config: Mapping[str, Any], known: frozenset[str]) -> list[str]:
    known = known | _WITHOUT_EFFECT
    return sorted(name for name in config if name not in known and config[name] not in ABSENT)
