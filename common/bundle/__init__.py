"""A bundle: a folder with one model, split in two ONNX halves, and all that is needed to run it."""

from common.bundle.folder import Bundle, load_bundle, write_bundle
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
    "Architecture",
    "Bottleneck",
    "Bundle",
    "Calibration",
    "Category",
    "CodecDefaults",
    "FixedInput",
    "InputPolicy",
    "LatentRate",
    "Manifest",
    "Normalization",
    "RateMeasurement",
    "ShortestEdgeInput",
    "load_bundle",
    "write_bundle",
]
