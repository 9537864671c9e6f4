"""A bundle: a folder with one model, split in two ONNX halves, and all that is needed to run it."""

from common.bundle.folder import Bundle, load_bundle, write_bundle
from common.bundle.manifest import (
    Architecture,
    Calibration,
    Category,
    CodecDefaults,
    FixedInput,
    InputPolicy,
    Manifest,
    Normalization,
    ShortestEdgeInput,
)

__all__ = [
    "Architecture",
    "Bundle",
    "Calibration",
    "Category",
    "CodecDefaults",
    "FixedInput",
    "InputPolicy",
    "Manifest",
    "Normalization",
    "ShortestEdgeInput",
    "load_bundle",
    "write_bundle",
]
