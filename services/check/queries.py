"""Matches the queries of two runs of a transformer that chooses and orders its queries itself.

RT-DETR, D-FINE and RF-DETR take the places of the feature map with the best scores as queries, in
the order of these scores. Where two scores are nearly equal, rounding decides which query comes
first, and which is the last to be taken. So the same query may stand in another row of another
engine's outputs, and a few may be missing.
"""

from __future__ import annotations

from typing import Dict, Mapping, Tuple

import numpy as np

Tensors = Mapping[str, np.ndarray]

# Those that are compared; the others may be of places that one engine took and the other did not.
_COMPARED_SHARE = 0.95


def matched_queries(outputs: Tensors, reference: Tensors) -> Tuple[Tensors, Tensors]:
    """The queries of a reference, and to each of them the one most like it.

    Args:
        outputs: of the transformer for one frame, float32 [1,Q,...] by name.
        reference: of the same, by the same names.

    Returns:
        The outputs and the reference of the queries that are the most alike, row by row. Outputs
        that are not finite stay as they are.
    """
    if not all(np.isfinite(array).all() for array in outputs.values()):
        return outputs, reference
    ours, exact = (_rows(tensors, reference) for tensors in (outputs, reference))
    # |a - b|^2 = |a|^2 - 2ab + |b|^2, without an array of Q x Q x K.
    distances = np.square(ours).sum(axis=1) - 2 * exact @ ours.T
    nearest = distances.argmin(axis=1)
    errors = np.square(ours[nearest] - exact).sum(axis=1)
    compared = np.sort(np.argsort(errors)[: max(1, int(len(errors) * _COMPARED_SHARE))])
    return _of_queries(outputs, nearest[compared]), _of_queries(reference, compared)


def _rows(tensors: Tensors, reference: Tensors) -> np.ndarray:
    """All of a query's numbers in one row, float64 [Q,n], each output in its own deviations."""
    scaled = [tensors[name][0].astype(np.float64) / one.std() for name, one in reference.items()]
    return np.concatenate(scaled, axis=1)


def _of_queries(tensors: Tensors, queries: np.ndarray) -> Dict[str, np.ndarray]:
    return {name: array[:, queries] for name, array in tensors.items()}
