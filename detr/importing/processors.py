"""The image processor that stands beside weights: where it is read, and whose it has to be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detr.errors import WeightsError
from detr.importing.reading import read_config
from detr.importing.stated import shown

PREPROCESSOR_NAME = "preprocessor_config.json"
_PROCESSOR_NAME = "processor_config.json"
# The second is what releases before 4.24 write.
_TYPES = ("image_processor_type", "feature_extractor_type")
_ENDINGS = re.compile(r"(?:ImageProcessor(?:Fast|Pil)?|FeatureExtractor)$")


def read_processor(path: Path) -> dict[str, Any]:
    """Read what prepares frames, in or beside `path`; empty where nothing says it.

    As in transformers, what a whole processor's file holds goes before the file of its own.

    Raises:
        WeightsError: a file is there, but is not a JSON object of that form.
    """
    inner = read_config(path, _PROCESSOR_NAME).get("image_processor")
    if inner is None:
        return read_config(path, PREPROCESSOR_NAME)
    if not isinstance(inner, dict):
        raise WeightsError(f"{_PROCESSOR_NAME}: image_processor is {shown(inner)}, not an object.")
    return inner


def require_processor(stated: Mapping[str, Any], prefix: str) -> None:
    """Refuse the image processor of another model.

    It differs in what it does where nothing is stated, and in how it makes detections of outputs.

    Args:
        stated: what the file says.
        prefix: of the name of the model's own.

    Raises:
        WeightsError: another one is named.
    """
    for name in _TYPES:
        value = stated.get(name)
        if value is None:
            continue
        if not isinstance(value, str) or _ENDINGS.sub("", value) != prefix:
            raise WeightsError(
                f"{PREPROCESSOR_NAME}: {name} is {shown(value)}, and Tandem takes only "
                f"'{prefix}ImageProcessor' there."
            )
        return
