"""Plain DETR (Carion et al., 2020, arXiv 2005.12872), under the official code's parameter names."""

from detr.model.detr import DETR, DetrOutput
from detr.model.resnet import FrozenBatchNorm2d, NormLayer

__all__ = ["DETR", "DetrOutput", "FrozenBatchNorm2d", "NormLayer"]
