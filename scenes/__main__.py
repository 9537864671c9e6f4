"""`python -m scenes`: fetch sources, export splits, draw contact sheets, make clips."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from common.domain.errors import TandemError
from common.domain.redaction import fit_to_show
from scenes.clip import write_clip
from scenes.clip_folder import write_camera_clip, write_clip_folder
from scenes.coco_format import export_coco
from scenes.contact_sheet import icon_sheet, scene_sheet
from scenes.fetch import DEFAULT_CACHE, fetch_all, pack
from scenes.random_clips import random_clip
from scenes.shots import StillCamera
from scenes.sources import SceneSplit
from scenes.splits import SPLIT_SEEDS, open_split

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

Cache = Annotated[Path, typer.Option(help="Folder of fetched artwork and photographs.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the scenes.")]


@app.command()
def fetch(cache: Cache = DEFAULT_CACHE) -> None:
    """Fetch artwork and photographs with npm and pip."""
    fetch_all(cache, lambda line: typer.echo(line, err=True))


@app.command("pack")
def pack_command(
    out: Annotated[Path, typer.Argument(help="Folder of the copy; give it by --cache there.")],
    *,
    cache: Cache = DEFAULT_CACHE,
) -> None:
    """Copy what scenes are made of, to carry it to a machine without a network."""
    size = pack(cache, out)
    typer.echo(f"{out}: {size / 1e6:.1f} MB")


@app.command()
def export(
    split: Annotated[str, typer.Argument(help="train, val or unseen.")],
    out: Annotated[Path, typer.Option(help="Folder to write images and instances.json to.")],
    *,
    count: Annotated[int, typer.Option(min=1)] = 500,
    seed: Seed = 20,
    height: Annotated[int, typer.Option(min=32, help="Pixels.")] = 360,
    width: Annotated[int, typer.Option(min=32, help="Pixels.")] = 480,
    cache: Cache = DEFAULT_CACHE,
) -> None:
    """Write scenes as a COCO data set."""
    source = open_split(cache, _split(split), seed)
    scenes = (source.scene(index, height, width) for index in range(count))
    path = export_coco(scenes, out, f"Tandem scenes, split {split}, seed {seed}")
    typer.echo(str(path))


@app.command()
def contact_sheet(
    out: Annotated[Path, typer.Option(help="Folder to write icons.png and scenes.png to.")],
    *,
    split: Annotated[str, typer.Option(help="train, val or unseen.")] = "train",
    seed: Seed = 20,
    cache: Cache = DEFAULT_CACHE,
) -> None:
    """Draw every icon by category, and 36 scenes with their boxes, to look at."""
    source = open_split(cache, _split(split), seed)
    out.mkdir(parents=True, exist_ok=True)
    _write_png(out / "icons.png", icon_sheet(source.artwork))
    _write_png(out / "scenes.png", scene_sheet([source.scene(i, 288, 384) for i in range(36)]))
    typer.echo(str(out))


@app.command()
def clip(
    out: Annotated[Path, typer.Option(help="Folder of clip.mp4.")] = Path("models/demo-clip"),
    *,
    cache: Cache = DEFAULT_CACHE,
) -> None:
    """Make the demo clip and its annotations."""
    for path in write_clip(cache, out):
        typer.echo(str(path))


@app.command()
def camera_clip(
    folder: Annotated[Path, typer.Argument(help="Of clip.mp4.")] = Path("models/demo-clip"),
) -> None:
    """Encode a clip's frames as a camera does: without B frames, and key frames at 2 s."""
    typer.echo(str(write_camera_clip(folder)))


@app.command()
def clips(
    out: Annotated[Path, typer.Option(help="Folder of a folder for each clip.")],
    *,
    split: Annotated[str, typer.Option(help="train, val or unseen.")] = "train",
    count: Annotated[int, typer.Option(min=1)] = 8,
    frames: Annotated[int, typer.Option(min=1, help="Of each clip.")] = 96,
    noise: Annotated[
        float, typer.Option(min=0, max=64, help="Of the sensor, in grey levels.")
    ] = 0.0,
    still_camera: Annotated[
        bool, typer.Option("--still-camera", help="A fixed camera, and no cuts.")
    ] = False,
    still_objects: Annotated[
        float, typer.Option(min=0, max=1, help="Share that stands still before a fixed camera.")
    ] = StillCamera().still_share,
    seed: Seed = 20,
    height: Annotated[int, typer.Option(min=32, help="Pixels; even.")] = 360,
    width: Annotated[int, typer.Option(min=32, help="Pixels; even.")] = 480,
    cache: Cache = DEFAULT_CACHE,
) -> None:
    """Make random clips and their annotations: DIR/000/clip.mp4, DIR/000/annotations.json."""
    if height % 2 or width % 2:
        raise typer.BadParameter("height and width of a video must be even.")
    source = open_split(cache, _split(split), seed)
    still = StillCamera(still_objects) if still_camera else None
    camera = f", fixed camera, {still_objects:g} of the objects still" if still_camera else ""
    for index in range(count):
        scenes = random_clip(
            source, index, frames, height=height, width=width, noise=noise, still=still
        )
        description = f"Tandem clip {index} of split {split}, seed {seed}, noise {noise:g}{camera}"
        for path in write_clip_folder(scenes, out / f"{index:03d}", description):
            typer.echo(str(path))


def _split(name: str) -> SceneSplit:
    for split in SPLIT_SEEDS:
        if split == name:
            return split
    raise typer.BadParameter(f"{name} is none of {', '.join(SPLIT_SEEDS)}.")


def _write_png(path: Path, rgb: NDArray[np.uint8]) -> None:
    cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


def main() -> None:
    """Run the command line; a failure is one sentence on stderr, and exit 1."""
    try:
        app()
    except TandemError as error:
        sys.stderr.write(f"python -m scenes: {fit_to_show(str(error))}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
