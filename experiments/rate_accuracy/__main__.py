"""AP and bytes a frame: features, latents, JPEGs and videos, through running services.

`python -m experiments.rate_accuracy --bundle DIR --output DIR` with `--images DIR --annotations
FILE` (pictures in COCO's format, each for itself), with `--clips DIR` (see `python -m scenes
clips`; may be given again), or both. Every setting of `experiments.rate_accuracy.grid` goes through
one local cluster. A folder for each set and each clips' folder gets a table, a CSV, a record and
plots. Answers are kept as they come: a stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import commit, machine_facts
from common.bundle import Bundle, load_bundle, require_detr
from common.domain.errors import ConfigurationError, InvalidInputError
from experiments.rate_accuracy.comparison import CLIP_LOSS, SINGLE_LOSS
from experiments.rate_accuracy.grid import clip_settings, picture_settings
from experiments.rate_accuracy.material import Material, open_clips
from experiments.rate_accuracy.measure import measure
from experiments.rate_accuracy.publish import publish
from experiments.rate_accuracy.report import markdown, summary, write_all
from experiments.rate_accuracy.tradeoff import Point
from tandem.cli.console import show_line, show_notice
from tandem.cli.options import detector
from tandem.cli.running import exit_code_of, run
from tandem.cluster import ClusterOptions
from tandem.evaluation.picture_set import category_names, open_picture_set
from tandem.evaluation.report import versions

PROGRAM = "rate_accuracy"
_MOST_NOISE = 64
_ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="a calibrated bundle's folder")
    parser.add_argument("--images", type=Path, help="folder of pictures")
    parser.add_argument("--annotations", type=Path, help="of the pictures, in COCO's format")
    parser.add_argument("--limit", type=_count, help="only so many pictures, those of lowest id")
    parser.add_argument(
        "--clips", type=Path, action="append", default=[], help="folder of a clip, or of such ones"
    )
    parser.add_argument(
        "--noisy-clips",
        nargs=2,
        metavar=("LEVELS", "DIR"),
        action="append",
        default=[],
        help="the same, with sensor noise of so many grey levels added",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for what is written")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="also put tables and plots into docs/accuracy.md and README.md",
    )
    options = parser.parse_args()
    if (options.images is None) != (options.annotations is None):
        parser.error("--images and --annotations go together")
    if options.images is None and not (options.clips or options.noisy_clips):
        parser.error("give --images and --annotations, or --clips, or both")
    sys.exit(exit_code_of(lambda: _run(options), PROGRAM))


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return count


def _levels(text: str) -> float:
    try:
        levels = float(text)
    except ValueError:
        levels = 0.0
    if not 0 < levels <= _MOST_NOISE:
        raise InvalidInputError(f"{text} is no noise above 0 and at most {_MOST_NOISE} grey levels")
    return levels


def _run(options: argparse.Namespace) -> None:
    bundle = load_bundle(options.bundle)
    require_detr(bundle.manifest, "the rate-accuracy experiment")
    if bundle.manifest.codec.calibration is None:
        raise ConfigurationError(
            f"bundle {options.bundle} is not calibrated, so it has no codecs q6 to q2: run "
            "tandem model calibrate on frames that are not in this set"
        )
    run(_measure(bundle, _materials(bundle, options), options.output, publishing=options.publish))
    show_line(f"written to {options.output}")


def _materials(bundle: Bundle, options: argparse.Namespace) -> list[Material]:
    model = category_names(bundle)
    found = []
    if options.images is not None:
        pictures = open_picture_set(
            *(options.images, options.annotations, options.limit), model=model, say=show_notice
        )
        title = f"{len(pictures.pictures)} pictures, each alone"
        found.append(Material("pictures", title, pictures))
    clips = [(0.0, folder) for folder in options.clips]
    clips += [(_levels(text), Path(folder)) for text, folder in options.noisy_clips]
    found += [
        open_clips(folder, noise=noise, model=model, say=show_notice) for noise, folder in clips
    ]
    names = [material.name for material in found]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"the folders of clips need different names: {', '.join(names)}")
    return found


async def _measure(
    bundle: Bundle, materials: Sequence[Material], output: Path, *, publishing: bool
) -> None:
    """Every material with every setting, on one cluster; writes as it goes."""
    async with detector(ClusterOptions(bundle=bundle.folder)) as client:
        for material in materials:
            folder = output / material.name
            manifest = bundle.manifest
            chosen = clip_settings(manifest) if material.clips else picture_settings(manifest)
            points: list[Point] = []
            for setting in chosen:
                point = await measure(client, material, setting, bundle, folder / "answers")
                points.append(point)
                show_notice(
                    f"{material.name}, {setting.key}: AP {point.ap:.4f}, "
                    f"{point.bytes_per_frame:,.0f} bytes a frame"
                )
            loss = CLIP_LOSS if material.clips else SINGLE_LOSS
            write_all(folder, points, _about(bundle, material), loss)
            if publishing:
                publish(_ROOT, material.name, points, folder, loss)
            text = f"{material.title}\n\n{markdown(points)}{summary(points, loss)}"
            for line in text.splitlines():
                show_line(line)


def _about(bundle: Bundle, material: Material) -> Mapping[str, Any]:
    calibration = bundle.manifest.codec.calibration
    name = bundle.manifest.name
    return {
        "title": f"{name}; {material.title}",
        "bundle": name,
        "bundle_digest": bundle.digest,
        "calibrated_on_frames": calibration.frames if calibration else 0,
        **material.identity,
        "frames": len(material.pictures.pictures),
        "machine": machine_facts(),
        "versions": versions(),
        **commit(),
    }


if __name__ == "__main__":
    main()
