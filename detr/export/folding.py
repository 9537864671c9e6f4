"""Computes what a graph computes from shapes alone, once, where the graph is written.

A traced graph asks at every reshape how large its tensors are. Where height and width are fixed,
all answers but the batch are constants, and so are the grids and encodings that are made of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Values = dict[str, NDArray[np.generic]]


def fold_shapes(model: onnx.ModelProto, feeds: Sequence[Mapping[str, NDArray[np.float32]]]) -> None:
    """Replace, in place, what depends on no element of an input by its value.

    Only what reaches the inputs through their shapes alone is evaluated, for each of the feeds;
    what differs between them stays, but for a Reshape of which one size differs: that size becomes
    -1.

    Args:
        model: the graph, without subgraphs.
        feeds: inputs by name, at least two that differ in every size that is dynamic.
    """
    graph = model.graph
    names = _shape_values(graph)
    if not names:
        return
    first, *others = (_evaluate(model, names, feed) for feed in feeds)
    constant = {
        name: value
        for name, value in first.items()
        if all(np.array_equal(value, other[name]) for other in others)
    }
    for node in graph.node:
        if node.op_type == "Reshape" and node.input[1] in first:
            target = _one_free_size([values[node.input[1]] for values in (first, *others)])
            if target is not None:
                node.input[1] = _add_constant(graph, f"{node.output[0]}_sizes", target)
    _replace(graph, constant)
    _remove_unused(graph)
    # Of shapes that it had before; runtimes infer their own.
    del graph.value_info[:]


def _shape_values(graph: onnx.GraphProto) -> list[str]:
    """Names of values that depend on no element of an input, in the graph's order."""
    of_data = {value.name for value in graph.input}
    names = []
    for node in graph.node:
        if node.op_type == "Shape" or not any(name in of_data for name in node.input):
            names += list(node.output)
        else:
            of_data.update(node.output)
    return names


def _evaluate(
    model: onnx.ModelProto, names: Sequence[str], feed: Mapping[str, NDArray[np.float32]]
) -> Values:
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    del probed.graph.output[:]
    probed.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # What it would optimise away is asked for.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        probed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return dict(zip(names, session.run(list(names), dict(feed)), strict=True))


def _one_free_size(targets: Sequence[NDArray[np.generic]]) -> NDArray[np.int64] | None:
    """A reshape's target that fits all of these, or None: at most one size differs."""
    stacked = np.stack(targets).astype(np.int64)
    differing = (stacked != stacked[0]).any(axis=0)
    if differing.sum() != 1 or (stacked <= 0).any():
        return None
    return np.where(differing, -1, stacked[0])


def _replace(graph: onnx.GraphProto, constant: Values) -> None:
    kept = []
    for node in graph.node:
        if all(name in constant for name in node.output):
            for name in node.output:
                _add_constant(graph, name, constant[name])
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _add_constant(graph: onnx.GraphProto, name: str, value: NDArray[np.generic]) -> str:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and initializers that no output needs."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if any(name in needed for name in node.output):
            needed.update(node.input)
            kept.append(node)
    _keep(graph.node, reversed(kept))
    _keep(graph.initializer, [each for each in graph.initializer if each.name in needed])


def _keep(field: object, kept: Iterable[object]) -> None:
    kept = list(kept)
    del field[:]  # type: ignore[attr-defined]
    field.extend(kept)  # type: ignore[attr-defined]
