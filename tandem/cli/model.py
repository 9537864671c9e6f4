"""`tandem model info` and `build`: inspect and compile a bundle."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from common.bundle import (
    Bundle,
    CodecDefaults,
    FamilyManifest,
    Graph,
    InputPolicy,
    Manifest,
    ShortestEdgeInput,
    SigmoidScoring,
    StretchInput,
    load_bundle,
)
from common.domain.codec import CALIBRATED_BITS
from common.engines.base import CompileOptions, Device, PlanReport
from common.engines.registry import load_engine
from services.pipeline.precision import (
    PRECISION_FORM,
    PrecisionWish,
    PrecisionWishes,
    choose_precision,
)
from services.pipeline.shapes import compile_options
from tandem.cli.console import activity, show_json, show_line, show_table
from tandem.cli.options import ENGINE_PRECISION_VARIABLE, JsonOption, checked_precision


def info(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A bundle's folder, with bundle.json in it.")
    ],
    json: JsonOption = False,
) -> None:
    """Show what a bundle holds, after checking its files against their digests."""
    bundle = load_bundle(folder)
    bundle.check_files()
    sizes = {graph: bundle.onnx_path(graph).stat().st_size for graph in bundle.graphs}
    if json:
        show_json(bundle_to_json(bundle, sizes))
    else:
        show_table(_table(bundle, sizes))


def build(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A bundle's folder.")],
    *,
    precision: Annotated[
        str,
        typer.Option(
            "--engine-precision",
            "--precision",
            metavar="PRECISION",
            envvar=ENGINE_PRECISION_VARIABLE,
            callback=checked_precision,
            help=f"What to compute in: {PRECISION_FORM}. Without it, what the model recommends, or "
            "fp16. The stages find only plans of their own --engine-precision.",
        ),
    ] = PrecisionWish.AUTO_OR_FP16.value,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for the plans; the stages have to be given the same as --engine-cache. "
            "~/.cache/tandem/engines if left out.",
        ),
    ] = None,
    max_batch: Annotated[
        int,
        typer.Option(
            min=1,
            max=64,
            help="Most frames to execute together. The stages find only plans of their own "
            "--max-batch.",
        ),
    ] = 1,
    json: JsonOption = False,
) -> None:
    """Compile both halves for this machine's NVIDIA GPU ahead of time, with TensorRT.

    The parts of a bottleneck are compiled too. It takes minutes the first time; what is in the
    cache already is only loaded, to see that it still can be. A stage that finds its plans in the
    cache starts within seconds.
    """
    bundle = load_bundle(folder)
    wishes = PrecisionWishes.parse(precision)
    built = []
    for graph in bundle.graphs:
        chosen = choose_precision(bundle.manifest, graph, wishes, ENGINE, None).precision
        with activity(f"compiling the {_words(graph)} in {chosen.value}"):
            compilation = compile_options(bundle.manifest, graph, chosen, cache, max_batch)
            built.append(build_half(bundle, graph, compilation))
        if not json:
            show_line(half_to_line(built[-1]))
    if json:
        show_json([half_to_json(half) for half in built])


def half_to_line(half: BuiltHalf) -> str:
    """What became of one half, in a sentence."""
    plan = half.plan
    made = "was there already, loaded" if plan.was_cached else "compiled"
    return (
        f"{_words(half.graph)}: {half.engine}, {made} in {plan.seconds:.1f} s: {plan.path} "
        f"({plan.size_bytes / 1e6:.1f} MB)"
    )


def half_to_json(half: BuiltHalf) -> dict[str, Any]:
    """The same, by name."""
    return {
        "stage": half.graph.value,
        "engine": half.engine,
        "path": str(half.plan.path),
        "bytes": half.plan.size_bytes,
        "cached": half.plan.was_cached,
        "seconds": round(half.plan.seconds, 3),
    }


def bundle_to_json(bundle: Bundle, sizes: dict[Graph, int]) -> dict[str, Any]:
    """The manifest, with the bundle's digest and the size of each half and part in bytes."""
    return {
        "folder": str(bundle.folder),
        "digest": bundle.digest,
        "file_bytes": {graph.value: size for graph, size in sizes.items()},
        **bundle.manifest.model_dump(mode="json"),
    }


def _codec_sentence(codec: CodecDefaults) -> str:
    calibrated = ", ".join(each.value for each in CALIBRATED_BITS)
    if codec.calibration is None:
        return f"{codec.default}; not calibrated for {calibrated}"
    return f"{codec.default}; calibrated for {calibrated} on {codec.calibration.frames} frames"


def _words(graph: Graph) -> str:
    """A half's or a part's name, in words."""
    name: str = graph.value
    return name.replace("_", " ")


def _bottleneck_sentence(manifest: Manifest) -> str:
    bottleneck = manifest.bottleneck
    if bottleneck is None:
        return "none"
    rates = []
    for name, rate in bottleneck.rates.items():
        told = name
        if rate.measured is not None:
            told += f" {rate.measured.bytes_per_frame:,.0f} bytes a frame"
            precision = rate.measured.average_precision
            told += "" if precision is None else f" at AP {precision:.3f}"
        rates.append(told)
    return f"{bottleneck.channels} channels; " + ", ".join(rates)


def _model_rows(manifest: Manifest) -> dict[str, str]:
    """What the model is made of, and what crosses its cut."""
    cut = ", ".join(f"{each.channels} channels at stride {each.stride}" for each in manifest.cut)
    if isinstance(manifest, FamilyManifest):
        opset, precision = manifest.opset, manifest.precision
        return {
            "family": manifest.family,
            "operators": f"ONNX opset {opset.backbone} and {opset.transformer}",
            "precision": f"backbone {precision.backbone}, transformer {precision.transformer}, "
            "where an engine has the choice",
            "cut": cut,
            "scores": f"sigmoid of each class, the best {manifest.scoring.top_k} of a frame"
            if isinstance(manifest.scoring, SigmoidScoring)
            else "softmax over the classes and 'no object'",
        }
    made_of = manifest.architecture
    dilated = ", dilated last stage" if made_of.dilation else ""
    return {
        "backbone": f"{made_of.backbone}, base width {made_of.base_width}{dilated}",
        "transformer": f"{made_of.encoder_layers} encoder and {made_of.decoder_layers} decoder "
        f"layers of width {made_of.hidden_dim}, {made_of.queries} queries",
        "cut": f"{manifest.split}: {cut}",
    }


def _input_sentence(policy: InputPolicy) -> str:
    if isinstance(policy, ShortestEdgeInput):
        return f"short side {policy.shortest_edge}, long side at most {policy.longest_edge}"
    how = "stretched to" if isinstance(policy, StretchInput) else "letterboxed into"
    return f"{how} {policy.width} x {policy.height}"


def _table(bundle: Bundle, sizes: dict[Graph, int]) -> Table:
    manifest = bundle.manifest
    rows = {
        "name": manifest.name,
        **_model_rows(manifest),
        "input": _input_sentence(manifest.input),
        "categories": f"{len(manifest.categories)}: "
        + ", ".join(category.name for category in manifest.categories),
        "codec": _codec_sentence(manifest.codec),
        "bottleneck": _bottleneck_sentence(manifest),
        "files": ", ".join(f"{_words(graph)} {size / 1e6:.1f} MB" for graph, size in sizes.items()),
        "trained": "yes" if manifest.trained else "no: random weights, its boxes mean nothing",
        "origin": manifest.origin,
        "license": manifest.license,
        "digest": bundle.digest,
    }
    table = Table(show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    return table


ENGINE = "tensorrt"


@dataclass(frozen=True)
class BuiltHalf:
    """One half, compiled and loaded once."""

    graph: Graph
    engine: str
    plan: PlanReport


def build_half(bundle: Bundle, graph: Graph, compilation: CompileOptions) -> BuiltHalf:
    """Compile one half or part, unless the cache has it, and see that it can be loaded.

    Args:
        bundle: with the half.
        graph: which half, or which part of the bottleneck.
        compilation: for which shapes, in what precision, and where plans are kept.

    Raises:
        ConfigurationError: the bundle is damaged, or TensorRT or pycuda is not installed.
        UnsupportedGraphError: TensorRT lacks an operator of the half.
        EngineError: there is no GPU, or TensorRT cannot compile the half.
    """
    path = bundle.onnx_path(graph)
    sha256 = bundle.sha256(path.name)
    # Not its own type, which is known only where TensorRT and pycuda are installed.
    loaded: Any = load_engine(ENGINE, path, 0, compilation, Device.CUDA, sha256=sha256)
    with closing(loaded) as engine:
        return BuiltHalf(graph, engine.description, engine.plan)
