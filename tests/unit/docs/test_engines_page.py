"""The table of families by engine and half says what the graphs and the engines say."""

import importlib.util
import re
from contextlib import closing

import pytest

from common.bundle import load_bundle
from common.domain.errors import UnsupportedGraphError
from common.domain.placement import Stage
from common.engines.operators import operators_of
from common.engines.registry import load_engine
from common.engines.tensorrt.operators import require_readable
from tests.harness import ROOT

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs/engines.md").read_text().splitlines()
    if re.match(r"\| `\w[\w-]*` \| (backbone|transformer) ", line)
]
FOLDERS = {path.parent.name: path.parent for path in ROOT.glob("tests/data/families/*/bundle.json")}
FOLDERS["demo-r50"] = ROOT / "models/demo-r50"


def reads(release, graph):
    try:
        require_readable(release, "half", graph)
    except UnsupportedGraphError:
        return "no"
    return "yes"


def test_every_family_has_a_row_for_each_half():
    told = {(row[0].strip("`"), row[1]) for row in ROWS}
    assert told == {(name, stage.value) for name in FOLDERS for stage in Stage}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_a_row_is_what_graph_and_engines_say(row):
    name, half, opset, beyond, old, new, onnxruntime, openvino = row
    bundle = load_bundle(FOLDERS[name.strip("`")])
    path = bundle.onnx_path(Stage(half))
    graph = operators_of(path.read_bytes(), path.name)
    listed = (ROOT / "tests/data/tensorrt-api/operators-8.2.txt").read_text().splitlines()
    assert int(opset) == graph.opset
    assert beyond == ", ".join(sorted(graph.operators - set(listed)))
    assert old == reads("8.2.1.8", graph)
    assert new == reads("8.5.3", graph) == reads("10.3.0", graph)
    for engine, told in (("onnxruntime", onnxruntime), ("openvino", openvino)):
        if importlib.util.find_spec(engine) is not None:
            with closing(load_engine(engine, path, 1)):
                assert told == "yes"
