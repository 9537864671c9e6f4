"""What a step is given and tells, and the steps that look at the machine itself.

A step tells what it finds as lines of JSON on stdout, as soon as it knows, so that one that is
ended has told what it found until then.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "models" / "demo-r50"
CLIP = ROOT / "models" / "demo-clip"
_PACKAGES = (
    *("torch", "onnx", "onnxruntime", "cv2", "scipy", "pydantic", "pydantic_settings", "grpc"),
    *("grpc_health", "structlog", "zstandard", "pycocotools", "safetensors", "pynvml", "rich"),
    *("typer", "psutil", "prometheus_client", "resvg_py", "anyascii", "yaml", "matplotlib"),
)


@dataclass(frozen=True)
class Options:
    """What the script hands over to a step.

    Attributes:
        device: `cuda`, or `cpu` to try the steps without a GPU.
        quick: small models, short measurements.
        artwork: folder of packed artwork, or None.
        folder: for what the step makes.
        seconds: that the step should not exceed.
    """

    device: str
    quick: bool
    artwork: str | None
    folder: str
    seconds: float


def tell(**found: Any) -> None:
    """Report something found."""
    sys.stdout.write(f"RESULT {json.dumps(found)}\n")
    sys.stdout.flush()


def skip(reason: str) -> None:
    """Report that the step cannot be done here."""
    tell(status="skipped", reason=reason)


def without_gpu(options: Options) -> bool:
    """Whether the step is to run on a GPU that is not there; then says so."""
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        skip("PyTorch finds no GPU here")
        return True
    return False


def machine(options: Options) -> None:
    """Say what this is, and which packages are missing."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    tell(python=platform.python_version(), cores=os.cpu_count(), missing_packages=missing)
    import torch

    tell(torch=torch.__version__, cuda=torch.version.cuda, gpu=None)
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        free, total = torch.cuda.mem_get_info()
        tell(
            gpu=properties.name, memory_bytes=total, free_bytes=free, driver=_smi("driver_version")
        )


def sensors(options: Options) -> None:
    """Compare NVML's readings with nvidia-smi's, while the GPU works."""
    if without_gpu(options):
        return
    import torch

    from common.telemetry.sensors import find_sensors

    if options.device == "cuda":
        a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
        ends = time.monotonic() + 2
        while time.monotonic() < ends:
            for _ in range(20):
                a @ a
            torch.cuda.synchronize()
        for _ in range(1500):  # so that it works on while it is looked at
            a @ a
    readings = {
        f"{reading.name}_{reading.kind.name.lower()}": reading.value
        for sensor in find_sensors()
        for reading in sensor.read()
    }
    tell(readings=readings)
    fields = ("power.draw", "utilization.gpu", "memory.used", "temperature.gpu", "clocks.sm")
    told = {field: _smi(field) for field in fields}
    if any(told.values()):
        tell(nvidia_smi=told, units="W, %, MiB, degrees Celsius, MHz")
    if not any(name.startswith("gpu") for name in readings):
        skip("no sensor of an NVIDIA GPU is found; nvidia-ml-py gives them")


def _smi(field: str) -> str | None:
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().splitlines()[0]


def clip_frames(folder: Path, size: tuple[int, int]) -> Path:
    """Thirty JPEG frames of the demo clip, at this height and width."""
    import cv2

    folder.mkdir(parents=True)
    for number, frame in enumerate(_clip()):
        if number == 30:
            break
        resized = cv2.resize(frame, (size[1], size[0]))
        cv2.imwrite(str(folder / f"{number:03d}.jpg"), resized, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return folder


def _clip() -> Iterator[Any]:
    import cv2
    import numpy as np

    video = cv2.VideoCapture(str(CLIP / "clip.mp4"))
    read, frame = video.read()
    if not read:  # this OpenCV reads no H.264
        rng = np.random.default_rng(0)
        for _ in range(30):
            coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            yield cv2.resize(coarse, (480, 360), interpolation=cv2.INTER_CUBIC)
        return
    while read:
        yield frame
        read, frame = video.read()
