"""A bundle: a folder with one model, split in two ONNX halves, and all that is needed to run it."""

from common.bundle.folder import (
    PART_OF,
    BottleneckPart,
    Bundle,
    Graph,
    load_bundle,
    write_bundle,
)
from common.bundle.manifest import (
    Architecture,
    Bottleneck,
    Calibration,
    Category,
    CodecDefaults,
    FixedInput,
    InputPolicy,
    LatentRate,
    Manifest,
    Normalization,
    RateMeasurement,
    ShortestEdgeInput,
)

__all__ = [
    "PART_OF",
    "Architecture",
    "Bottleneck",
    "BottleneckPart",
    "Bundle",
    "Calibration",
    "Category",
    "CodecDefaults",
    "FixedInput",
    "Graph",
    "InputPolicy",
    "LatentRate",
    "Manifest",
    "Normalization",
    "RateMeasurement",
    "ShortestEdgeInput",
    "load_bundle",
    "write_bundle",
]
