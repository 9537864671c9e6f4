"""The steps of `scripts/gpu_check.sh`; `python scripts/gpu_steps.py STEP OPTIONS` runs one.

A step tells what it finds as lines of JSON on stdout, as soon as it knows, so that one that is
ended has told what it found until then.
"""

from __future__ import annotations

import asyncio
import copy
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "models" / "demo-r50"
CLIP = ROOT / "models" / "demo-clip" / "clip.mp4"
_PACKAGES = (
    *("torch", "onnx", "onnxruntime", "cv2", "scipy", "pydantic", "pydantic_settings", "grpc"),
    *("grpc_health", "structlog", "zstandard", "pycocotools", "safetensors", "pynvml", "rich"),
    *("typer", "psutil", "prometheus_client", "resvg_py", "anyascii", "yaml", "matplotlib"),
)


@dataclass(frozen=True)
class Options:
    """What `gpu_check.py` hands over.

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


def _without_gpu(options: Options) -> bool:
    """Whether the step is to run on a GPU that is not there; then says so."""
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        skip("PyTorch finds no GPU here")
        return True
    return False


def engines(options: Options) -> None:
    """Compare both halves in torch on the GPU with the CPU, and time them."""
    if _without_gpu(options):
        return
    from common.bundle import load_bundle

    demo = load_bundle(DEMO).manifest
    cases = [("demo-r50", demo.architecture, _size(demo.input))]
    if not options.quick:
        cases.append(("r50", _full_size(), (800, 1066)))
    precisions = ("fp32",) if options.device == "cpu" else ("fp32", "tf32", "bf16")
    for name, architecture, size in cases:
        halves = _demo_halves() if name == "demo-r50" else _random_halves(architecture)
        for batch in (1,) if options.quick else (1, 8):
            inputs = _inputs(architecture, size, batch)
            reference, cpu_ms = _timed_run(halves, inputs, "cpu", "fp32", runs=3)
            found: dict[str, Any] = {"cpu_milliseconds": cpu_ms}
            for precision in precisions:
                outputs, ms = _timed_run(
                    halves, inputs, options.device, precision, runs=2 if options.quick else 20
                )
                found[precision] = {
                    "milliseconds": ms,
                    "largest_difference": _differences(outputs, reference),
                }
            tell(**{f"{name}_batch_{batch}": found})


def _size(policy: Any) -> tuple[int, int]:
    return policy.height, policy.width


def _full_size() -> Any:
    from common.bundle import Architecture

    return Architecture(
        backbone="resnet50",
        base_width=64,
        dilation=False,
        encoder_layers=6,
        decoder_layers=6,
        hidden_dim=256,
        heads=8,
        feedforward_dim=2048,
        queries=100,
        classes=91,
    )


def _random_halves(architecture: Any) -> dict[Any, Any]:
    import torch

    from common.domain.placement import Stage
    from detr.export.halves import BackboneHalf, TransformerHalf
    from detr.model import DETR

    torch.manual_seed(0)
    model = DETR(architecture)
    # Blocks that start as shortcuts, or activations would double from block to block.
    for module in model.backbone.modules():
        if hasattr(module, "bn3"):
            module.bn3.weight.fill_(0.1)
    return {
        Stage.BACKBONE: BackboneHalf(copy.deepcopy(model), "projected").eval(),
        Stage.TRANSFORMER: TransformerHalf(copy.deepcopy(model), "projected").eval(),
    }


def _demo_halves() -> dict[Any, Any]:
    """The shipped model's, by the way that the torch engine loads them."""
    from common.bundle import load_bundle
    from common.domain.placement import Stage
    from detr.engine import load_half

    bundle = load_bundle(DEMO)
    return {stage: load_half(bundle.onnx_path(stage), 0, "cpu").half for stage in Stage}


def _inputs(architecture: Any, size: tuple[int, int], batch: int) -> dict[str, Any]:
    import numpy as np

    from common.domain.frames import FrameGeometry
    from common.vision.position import transformer_inputs

    rng = np.random.default_rng(0)
    height, width = size
    grid = (-(-height // architecture.stride), -(-width // architecture.stride))
    geometry = FrameGeometry(
        frame_height=height,
        frame_width=width,
        input_height=height,
        input_width=width,
        valid_height=height,
        valid_width=width,
    )
    pos, mask = transformer_inputs(geometry, grid, architecture.hidden_dim)
    return {
        "pixels": rng.standard_normal((batch, 3, height, width), np.float32),
        "features": rng.standard_normal((batch, architecture.hidden_dim, *grid), np.float32),
        "pos": np.repeat(pos, batch, axis=0),
        "mask": np.repeat(mask, batch, axis=0),
    }


def _timed_run(
    halves: dict[Any, Any], inputs: Any, device: str, precision: str, *, runs: int
) -> tuple[dict[str, Any], dict[str, float]]:
    """Outputs of both halves, and the median milliseconds of one execution with its copies."""
    from detr.engine import TorchEngine

    outputs: dict[str, Any] = {}
    milliseconds: dict[str, float] = {}
    for stage, half in halves.items():
        engine = TorchEngine(copy.deepcopy(half), stage, device, precision)
        for _ in range(1 if device == "cpu" else 5):
            outputs |= engine.run(inputs)
        times = []
        for _ in range(runs):
            started = time.perf_counter()
            engine.run(inputs)
            times.append(time.perf_counter() - started)
        milliseconds[stage.value] = round(statistics.median(times) * 1e3, 3)
        engine.close()
    return outputs, milliseconds


def _differences(outputs: dict[str, Any], reference: dict[str, Any]) -> dict[str, float]:
    """The largest difference of each output, as a share of its largest value."""
    import numpy as np

    return {
        name: float(np.abs(outputs[name] - value).max() / np.abs(value).max())
        for name, value in reference.items()
    }


def onnxruntime(options: Options) -> None:
    """Run both halves of the demo model by ONNX Runtime's CUDA provider."""
    if importlib.util.find_spec("onnxruntime") is None:
        return skip("onnxruntime is not installed")
    import onnxruntime as runtime

    from common.bundle import load_bundle
    from common.domain.placement import Stage

    available = runtime.get_available_providers()
    tell(version=runtime.__version__, providers=available)
    if "CUDAExecutionProvider" not in available:
        return skip("this onnxruntime has no CUDA provider; onnxruntime-gpu has")
    bundle = load_bundle(DEMO)
    manifest = bundle.manifest
    inputs = _inputs(manifest.architecture, _size(manifest.input), 1)
    for stage in Stage:
        results: dict[str, Any] = {}
        for provider in ("CPUExecutionProvider", "CUDAExecutionProvider"):
            session = runtime.InferenceSession(
                str(bundle.onnx_path(stage)), providers=[provider, "CPUExecutionProvider"]
            )
            names = [each.name for each in session.get_inputs()]
            feeds = {name: inputs[name] for name in names}
            outputs = dict(
                zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True)
            )
            started = time.perf_counter()
            for _ in range(20):
                session.run(None, feeds)
            results[provider] = (outputs, (time.perf_counter() - started) / 20 * 1e3)
        (reference, cpu_ms), (outputs, cuda_ms) = results.values()
        difference = _differences(outputs, reference)
        tell(**{stage.value: {"cpu": cpu_ms, "cuda": cuda_ms, "difference": difference}})
    return None


def tensorrt(options: Options) -> None:
    """Compile the demo model by TensorRT, if it and pycuda are at hand."""
    missing = [name for name in ("tensorrt", "pycuda") if importlib.util.find_spec(name) is None]
    if missing:
        return skip(f"{' and '.join(missing)} cannot be imported here, and nothing is installed")
    from common.bundle import load_bundle
    from common.domain.placement import Stage
    from common.engines.base import CompileOptions, Precision, ShapeRange
    from common.engines.registry import load_engine

    bundle = load_bundle(DEMO)
    manifest = bundle.manifest
    inputs = _inputs(manifest.architecture, _size(manifest.input), 1)
    halves = _demo_halves()
    reference, _ = _timed_run(halves, inputs, "cpu", "fp32", runs=1)
    names = {Stage.BACKBONE: ("pixels",), Stage.TRANSFORMER: ("features", "pos", "mask")}
    for stage in Stage:
        shapes = {name: ShapeRange(*(inputs[name].shape,) * 3) for name in names[stage]}
        compiling = CompileOptions(shapes, Precision.FP16, Path(options.folder) / "plans")
        engine = load_engine("tensorrt", bundle.onnx_path(stage), 0, compiling)
        outputs = engine.run({name: inputs[name] for name in names[stage]})
        tell(**{stage.value: _differences(outputs, {n: reference[n] for n in outputs})})
        engine.close()
    return None


def sensors(options: Options) -> None:
    """Compare NVML's readings with nvidia-smi's, while the GPU works."""
    if _without_gpu(options):
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


def training(options: Options) -> None:
    """Train and distil the demo model: images a second here and on the CPU, and a checkpoint."""
    if _without_gpu(options):
        return
    if options.artwork is None:
        skip("no --artwork is given; `python -m scenes pack FOLDER` makes it")
        return
    import torch

    from detr.training.data import training_batches
    from detr.training.loop import Surroundings, train
    from detr.training.metrics import read_metrics
    from detr.training.recipe import Evaluation, load_recipe, with_precision
    from detr.training.rehearsal import rehearse
    from detr.training.state import restore_state

    cache, folder = Path(options.artwork), Path(options.folder) / "training"
    cpu = torch.device("cpu")
    device = torch.device("cuda", 0) if options.device == "cuda" else cpu
    workers = 1 if options.quick else max(1, (os.cpu_count() or 1) - 1)
    here = Surroundings(folder, cache, False, workers, lambda *_: None, _to_log, device)
    recipe = load_recipe("demo-r50-gpu")
    changes = {
        "evaluation": Evaluation(every_steps=10**9, images=8),
        "checkpoint_every_steps": 10**9,
        "data": recipe.data.model_copy(update={"val_scenes": 8}),
        "batch_size": 2 if options.quick else recipe.batch_size,
    }
    recipe = recipe.model_copy(update=changes)
    minutes = (5 if options.quick else 25) / 60
    train(recipe, replace(here, minutes=minutes))
    rows = read_metrics(folder / "metrics.csv")
    tell(
        trained={
            "steps": rows[-1].step,
            "seconds": rows[-1].seconds,
            "first_loss": rows[0].loss,
            "last_loss": rows[-1].loss,
            "ap": rows[-1].ap,
            "images_per_second": _rate([(row.images, row.seconds) for row in rows]),
        }
    )
    moved = restore_state(folder / "checkpoint.pt", recipe, device=cpu)
    tell(checkpoint_on_the_cpu={"step": moved.step, "device": str(moved.device)})
    batch = next(training_batches(recipe, cache, 0, 0))
    few = 2 if options.quick else 10
    for precision in ("fp32", "bf16", "fp16") if device.type == "cuda" else ("fp32",):
        changed = with_precision(recipe, precision)
        tell(**{f"step_{precision}": _steps_of(changed, batch, device, few)})
    tell(distillation_step=_distillation_steps(recipe.batch_size, batch, device, few))
    if device.type == "cuda":
        tell(step_on_the_cpu=_steps_of(recipe, batch, cpu, 2))
    found = rehearse(recipe, here)
    tell(rehearsal=asdict(found))


def _distillation_steps(batch_size: int, batch: Any, device: Any, count: int) -> dict[str, float]:
    from detr.distillation.recipe import load_distillation_recipe, run_recipe
    from detr.distillation.tasks import make_task
    from detr.distillation.teacher import load_teacher

    distillation = load_distillation_recipe("demo-r50-r34")
    teacher = load_teacher(ROOT / "models" / "demo-r50")
    identity, parts = teacher.identity, teacher.parts
    student = run_recipe(distillation, "joint", identity, parts, names=teacher.names)
    student = student.model_copy(update={"batch_size": batch_size})
    task = make_task(student, teacher, lambda _: [batch])
    return _steps_of(student, batch, device, count, task)


def _steps_of(
    recipe: Any, batch: Any, device: Any, count: int, task: Any = None
) -> dict[str, float]:
    """Do steps on one batch; the median milliseconds of one, and the losses of first and last."""
    from detr.training.loop import training_step
    from detr.training.optimisation import phase_at
    from detr.training.processes import peak_memory_bytes, prepare_device
    from detr.training.state import new_state
    from detr.training.task import Detection

    prepare_device(device)
    task = task or Detection()
    state = new_state(recipe, task.build, device)
    task.begin_phase(recipe, state.model, phase_at(recipe, 0), anew=True)
    seconds, losses = [], []
    for _ in range(count):
        started = time.perf_counter()
        found = training_step(recipe, state, state.model, batch.to(device), task)
        losses.append(float(found[0]))  # waits for the device
        seconds.append(time.perf_counter() - started)
    typical = statistics.median(seconds[count // 2 :])
    return {
        "milliseconds": round(typical * 1e3, 1),
        "images_per_second": round(recipe.batch_size / typical, 1),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "peak_memory_megabytes": round(peak_memory_bytes(device) / 1e6),
    }


def _rate(rows: list[tuple[int, float]]) -> float:
    """Images a second over the second half of a run, which has no start-up in it."""
    (images, seconds), (last_images, last_seconds) = rows[len(rows) // 2 - 1], rows[-1]
    if last_images == images:
        return last_images / max(last_seconds, 1e-9)
    return round((last_images - images) / (last_seconds - seconds), 1)


def _to_log(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def services(options: Options) -> None:
    """Serve the demo model on the GPU by all placements: frames a second of 1 and of 16 clients."""
    if _without_gpu(options):
        return
    frames = _frames(Path(options.folder) / "frames-demo", (360, 480))
    _serve(options, "demo-r50", DEMO, frames)


def services_r50(options: Options) -> None:
    """Serve a full-size DETR-R50 with random weights, at 800x1066."""
    if options.quick:
        return skip("takes minutes on a CPU")
    if _without_gpu(options):
        return None
    folder = Path(options.folder)
    bundle = _weights_only_bundle(folder / "r50")
    return _serve(options, "r50", bundle, _frames(folder / "frames-r50", (800, 1066)))


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


def _frames(folder: Path, size: tuple[int, int]) -> Path:
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

    video = cv2.VideoCapture(str(CLIP))
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


def _weights_only_bundle(folder: Path) -> Path:
    """A full-size model with random weights, for the torch engine, which reads weights alone.

    The files hold no graph, so that nothing has to be exported.
    """
    import onnx
    from onnx import helper, numpy_helper

    from common.bundle import FixedInput, Manifest, Normalization, write_bundle
    from common.bundle.folder import ONNX_NAMES

    architecture = _full_size()
    folder.mkdir(parents=True)
    for stage, half in _random_halves(architecture).items():
        weights = [
            numpy_helper.from_array(value.numpy(), name)
            for name, value in half.state_dict().items()
        ]
        graph = helper.make_graph([], "weights", [], [], initializer=weights)
        onnx.save(helper.make_model(graph), str(folder / ONNX_NAMES[stage]))
    write_bundle(
        folder,
        Manifest(
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


STEPS: dict[str, Callable[[Options], None]] = {
    "machine": machine,
    "engines": engines,
    "onnxruntime": onnxruntime,
    "tensorrt": tensorrt,
    "sensors": sensors,
    "training": training,
    "services": services,
    "services_r50": services_r50,
}


if __name__ == "__main__":
    STEPS[sys.argv[1]](Options(**json.loads(sys.argv[2])))
