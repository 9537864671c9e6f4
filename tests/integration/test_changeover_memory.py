"""While a bundle changes, a stage has two models in memory, and afterwards one again."""

import hashlib
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from common.bundle import load_bundle
from tests.bundles import version_of_toy
from tests.changing import deploy, until_one_is_loaded
from tests.harness import Cluster
from tests.streams import detect, frame, options
from tests.waiting import until

MEBIBYTE = 1 << 20
# Of the backbone; far more than all else that may come and go in a stage's memory.
WEIGHTS_BYTES = 64 * MEBIBYTE


def heavy_version(folder, name):
    """A version of the toy bundle whose backbone has large weights, and computes the same."""
    path = version_of_toy(folder, name).folder / "backbone.onnx"
    model = onnx.load(path)
    graph = model.graph
    graph.node[-1].output[0] = "light"
    # Which weight is wanted depends on the input: ONNX Runtime cannot do away with the others.
    weights = np.arange(WEIGHTS_BYTES // 4, dtype=np.float32)
    graph.initializer.append(numpy_helper.from_array(weights, "weights"))
    graph.initializer.append(numpy_helper.from_array(np.float32(0.0), "zero"))
    graph.node.extend(
        [
            helper.make_node("ReduceMax", ["pixels"], ["most"], keepdims=0),
            helper.make_node("Mul", ["most", "zero"], ["nothing"]),
            helper.make_node("Cast", ["nothing"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["weights", "index"], ["chosen"]),
            helper.make_node("Mul", ["chosen", "zero"], ["added"]),
            helper.make_node("Add", ["light", "added"], ["features"]),
        ]
    )
    onnx.save(model, path)
    manifest = path.with_name("bundle.json")
    told = json.loads(manifest.read_text())
    told["files"]["backbone.onnx"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(told))
    return load_bundle(path.parent)


class Memory:
    """The resident memory of a process, as Linux tells it."""

    def __init__(self, process):
        self._pid = process.process.pid

    def bytes(self, kind="VmRSS"):
        """Now, or by `VmHWM` the most since `forget`."""
        with open(f"/proc/{self._pid}/status", encoding="ascii") as file:
            (line,) = [line for line in file if line.startswith(kind)]
        return int(line.split()[1]) << 10

    def forget(self):
        """Have the most begin anew."""
        with open(f"/proc/{self._pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")

    async def until_below(self, limit):
        await until(lambda: self.bytes() <= limit, f"it keeps more than {limit} bytes", 30)


@pytest.mark.alone
async def test_the_memory_of_the_bundle_before_comes_back(tmp_path):
    light = version_of_toy(tmp_path, "light")
    heavy = [heavy_version(tmp_path, name) for name in ("first", "second")]
    cluster = Cluster(light.folder, ("--bundles", str(tmp_path)), nodes=("edge",))
    memory = Memory(cluster.stages["edge.backbone"])

    async def change_to(bundle):
        await deploy(cluster.address, bundle.folder.name, bundle)
        await detect(cluster.address, [options(), frame(1)])
        await until_one_is_loaded(cluster)

    try:
        await detect(cluster.address, [options(), frame(1)])
        base = memory.bytes()
        await change_to(heavy[0])
        # What making a session takes, beside the weights, is given back as well.
        await memory.until_below(base + 1.5 * WEIGHTS_BYTES)
        assert memory.bytes() > base + 0.9 * WEIGHTS_BYTES
        memory.forget()
        await change_to(heavy[1])
        assert memory.bytes("VmHWM") > base + 1.9 * WEIGHTS_BYTES
        await memory.until_below(base + 1.5 * WEIGHTS_BYTES)
        await change_to(light)
        await memory.until_below(base + 0.5 * WEIGHTS_BYTES)
    finally:
        cluster.close()
