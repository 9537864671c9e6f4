"""Runs a paced engine on a shared device: prints when each execution ended, until it is killed."""

import sys
import time
from pathlib import Path

import numpy as np

from common.bundle import load_bundle
from common.domain.placement import Stage
from common.engines.paced import PacedEngine, SimulatedDevice
from common.engines.registry import load_engine


def main(bundle: str, device: str, seconds: float) -> None:
    path = load_bundle(Path(bundle)).onnx_path(Stage.BACKBONE)
    engine = PacedEngine(load_engine("none", path, 1), seconds, SimulatedDevice(device))
    inputs = {"pixels": np.zeros((1, 3, 64, 64), np.float32)}
    while True:
        engine.run(inputs)
        sys.stdout.write(f"{time.monotonic()}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
