"""Puts what was measured into the documentation: tables and plots between marked lines."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from common.domain.errors import ConfigurationError
from common.files import replace_text
from experiments.rate_accuracy.comparison import price
from experiments.rate_accuracy.report import (
    CHART_NAME,
    OVERVIEW_NAME,
    RECORD_NAME,
    markdown,
    summary,
)
from experiments.rate_accuracy.tradeoff import Bound, Point

HEADLINE = "demo-clip"
"""The material of the README's sentence and plot."""


def publish(root: Path, name: str, points: Sequence[Point], folder: Path, loss: float) -> None:
    """Replace the section of `docs/accuracy.md` that is of this material; copies its plot.

    The headline's sentence and plot go into `README.md` as well.

    Args:
        root: of the project.
        name: of the material.
        points: what was measured.
        folder: where `write_all` wrote.
        loss: how far under fp32 lines are compared.

    Raises:
        ConfigurationError: a page has no place for it.
    """
    image = f"rate-accuracy-{name}.png"
    shutil.copyfile(folder / CHART_NAME, root / "docs" / "images" / image)
    record = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
    text = (
        f"Measured with `{record['bundle']}` (digest `{record['bundle_digest'][:8]}`) on "
        f"{record['frames']} pictures.\n\n{markdown(points)}{summary(points, loss)}\n"
        f"![AP over bytes a frame](images/{image})\n"
    )
    fill(root / "docs" / "accuracy.md", name, text)
    sentence = headline(points, loss)
    if name != HEADLINE or sentence is None:
        return
    overview = "rate-accuracy-overview.png"
    shutil.copyfile(folder / OVERVIEW_NAME, root / "docs" / "images" / overview)
    picture = f"![AP over bytes a frame, for latents and for video](docs/images/{overview})"
    fill(root / "README.md", name, f"{sentence}\n\n{picture}\n")


def headline(points: Sequence[Point], loss: float) -> str | None:
    """What the latents of a clip cost beside H.265; None if that was not measured or is no gain."""
    found = price(points, loss)
    if found is None or "latents" not in found.costs:
        return None
    own, rival = found.costs["latents"], found.costs.get("H.265 of the better size")
    # A bound that lies the wrong way earns no sentence.
    if rival is None or own.bound is Bound.AT_LEAST or rival.bound is Bound.AT_MOST:
        return None
    times = rival.bytes_per_frame / own.bytes_per_frame
    if times <= 1:
        return None
    return (
        f"**Features that beat video:** {own.bytes_per_frame:,.0f} bytes a frame take a clip's "
        f"features to the other device, where H.265 at low delay needs "
        f"{rival.bytes_per_frame:,.0f} for the same accuracy, {times:.1f} times as many "
        "([measured](docs/accuracy.md#against-video) on the demo clip, "
        f"{100 * loss:.1f} points of AP under features as they are)."
    )


def fill(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- measured: NAME -->` and `<!-- end -->`.

    Raises:
        ConfigurationError: the page has no such lines.
    """
    start, end = f"<!-- measured: {name} -->\n", "<!-- end -->"
    content = page.read_text(encoding="utf-8")
    filled, count = re.subn(
        f"{re.escape(start)}.*?{re.escape(end)}",
        lambda _: f"{start}\n{text}\n{end}",
        content,
        flags=re.DOTALL,
    )
    if count != 1:
        raise ConfigurationError(f"{page} has {count} places for what was measured of {name}")
    replace_text(page, filled)
