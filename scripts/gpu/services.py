"""The services on the GPU: frames a second of 1 and of 16 clients, by all placements."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from scripts.gpu.engines import full_size, random_halves
from scripts.gpu.machine import DEMO, Options, clip_frames, skip, tell, without_gpu


def services(options: Options) -> None:
    """Serve the demo model on the GPU by all placements: frames a second of 1 and of 16 clients."""
    if without_gpu(options):
        return
    frames = clip_frames(Path(options.folder) / "frames-demo", (360, 480))
    _serve(options, "demo-r50", DEMO, frames)


def services_r50(options: Options) -> None:
    """Serve a full-size DETR-R50 with random weights, at 800x1066."""
    if options.quick:
        return skip("takes minutes on a CPU")
    if without_gpu(options):
        return None
    folder = Path(options.folder)
    bundle = _weights_only_bundle(folder / "r50")
    return _serve(options, "r50", bundle, clip_frames(folder / "frames-r50", (800, 1066)))


def _serve(options: Options, name: str, bundle: Path, frames: Path) -> None:
    known = _flags("services.backbone")
    tell(flags={flag: flag in known for flag in ("--device", "--max-batch")})
    device = ["--device", options.device] if "--device" in known else []
    ends = time.monotonic() + options.seconds
    for batching in _batchings(known):
        if time.monotonic() > ends - 25:
            return tell(left_out=f"batching {batching}, for want of time")
        arguments = [*device, *_batch_arguments(batching)]
        found = asyncio.run(_served(options, bundle, frames, arguments, batching != "off"))
        tell(**{f"{name}_batching_{batching}": found})
    return None


def _batchings(known: str) -> tuple[str, ...]:
    return ("on", "off") if "--max-batch" in known else ("none",)


def _batch_arguments(batching: str) -> list[str]:
    return {"on": ["--max-batch", "8"], "off": ["--max-batch", "1"], "none": []}[batching]


def _flags(module: str) -> str:
    command = [sys.executable, "-m", module, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


async def _served(
    options: Options, bundle: Path, frames: Path, arguments: list[str], every: bool
) -> dict[str, Any]:
    from benchmarks.camera import CameraPlan
    from benchmarks.cluster import Cluster, ClusterPlan
    from common.domain.placement import Stage

    nodes = ("edge", "workstation")
    extra = {(node, stage): arguments for node in nodes for stage in Stage}
    plan = ClusterPlan(bundle, engine="torch", extra=extra)
    placements = ("full", "backbone", "transformer", "workstation") if every else ("workstation",)
    found: dict[str, Any] = {}
    started = time.perf_counter()
    async with Cluster(plan) as cluster:
        found["start_seconds"] = round(time.perf_counter() - started, 1)
        for placement in placements:
            for clients in (1, 2 if options.quick else 16):
                camera = CameraPlan(
                    str(frames),
                    placement,
                    "int8",
                    count=10**6,
                    warm_up=4 * clients,
                    clients=clients,
                    in_flight=1 if clients == 1 else 4,
                    seconds=0.5 if options.quick else 1.8,
                )
                answers = await cluster.stream(camera)
                found[f"{placement}_{clients}"] = _figures(answers)
    return found


def _figures(answers: list[Any]) -> dict[str, float]:
    if len(answers) < 2:
        return {"frames": len(answers)}
    times = sorted(answer.answered_at for answer in answers)
    trips = sorted(answer.round_trip for answer in answers)
    execute = [a.backbone_execute + a.transformer_execute for a in answers]
    return {
        "frames": len(answers),
        "frames_per_second": round((len(times) - 1) / (times[-1] - times[0]), 1),
        "latency_p50_milliseconds": round(statistics.median(trips) * 1e3, 2),
        "latency_p95_milliseconds": round(trips[int(0.95 * (len(trips) - 1))] * 1e3, 2),
        "execute_milliseconds": round(statistics.median(execute) * 1e3, 2),
    }


def _weights_only_bundle(folder: Path) -> Path:
    """A full-size model with random weights, for the torch engine, which reads weights alone.

    The files hold no graph, so that nothing has to be exported.
    """
    import onnx
    from onnx import helper, numpy_helper

    from common.bundle import DetrManifest, FixedInput, Normalization, write_bundle
    from common.bundle.folder import ONNX_NAMES

    architecture = full_size()
    folder.mkdir(parents=True)
    for stage, half in random_halves(architecture).items():
        weights = [
            numpy_helper.from_array(value.numpy(), name)
            for name, value in half.state_dict().items()
        ]
        graph = helper.make_graph([], "weights", [], [], initializer=weights)
        onnx.save(helper.make_model(graph), str(folder / ONNX_NAMES[stage]))
    write_bundle(
        folder,
        DetrManifest(
            name="r50-random",
            architecture=architecture,
            split="projected",
            feature_channels=architecture.hidden_dim,
            feature_stride=architecture.stride,
            input=FixedInput(height=800, width=1066),
            normalization=Normalization(),
            categories=(),
            files=dict.fromkeys(ONNX_NAMES.values(), ""),
            license="none",
            origin="random weights",
            trained=False,
        ),
    )
    return folder
