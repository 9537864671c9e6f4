"""`tandem status` and `tandem placement`: what runs where, and where streams go."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from client.commands.options import (
    DEFAULT_SERVER,
    PLACEMENT_NAMES,
    JsonOption,
    PlacementChoice,
    ServerOption,
)
from client.console import show_json, show_line, show_table
from client.detector import DetectorClient
from client.running import run
from common.domain.placement import Placement
from common.domain.status import SystemStatus


def status(
    server: ServerOption = DEFAULT_SERVER,
    watch: Annotated[
        bool, typer.Option("--watch", help="Tell again every second, until Ctrl-C.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show nodes and their health, placements and their rates, and the open streams."""
    run(_show_status(server, watch, json))


def placement(
    name: Annotated[
        PlacementChoice | None,
        typer.Argument(
            metavar="NAME",
            help=f"What to set: {PLACEMENT_NAMES}, or auto; shows what is set if left out.",
            show_default=False,
        ),
    ] = None,
    server: ServerOption = DEFAULT_SERVER,
    json: JsonOption = False,
) -> None:
    """Show or set where streams go that leave it to the server; auto lets it choose.

    Streams that are open follow: frames in flight finish where they are.
    """
    run(_show_placement(server, name, json))


async def _show_status(server: str, watch: bool, as_json: bool) -> None:
    async with DetectorClient(server) as client:
        async for system in client.watch_status():
            if as_json:
                show_json(status_to_json(system))
            else:
                _show_tables(system)
            if not watch:
                return


async def _show_placement(server: str, choice: PlacementChoice | None, as_json: bool) -> None:
    async with DetectorClient(server) as client:
        if choice is None:
            system = await client.status()
        else:
            system = await client.set_placement(choice.placement)
    if as_json:
        show_json(
            {
                "setting": _name(system.placement_setting, "auto"),
                "placement": _name(system.placement, None),
            }
        )
    else:
        show_line(_placement_sentence(system))


def status_to_json(system: SystemStatus) -> dict[str, Any]:
    """The machine-readable form of `tandem status --json`."""
    return {**asdict(system), "placement_setting": _name(system.placement_setting, "auto")}


def _show_tables(system: SystemStatus) -> None:
    stages = Table("node", "stage", "address", "health")
    for stage in system.stages:
        stages.add_row(
            stage.node, stage.stage.value, stage.address, _health(stage.healthy, stage.reason)
        )
    placements = Table("placement", "state", "frames", "frames a second")
    for one in system.placements:
        placements.add_row(
            one.placement.value,
            _health(one.available, one.reason, "available"),
            str(one.frames),
            f"{one.frames_per_second:.1f}",
        )
    show_table(stages)
    show_table(placements)
    if system.sessions:
        sessions = Table("stream", "placement", "frames answered", "in flight")
        for session in system.sessions:
            sessions.add_row(
                session.session_id,
                _name(session.placement, "none yet"),
                str(session.frames_answered),
                str(session.frames_in_flight),
            )
        show_table(sessions)
    draining = ", draining" if system.draining else ""
    show_line(f"{_placement_sentence(system)}; up for {system.uptime_seconds:.0f} s{draining}")


def _placement_sentence(system: SystemStatus) -> str:
    setting = _name(system.placement_setting, "auto")
    if system.placement is None:
        return f"placement: {setting}, but nothing can be served now"
    if system.placement_setting is None:
        return f"placement: auto, now {system.placement.value}"
    return f"placement: {setting}"


def _health(good: bool, reason: str, word: str = "healthy") -> Text:
    return Text(word, style="green") if good else Text(reason or "down", style="red")


def _name(placement: Placement | None, none: str | None) -> str | None:
    return none if placement is None else placement.value
