"""The losses of D-FINE (Peng et al., 2024, arXiv 2410.13842): transformers' own, layer by layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from detr.training.batches import Batch
from detr.training.d_fine_model import Labels

LOSS_NAMES = ("loss", "classes", "l1", "giou", "corners", "denoising")
"""What `loss_row` returns."""


def labels_of(batch: Batch) -> Labels:
    """Return a batch's objects as transformers takes them."""
    return [
        {"class_labels": classes[:count], "boxes": boxes[:count]}
        for classes, boxes, count in zip(batch.classes, batch.boxes, batch.counts, strict=True)
    ]


def set_losses(criterion: Any, output: Any, labels: Labels) -> dict[str, Tensor]:
    """Return transformers' losses of every layer, by its names, weighted.

    Each layer's logits, boxes and corner distributions go to `DFineLoss` together, as in D-FINE's
    own code; `DFineForObjectDetectionLoss` of transformers 5.23 pairs the logits and boxes of one
    layer with the corners of the next, and leaves the last layer's corners out.

    Args:
        criterion: transformers' `DFineLoss`.
        output: its `DFineModelOutput`, of a model in training mode.
        labels: what there is to be found.
    """
    denoising = output.denoising_meta_values
    queries = output.enc_topk_logits.shape[1]
    given = output.intermediate_logits.shape[2] - queries
    layers = _layers(output, slice(given, None))
    proposals = {"logits": output.enc_topk_logits, "pred_boxes": _clamped(output.enc_topk_bboxes)}
    outputs = {**layers[-1], "auxiliary_outputs": [*layers[:-1], proposals]}
    if denoising is not None:
        outputs["dn_auxiliary_outputs"] = _layers(output, slice(0, given))
        outputs["denoising_meta_values"] = denoising
    found: dict[str, Tensor] = criterion(outputs, labels)
    return found


def _layers(output: Any, queries: slice) -> list[dict[str, Tensor]]:
    """What is known of each layer of the decoder, the last of which teaches the others.

    The first entry is the rough box before the first refinement, which has no corners.
    """
    logits = output.intermediate_logits[:, :, queries]
    boxes = _clamped(output.intermediate_reference_points[:, :, queries])
    corners = output.intermediate_predicted_corners[:, :, queries]
    places = output.initial_reference_points[:, :, queries]
    rough = {"logits": logits[:, 0], "pred_boxes": boxes[:, 0]}
    return [
        rough,
        *(
            {
                "logits": logits[:, layer + 1],
                "pred_boxes": boxes[:, layer + 1],
                "pred_corners": corners[:, layer],
                "ref_points": places[:, layer],
                "teacher_corners": corners[:, -1],
                "teacher_logits": logits[:, -1],
            }
            for layer in range(corners.shape[1])
        ),
    ]


def _clamped(boxes: Tensor) -> Tensor:
    return boxes.clamp(min=0, max=1)


def loss_row(found: dict[str, Tensor]) -> Tensor:
    """Return [6]: what is minimised, the last layer's parts, the denoising queries' total."""
    total = torch.stack(list(found.values())).sum()
    denoising = [value for name, value in found.items() if "_dn_" in name]
    return torch.stack(
        [
            total,
            found["loss_vfl"],
            found["loss_bbox"],
            found["loss_giou"],
            found["loss_fgl"],
            torch.stack(denoising).sum() if denoising else total.new_zeros(()),
        ]
    )
