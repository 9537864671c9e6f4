"""`tandem status` and `tandem placement`: what runs where, and where streams go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from common.domain.placement import NodePair
from common.domain.status import (
    EventCounts,
    ModelChoice,
    ModelStatus,
    PlacementStatus,
    ServiceEstimate,
    StageStatus,
    SystemStatus,
)
from tandem.cli.access import AccessOptions, with_access
from tandem.cli.console import kilobytes, show_json, show_line, show_table, show_warning
from tandem.cli.options import (
    AUTOMATIC,
    DEFAULT_SERVER,
    PLACEMENT_NAMES,
    JsonOption,
    RemoteServer,
    ServerOption,
    checked_placement,
)
from tandem.cli.running import run

_LONGEST_IN_CELL = 80


@with_access
def status(
    server: ServerOption = DEFAULT_SERVER,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the status again every second, until Ctrl-C.")
    ] = False,
    json: JsonOption = False,
    *,
    access: AccessOptions,
) -> None:
    """Show nodes and their health, placements and their rates, and the open streams."""
    run(_show_status(RemoteServer(server, access.credentials()), watch, json))


@with_access
def placement(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            callback=checked_placement,
            help=f"What to set: {PLACEMENT_NAMES}, backbone=NODE,transformer=NODE, or auto; shows "
            "what is set if left out.",
            show_default=False,
        ),
    ] = None,
    server: ServerOption = DEFAULT_SERVER,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Tell in words what each placement would reach, and why one was chosen.",
        ),
    ] = False,
    json: JsonOption = False,
    *,
    access: AccessOptions,
) -> None:
    """Show or set the placement of streams that request none; auto lets the server choose.

    Open streams follow; frames in flight finish where they are.
    """
    run(_show_placement(RemoteServer(server, access.credentials()), name, explain, json))


async def _show_status(server: RemoteServer, watch: bool, as_json: bool) -> None:
    async with server.client() as client:
        async for told in client.watch_status():
            system = replace(told, warnings=(*server.warnings(), *told.warnings))
            if as_json:
                show_json(status_to_json(system))
            else:
                _show_tables(system)
            if not watch:
                return


async def _show_placement(
    server: RemoteServer, name: str | None, explain: bool, as_json: bool
) -> None:
    async with server.client() as client:
        if name is None:
            system = await client.status()
        else:
            system = await client.set_placement(name)
    if as_json:
        told: dict[str, Any] = {
            "setting": _name(system.operator_pair, AUTOMATIC),
            "placement": _name(system.active_pair, None),
        }
        if explain:
            told["explanation"] = [*system.explanation, *_rate_sentences(system)]
            told["models"] = [
                {
                    "name": each.name,
                    "placement": _name(each.active_pair, None),
                    "explanation": each.explanation,
                }
                for each in system.models
            ]
        show_json(told)
        return
    show_line(_placement_sentence(system))
    if explain:
        for sentence in (*system.explanation, *_rate_sentences(system)):
            show_line(sentence)
        for each in system.models:
            for sentence in each.explanation:
                show_line(f"model {each.name}: {sentence}")


def status_to_json(system: SystemStatus) -> dict[str, Any]:
    """The machine-readable form of `tandem status --json`; pairs of nodes are told by name."""
    told = asdict(system)
    told["placement_setting"] = _name(system.operator_pair, AUTOMATIC)
    told["placement"] = _name(system.active_pair, None)
    del told["operator_pair"], told["active_pair"]
    events = told["events"]
    events["replayed_frames"] = events.pop("retried_frames")
    events["probe_frames"] = events.pop("mirrored_frames")
    _name_pairs(system.placements, told["placements"])
    for choice, entry in zip(system.models, told["models"], strict=True):
        entry["placement"] = _name(choice.active_pair, None)
        del entry["active_pair"]
        _name_pairs(choice.placements, entry["placements"])
    for session, row in zip(system.sessions, told["sessions"], strict=True):
        row["placement"] = _name(session.node_pair, None)
        del row["node_pair"]
    return told


def _name_pairs(placements: Sequence[PlacementStatus], rows: Sequence[dict[str, Any]]) -> None:
    for one, row in zip(placements, rows, strict=True):
        row["placement"] = one.node_pair.name
        del row["node_pair"]


def _rate_sentences(system: SystemStatus) -> Iterator[str]:
    """Why the features of each stream take the rate that they take."""
    for session in system.sessions:
        if session.codec_reason:
            yield f"stream {session.session_id}: {session.codec_reason}."


def _show_tables(system: SystemStatus) -> None:
    show_table(_stages_table(system))
    for line in _long_reasons(system):
        show_line(line)
    show_table(_placements_table(system))
    for choice in system.models:
        show_line(_model_sentence(choice))
    if system.links:
        show_table(_links_table(system))
    if system.sessions:
        sessions = Table("stream", "model", "placement", "codec", "frames answered", "in flight")
        for session in system.sessions:
            sessions.add_row(
                session.session_id,
                session.model,
                _name(session.node_pair, "none yet"),
                session.codec.value if session.codec else "",
                str(session.frames_answered),
                str(session.frames_in_flight),
            )
        show_table(sessions)
    for warning in system.warnings:
        show_warning(warning)
    for line in _event_lines(system.events):
        show_line(line)
    draining = ", draining" if system.draining else ""
    show_line(f"{_placement_sentence(system)}; up for {system.uptime_seconds:.0f} s{draining}")


def _stages_table(system: SystemStatus) -> Table:
    table = Table(
        "node", "stage", "address", "health", "bundle", "in flight", "ms a frame", "seen s ago"
    )
    for stage in system.stages:
        first, *further = stage.models or (None,)
        estimate = stage.estimate if first is None else first.estimate
        table.add_row(
            stage.node,
            stage.stage.value,
            stage.address,
            _health(stage.healthy, _in_cell(stage.reason, system)),
            "" if first is None else _bundle(first),
            _in_flight(stage),
            *_speed(estimate),
        )
        for model in further:
            table.add_row(*("", "", "", "", _bundle(model), ""), *_speed(model.estimate))
    return table


def _speed(estimate: ServiceEstimate | None) -> tuple[str, str]:
    """Milliseconds of a frame, and the seconds since the latest one."""
    if estimate is None:
        return "", ""
    return f"{estimate.execute_seconds * 1e3:.1f}", f"{estimate.age_seconds:.0f}"


def _in_flight(stage: StageStatus) -> str:
    """The frames of this orchestrator in a stage, and those of others if it has any."""
    own, others = stage.frames_in_flight, stage.frames_of_others
    return f"{own} + {others}" if others else str(own)


def _placements_table(system: SystemStatus) -> Table:
    table = Table(
        *("placement", "state", "frames", "frames a second"),
        *("expected", "latency ms", "kB a frame", "limited by"),
    )
    for one in system.placements:
        expected = one.prediction
        # A pair can be available and still not be chosen: its reason is worth telling.
        state = _health(one.available and not one.reason, _in_cell(one.reason, system), "available")
        table.add_row(
            one.node_pair.name,
            state,
            str(one.frames),
            f"{one.frames_per_second:.1f}",
            f"{expected.frames_per_second:.1f}" if expected else "",
            f"{expected.latency_seconds * 1e3:.1f}" if expected else "",
            kilobytes(expected.bytes_per_frame) if expected else "",
            expected.bottleneck if expected else "",
        )
    return table


def _links_table(system: SystemStatus) -> Table:
    table = Table("link", "Mbit/s", "round trip ms", "seen s ago")
    for link in system.links:
        table.add_row(
            f"{link.source} to {link.destination}",
            f"{link.bytes_per_second * 8e-6:.1f}",
            f"{link.latency_seconds * 1e3:.2f}",
            f"{link.age_seconds:.0f}",
        )
    return table


def _in_cell(reason: str, system: SystemStatus) -> str:
    """A reason without the sentences that `_long_reasons` has."""
    for stage in system.stages:
        if _is_long(stage.reason):
            reason = reason.replace(stage.reason, "cannot serve, see below")
    return reason


def _long_reasons(system: SystemStatus) -> Iterator[str]:
    """Why stages cannot serve, where a column of a table would be too narrow for it."""
    for stage in system.stages:
        if _is_long(stage.reason):
            yield f"{stage.stage.value} on {stage.node}: {stage.reason}"


def _is_long(reason: str) -> bool:
    return len(reason) > _LONGEST_IN_CELL


def _event_lines(events: EventCounts) -> Iterator[str]:
    for what, counts in (("switches", events.switches), ("faults", events.failovers)):
        if counts:
            told = ", ".join(f"{number} {reason}" for reason, number in sorted(counts.items()))
            yield f"{what}: {told}"
    if events.retried_frames:
        yield f"frames sent again: {events.retried_frames}"


def _placement_sentence(system: SystemStatus) -> str:
    setting = _name(system.operator_pair, AUTOMATIC)
    if system.active_pair is None:
        return f"placement: {setting}, but nothing can be served now"
    if system.operator_pair is None:
        return f"placement: {AUTOMATIC}, for {system.objective}; now {system.active_pair.name}"
    return f"placement: {setting}"


def _model_sentence(choice: ModelChoice) -> str:
    """Where a model's streams go, and how many of its frames are served."""
    rate = sum(each.frames_per_second for each in choice.placements)
    if choice.active_pair is None:
        return f"model {choice.name}: nothing can be served now"
    return f"model {choice.name}: now {choice.active_pair.name}, {rate:.1f} frames a second"


def _bundle(model: ModelStatus) -> str:
    """The bundle that a model is served with."""
    told = f"{model.bundle_name} {model.bundle_digest[:8]}"
    return f"{model.name}: {told}" if model.name else told


def _health(good: bool, reason: str, word: str = "healthy") -> Text:
    return Text(word, style="green") if good else Text(reason or "down", style="red")


def _name(pair: NodePair | None, none: str | None) -> str | None:
    return none if pair is None else pair.name
