"""Which numbers may be features."""

from __future__ import annotations

import numpy as np

MAX_FEATURE = 65536.0
"""No feature is larger: binary16, as which features may travel, ends just below."""


def are_features(values: np.ndarray) -> bool:
    """Whether all are numbers, and none is so large that a sound engine makes infinities of it."""
    # Comparisons with NaN, which is the least and the largest wherever there is one, are false.
    return bool(values.min() >= -MAX_FEATURE and values.max() <= MAX_FEATURE)
