"""Where discrete sampling reads: what the comparison gives to the model, and what it does not."""

import numpy as np
import onnx
import pytest
import torch

from detr.errors import ExportError
from detr.families.graphs import check_halves
from detr.families.sampling import GivenCells, outputs_of_cells, reading

LAYERS, LEVELS = 2, 2
SIDE = 4


def sampled(at, cell):
    """Sample a level of 4 x 4 cells, numbered row by row, with one point and one head.

    Args:
        at: x and y, in cells from the level's corner.
        cell: x and y of the cell that is given.

    Returns:
        The number of the cell that was read, and the gap.
    """
    from transformers.models.rt_detr_v2 import modeling_rt_detr_v2 as modeling

    given = GivenCells((np.array(cell).reshape(1, 1, 1, 2),))
    read = given.sample(
        modeling.multi_scale_deformable_attention_v2,
        torch.arange(float(SIDE * SIDE)).reshape(1, -1, 1, 1),
        [(SIDE, SIDE)],
        ((torch.tensor(at) - 0.5) / SIDE).reshape(1, 1, 1, 1, 2),
        torch.ones(1, 1, 1, 1),
        [1],
        "discrete",
    )
    return read.item(), given.gap


@pytest.mark.parametrize(
    ("at", "cell", "number", "gap"),
    [
        ((2.5, 1.5), (2, 1), 6, 0),
        ((2.9999, 1.5), (3, 1), 7, 0.0001 / SIDE),
        ((3.0001, 1.5), (2, 1), 6, 0.0001 / SIDE),
        ((2.5, 1.5), (1, 3), 13, 1.5 / SIDE),
        # Outside, both are held inside.
        ((-3.2, 9.0), (-3, 8), 12, 0),
        ((-0.4, 1.5), (-1, 1), 4, 0),
    ],
)
def test_a_sample_moves_to_the_given_cell_and_the_way_there_is_told(at, cell, number, gap):
    read, told = sampled(at, cell)
    assert read == number
    assert told == pytest.approx(gap, abs=1e-6)


def test_a_graph_tells_its_cells_by_layer_and_level(exported):
    graph = onnx.load(str(exported["d_fine discrete"][1])).graph
    assert len(outputs_of_cells(graph)) == LAYERS * LEVELS
    for name in ("d_fine", "rt_detr_v2", "rf_detr", "conditional_detr"):
        assert outputs_of_cells(onnx.load(str(exported[name][1])).graph) == []


def test_a_half_that_rounds_otherwise_is_told(splits, exported, tmp_path):
    """As an exporter would that rounds down, or halves to even."""
    backbone, transformer = exported["d_fine discrete"]
    model = onnx.load(str(transformer))
    cells = outputs_of_cells(model.graph)
    casts = [node.input[0] for node in model.graph.node if node.output[0] in cells]
    added = {node.input[1] for node in model.graph.node if node.output[0] in casts}
    halves = [each for each in model.graph.initializer if each.name in added]
    assert halves
    for half in halves:
        assert onnx.numpy_helper.to_array(half) == np.float32(0.5)
        half.CopyFrom(onnx.numpy_helper.from_array(np.float32(0.45), half.name))
    other = tmp_path / "transformer.onnx"
    onnx.save(model, str(other))
    with pytest.raises(ExportError, match="differ"):
        check_halves(splits["d_fine discrete"], backbone, other)


@torch.inference_mode()
def test_a_model_that_samples_more_or_less_often_is_told(splits):
    whole = splits["d_fine discrete"].whole
    batch = torch.zeros(1, 3, 128, 128), torch.zeros(1, 128, 128, dtype=torch.bool)
    cell = np.zeros((2, 12, 3, 2), np.int64)
    with pytest.raises(ExportError, match="more often"), reading(whole, (cell,)):
        whole(*batch)
    with pytest.raises(ExportError, match="less often"), reading(whole, (cell,)):
        pass
