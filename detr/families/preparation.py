"""How frames are prepared, as `preprocessor_config.json` says: honoured, or refused by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from common.bundle import InputPolicy, Normalization, ShortestEdgeInput, StretchInput
from common.validation import reason
from detr.errors import WeightsError
from detr.families.base import Preparation
from detr.families.fields import Fields
from detr.importing.hub import three_numbers
from detr.importing.known_fields import names
from detr.importing.processors import PREPROCESSOR_NAME, require_processor
from detr.importing.stated import Reader, shown

NOT_NORMALISED = Normalization(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
_BILINEAR = 2
_FIELDS = Fields(
    honoured=names("do_normalize image_mean image_std max_size rescale_factor size"),
    only={
        "do_rescale": (True,),
        "do_resize": (True,),
        "do_center_crop": (False, None),
        "format": ("coco_detection", None),
        "pad_size": (None,),
        "resample": (_BILINEAR, None),
    },
    # Of labels, of batches (one frame is never padded), of where pictures come from and go to.
    irrelevant=names(
        "_processor_class _valid_processor_keys annotations data_format default_to_square device "
        "disable_grouping do_convert_annotations do_convert_rgb do_pad do_reduce_labels "
        "feature_extractor_type image_processor_type input_data_format masks_path "
        "model_input_names processor_class return_segmentation_masks return_tensors"
    ),
)


def stretched(
    stated: Mapping[str, Any], processor: str, side: int, normalization: Normalization
) -> Preparation:
    """The preparation of a family whose input is of one size and never padded.

    Args:
        stated: the content of `preprocessor_config.json`; empty if there is none.
        processor: what the name of the family's image processor begins with.
        side: of the input where nothing is stated, pixels.
        normalization: where nothing is stated.

    Raises:
        WeightsError: something is stated that Tandem does not do.
    """
    require_processor(stated, processor)
    size = stated.get("size")
    policy: InputPolicy = StretchInput(height=side, width=side)
    if size is not None:
        reader = Reader(f"{PREPROCESSOR_NAME}, size", size if isinstance(size, dict) else {})
        height, width = reader.whole("height"), reader.whole("width")
        if height is None or width is None or set(_given(size)) != {"height", "width"}:
            raise WeightsError(
                f"{PREPROCESSOR_NAME}: size is {shown(size)}, and Tandem takes only a height and "
                "a width there."
            )
        policy = _policy(StretchInput, height=height, width=width)
    return Preparation(policy, _normalization(stated, normalization))


def shortest_edge(stated: Mapping[str, Any], processor: str) -> Preparation:
    """The preparation of a family that is resized as DETR is; arguments as `stretched`."""
    require_processor(stated, processor)
    size = stated.get("size")
    if type(size) is int:
        size = {"shortest_edge": size, "longest_edge": stated.get("max_size") or 1333}
    policy: InputPolicy = ShortestEdgeInput()
    if size is not None:
        reader = Reader(f"{PREPROCESSOR_NAME}, size", size if isinstance(size, dict) else {})
        short, long = reader.whole("shortest_edge"), reader.whole("longest_edge")
        if short is None or long is None or len(_given(size)) != 2:
            raise WeightsError(
                f"{PREPROCESSOR_NAME}: size is {shown(size)}, and Tandem takes only a "
                "shortest_edge and a longest_edge there."
            )
        policy = _policy(ShortestEdgeInput, shortest_edge=short, longest_edge=long)
    return Preparation(policy, _normalization(stated, Normalization()))


def _given(size: Any) -> list[str]:
    return [name for name, value in size.items() if value is not None]


def _policy(kind: Any, **sizes: int) -> InputPolicy:
    try:
        return kind(**sizes)  # type: ignore[no-any-return]
    except ValidationError as error:
        first = reason(error.errors()[0])
        raise WeightsError(f"{PREPROCESSOR_NAME}: size cannot be used: {first}.") from error


def _normalization(stated: Mapping[str, Any], default: Normalization) -> Normalization:
    _FIELDS.checked(stated, PREPROCESSOR_NAME)
    factor = stated.get("rescale_factor")
    if factor is not None and not (
        type(factor) in (int, float) and math.isclose(factor, 1 / 255, rel_tol=1e-6)
    ):
        raise WeightsError(
            f"{PREPROCESSOR_NAME}: rescale_factor is {shown(factor)}, and Tandem has only 1/255."
        )
    # Without a value it is not done, unlike where nothing is said.
    given = Reader(PREPROCESSOR_NAME, stated).flag("do_normalize")
    if not (given if "do_normalize" in stated else default != NOT_NORMALISED):
        return NOT_NORMALISED
    imagenet = Normalization()
    return Normalization(
        mean=three_numbers(stated, "image_mean") or imagenet.mean,
        std=three_numbers(stated, "image_std", positive=True) or imagenet.std,
    )
