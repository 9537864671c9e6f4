"""`tandem up`: all of Tandem on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from common.domain.address import DEFAULT_PORT, parse_host
from common.domain.errors import UnavailableError
from common.domain.redaction import fit_to_show
from tandem.cli.console import show_json, show_line, show_notice, show_table
from tandem.cli.options import (
    BundleOption,
    DeviceOption,
    JsonOption,
    ObjectiveOption,
    PacedOption,
    PrecisionOption,
    RequireSignatureOption,
    local_cluster,
    parse_models,
    parse_paced,
)
from tandem.cli.running import run
from tandem.cluster import ClusterOptions, LocalCluster
from tandem.live_view import LiveViewOptions, RunningLiveView
from tandem.live_view import live_view as run_live_view
from tandem.processes import ServiceProcess
from tandem.shipped import shipped_bundle


class LogLevel(StrEnum):
    """Of the services' logs."""

    INFO = "info"
    WARNING = "warning"


class _Logs:
    """Passes the services' log lines on to standard error, while they are wanted."""

    def __init__(self, shown: bool) -> None:
        self.shown = shown

    def __call__(self, name: str, line: str) -> None:
        if self.shown:
            sys.stderr.write(f"{name}: {fit_to_show(line)}\n")


def up(
    *,
    bundle: BundleOption = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--models",
            metavar="NAME=DIR",
            help="Folder of a further model, and the name by which streams choose it (--model NAME "
            "of tandem detect); may be given several times. Each takes memory in every stage.",
        ),
    ] = None,
    bundles: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Folder whose folders are bundles that tandem model deploy may name.",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            callback=parse_host, help="Address that the orchestrator listens on; 0.0.0.0 for all."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The orchestrator's port; 0 picks a free one.")
    ] = DEFAULT_PORT,
    window: Annotated[
        int | None, typer.Option(min=1, help="Frames of one stream in flight at a time.")
    ] = None,
    objective: ObjectiveOption = None,
    device: DeviceOption = None,
    engine_precision: PrecisionOption = "auto",
    require_signature: RequireSignatureOption = None,
    paced: PacedOption = None,
    certificates: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder that `tandem certificates init` made: connections are encrypted, and "
            "callers have to prove who they are.",
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            help="Serve other machines without TLS, where anybody may do anything.",
        ),
    ] = False,
    live_view: Annotated[
        bool,
        typer.Option(
            "--live-view",
            help="Show cameras in a browser of this machine: the demo clip, again "
            "and again, or those of --cameras.",
        ),
    ] = False,
    cameras: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="YAML file with the cameras of the live view: docs/gateway.md."
        ),
    ] = None,
    http_port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="The live view's port; 0 picks a free one."),
    ] = 8080,
    log_level: Annotated[
        LogLevel, typer.Option(help="Lowest level of the services' log lines on standard error.")
    ] = LogLevel.WARNING,
    json: JsonOption = False,
) -> None:
    """Run an edge node, a workstation node and the orchestrator here, until Ctrl-C.

    Each node runs both stages. With --json one line tells every address once all are healthy.
    """
    # What a service says before it is healthy is told by the error if it does not become so.
    logs = _Logs(shown=log_level is LogLevel.INFO)
    options = ClusterOptions(
        bundle=bundle or shipped_bundle(),
        models=parse_models(models or ()),
        bundles=bundles,
        host=host,
        port=port,
        device=device,
        precision=engine_precision,
        require_signature=require_signature,
        paced_milliseconds=parse_paced(paced),
        window=window,
        objective=objective.value if objective else None,
        certificates=certificates,
        insecure=insecure,
        log_level=log_level.value,
        on_log=logs,
    )
    viewing = LiveViewOptions(
        port=http_port,
        cameras=cameras,
        certificates=certificates,
        log_level=log_level.value,
        on_log=logs,
    )
    shows = live_view or cameras is not None
    run(_serve(options, viewing if shows else None, logs, json))


async def _serve(
    options: ClusterOptions, viewing: LiveViewOptions | None, logs: _Logs, as_json: bool
) -> None:
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(local_cluster(options))
        view = None
        if viewing is not None:
            view = await stack.enter_async_context(run_live_view(viewing, cluster))
        if as_json:
            show_json(cluster_to_json(cluster, view))
        else:
            show_table(_table(cluster))
            if view is not None:
                show_line(f"live view: {view.url}")
            for stage, milliseconds in options.paced_milliseconds.items():
                show_line(f"simulated: the {stage.value} takes at least {milliseconds:g} ms")
            show_line(_next_command(options, cluster.orchestrator.address))
            show_line("Ctrl-C stops them.")
        logs.shown = True
        await _watch((*cluster.processes, *([] if view is None else [view.process])))


def _next_command(options: ClusterOptions, address: str) -> str:
    command = f"tandem detect SOURCE --server {address}"
    if options.certificates is None:
        return command
    own = options.certificates / "client"
    return (
        f"{command} --tls-ca {own / 'peers-ca.crt'} --tls-certificate {own / 'client.crt'} "
        f"--tls-key {own / 'client.key'}"
    )


async def _watch(processes: tuple[ServiceProcess, ...]) -> None:
    """Report children that end; return never.

    Raises:
        UnavailableError: the orchestrator ended, without which nothing can be served.
    """
    orchestrator = processes[0]
    waits = {asyncio.create_task(process.wait()): process for process in processes}
    try:
        while True:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in done:
                process = waits.pop(wait)
                ended = f"the {process.name} ended with exit code {wait.result()}"
                if process is orchestrator:
                    raise UnavailableError(f"{ended}: {process.last_words()}")
                show_notice(ended)
    finally:
        for wait in waits:
            wait.cancel()


def cluster_to_json(cluster: LocalCluster, view: RunningLiveView | None = None) -> dict[str, Any]:
    """The machine-readable form of `tandem up --json`."""
    gateway = {} if view is None else {"gateway": {**vars(view.announcement), "http": view.url}}
    return {
        **gateway,
        "orchestrator": vars(cluster.orchestrator),
        "stages": [
            {"node": one.node, "stage": one.stage.value, **vars(one.announcement)}
            for one in cluster.stages
        ],
    }


def _table(cluster: LocalCluster) -> Table:
    table = Table("service", "node", "address", "metrics", "pid")
    told = cluster.orchestrator
    table.add_row("orchestrator", "", told.address, told.metrics, str(told.pid))
    for one in cluster.stages:
        told = one.announcement
        table.add_row(one.stage.value, one.node, told.address, told.metrics, str(told.pid))
    return table
