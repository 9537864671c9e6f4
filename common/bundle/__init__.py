"""A bundle: a folder with one model, split in two ONNX halves, and all that is needed to run it."""

from common.bundle.architecture import Architecture
from common.bundle.cut import MAX_CUT_TENSORS, CutTensor
from common.bundle.folder import (
    PART_OF,
    BottleneckPart,
    Bundle,
    Graph,
    load_bundle,
    write_bundle,
)
from common.bundle.manifest import (
    Category,
    DetrManifest,
    FamilyManifest,
    Manifest,
    Opset,
    RecommendedPrecision,
    require_detr,
)
from common.bundle.preparation import (
    DetrInput,
    FixedInput,
    InputPolicy,
    Normalization,
    ShortestEdgeInput,
    StretchInput,
)
from common.bundle.scoring import Scoring, SigmoidScoring, SoftmaxScoring
from common.bundle.travel import (
    Bottleneck,
    Calibration,
    CodecDefaults,
    LatentRate,
    RateMeasurement,
)

__all__ = [
    "MAX_CUT_TENSORS",
    "PART_OF",
    "Architecture",
    "Bottleneck",
    "BottleneckPart",
    "Bundle",
    "Calibration",
    "Category",
    "CodecDefaults",
    "CutTensor",
    "DetrInput",
    "DetrManifest",
    "FamilyManifest",
    "FixedInput",
    "Graph",
    "InputPolicy",
    "LatentRate",
    "Manifest",
    "Normalization",
    "Opset",
    "RateMeasurement",
    "RecommendedPrecision",
    "Scoring",
    "ShortestEdgeInput",
    "SigmoidScoring",
    "SoftmaxScoring",
    "StretchInput",
    "load_bundle",
    "require_detr",
    "write_bundle",
]
