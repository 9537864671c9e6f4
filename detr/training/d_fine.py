"""Training D-FINE (Peng et al., 2024, arXiv 2410.13842): transformers' model and its losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import DFineConfig, DFineForObjectDetection
from transformers.loss.loss_d_fine import DFineLoss

from common.bundle import Category, SigmoidScoring
from common.domain.frames import FrameGeometry
from detr.training.batches import Batch
from detr.training.evaluation import Detector
from detr.training.optimisation import Phase
from detr.training.recipe import Recipe
from detr.training.state import memory_format
from detr.training.task import mixed_precision

Labels = list[dict[str, Tensor]]
"""For each image `class_labels` [T] and `boxes` [T,4], as transformers takes them."""


class DFineNetwork(nn.Module):
    """A D-FINE as it is trained: every layer's outputs, and the denoising queries'."""

    def __init__(self, config: DFineConfig) -> None:
        """Build with transformers' starting values, which come from torch's generator."""
        super().__init__()
        self.d_fine = DFineForObjectDetection(config)
        self.criterion: Any = DFineLoss(config)  # type: ignore[no-untyped-call]

    def forward(self, images: Tensor, labels: Labels) -> Any:
        """Images [N,3,H,W] to transformers' `DFineModelOutput`; `labels` are for denoising."""
        return self.d_fine.model(images, labels=labels)


class DFineTask:
    """Set prediction and denoising from labelled pictures, without a teacher."""

    loss_names = ("loss", "classes", "l1", "giou", "corners", "denoising")

    def __init__(self, say: Callable[[str], None] = lambda _: None) -> None:
        """`say` is called with what of the recipe's weights is not used."""
        self._say = say

    def build(self, recipe: Recipe) -> nn.Module:
        """See `Task`."""
        return DFineNetwork(training_config(recipe))

    def begin_phase(self, recipe: Recipe, model: nn.Module, phase: Phase, anew: bool) -> None:
        """Leave everything trainable; there is one phase only."""

    def train_mode(self, model: nn.Module, phase: Phase) -> None:
        """See `Task`."""
        model.train()

    def losses(self, recipe: Recipe, network: nn.Module, batch: Batch, step: int) -> Tensor:
        """See `Task`."""
        images = batch.images.contiguous(memory_format=memory_format(recipe, batch.images.device))
        labels = labels_of(batch)
        with mixed_precision(recipe, batch.images.device):
            output = network(images, labels)
        return loss_row(set_losses(_inner(network).criterion, output, labels))

    def detector(
        self,
        recipe: Recipe,
        average: dict[str, Tensor],
        categories: tuple[Category, ...],
        device: torch.device,
    ) -> Detector:
        """See `Task`."""
        model = plain_d_fine(recipe, average)
        return Detector(
            predict=d_fine_predictor(model, device),
            policy=recipe.input,
            normalization=recipe.normalization,
            categories=categories,
            scoring=SigmoidScoring(top_k=model.config.num_queries),
        )


def _inner(network: nn.Module) -> DFineNetwork:
    """The network itself, where several processes wrap it."""
    inner = network.module if isinstance(network, DistributedDataParallel) else network
    return cast(DFineNetwork, inner)


def training_config(recipe: Recipe) -> DFineConfig:
    """Return the configuration that a recipe's model is built by."""
    return DFineConfig(
        **(recipe.configuration or {}), freeze_backbone_batch_norms=recipe.norm == "frozen"
    )


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
        criterion: transformers' losses.
        output: of `DFineNetwork`.
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
    nothing = total.new_zeros(())
    return torch.stack(
        [
            total,
            found["loss_vfl"],
            found["loss_bbox"],
            found["loss_giou"],
            found["loss_fgl"],
            torch.stack(denoising).sum() if denoising else nothing,
        ]
    )


def plain_d_fine(recipe: Recipe, average: dict[str, Tensor]) -> DFineForObjectDetection:
    """Return the averaged weights as the plain model that ships."""
    model = DFineForObjectDetection(training_config(recipe))
    prefix = "d_fine."
    model.load_state_dict(
        {name.removeprefix(prefix): v for name, v in average.items() if name.startswith(prefix)}
    )
    return model.eval()


def d_fine_predictor(model: DFineForObjectDetection, device: torch.device) -> Any:
    """Predict with a model in torch, which is put on a device."""
    model.to(device).eval()

    @torch.inference_mode()
    def predict(
        pixels: NDArray[np.float32], geometry: FrameGeometry
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        output = model(torch.from_numpy(pixels).to(device))
        return output.logits[0].cpu().numpy(), output.pred_boxes[0].cpu().numpy()

    return predict
