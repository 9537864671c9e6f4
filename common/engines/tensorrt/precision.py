"""Decides which layers stay in fp32 when the rest is computed in fp16.

It looks at how layers are connected, because an engine knows no model. fp16 has 11 bits and ends at
65504: sums of squares overflow, and means, roots and exponentials lose what the boxes need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, List, Sequence, Set, Tuple

# Names of TensorRT's LayerType.
# A normalisation is one layer where the graph has it as one operator. In fp16 it ruined D-FINE
# (its issue 44), and alone in fp32 it mended that.
_SENSITIVE = frozenset({"SOFTMAX", "REDUCE", "UNARY", "NORMALIZATION"})
_CARRIERS = frozenset({"SHUFFLE", "IDENTITY", "CAST"})


@dataclass(frozen=True)
class Layer:
    """A layer of a network.

    Attributes:
        kind: the name of its LayerType.
        inputs: the names of the tensors that it reads.
        outputs: the names of the tensors that it writes.
        is_float: whether it computes floating-point numbers rather than shapes or flags.
    """

    kind: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    is_float: bool


def sensitive_layers(layers: Sequence[Layer], network_inputs: Iterable[str]) -> List[int]:
    """Find the indices of the layers that have to stay in fp32.

    They are every softmax, normalisation, reduction and unary function (root, exponential); the
    element-wise layers around a reduction or a unary function, which with it make a layer
    normalisation (difference from the mean, square, variance plus epsilon, quotient); and the
    element-wise layers that take an input of the network as it is, such as a positional encoding
    or a mask that is added.
    """
    source = _sources(layers)
    near_inputs = set(network_inputs)
    statistics: Set[str] = set()
    read_by_statistics: Set[str] = set()
    for layer in layers:
        if layer.kind in ("REDUCE", "UNARY"):
            statistics.update(layer.outputs)
            read_by_statistics.update(source[name] for name in layer.inputs)
    around = near_inputs | statistics
    found = []
    for index, layer in enumerate(layers):
        read = {source[name] for name in layer.inputs}
        is_around = layer.kind == "ELEMENTWISE" and (
            bool(read & around) or bool(set(layer.outputs) & read_by_statistics)
        )
        if layer.is_float and (layer.kind in _SENSITIVE or is_around):
            found.append(index)
    return found


def _sources(layers: Sequence[Layer]) -> Dict[str, str]:
    """Map each tensor to the one whose values it holds, seen through reshapes and casts."""
    source: Dict[str, str] = {}
    for layer in layers:
        for name in layer.inputs:
            source.setdefault(name, name)
        for name in layer.outputs:
            carried = layer.kind in _CARRIERS and layer.inputs
            source[name] = source[layer.inputs[0]] if carried else name
    return source
