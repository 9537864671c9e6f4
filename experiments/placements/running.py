"""One run: services up, frames streamed, memory and power sampled, all written down."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.hosts import ROOT, Host
from common.domain.errors import ServiceError
from common.domain.placement import Stage
from experiments.placements.cases import PIPELINED, SINGLE, Run
from experiments.placements.config import Config
from experiments.placements.folder import RUN_FILE
from experiments.placements.samples import PERIOD_SECONDS, SampleRow, sample_rows, write_samples
from experiments.placements.sites import LocalSite, RemoteSite, System
from experiments.placements.streaming import (
    MOST_IN_FLIGHT,
    FrameRow,
    Phase,
    StreamPlan,
    write_frames,
)
from experiments.placements.summary import FRAMES_FILE, SAMPLES_FILE

_STREAMING = "experiments.placements.streaming"
_SAMPLING = "experiments.placements.samples"


class Child:
    """`python -m MODULE ARGUMENTS` on a host; an asynchronous context manager that ends it."""

    def __init__(self, host: Host, module: str, arguments: Sequence[str]) -> None:
        """Prepare; nothing is started yet."""
        # By way of tandem.child, which ends with this process however that ends.
        self._command = host.command("tandem.child", [module, *arguments])
        self._name = module
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        """Start it."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop and reap it."""
        process = self._started()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        await process.communicate()

    async def lines(self) -> AsyncIterator[str]:
        """What it prints, until it ends.

        Raises:
            ServiceError: it failed; with its last line.
        """
        process = self._started()
        if process.stdout is None or process.stderr is None:
            raise RuntimeError("the process was started without pipes")
        errors = asyncio.create_task(process.stderr.read())
        try:
            while line := await process.stdout.readline():
                yield line.decode()
            if await process.wait() != 0:
                last = ((await errors).decode().strip().splitlines() or ["it said nothing"])[-1]
                raise ServiceError(f"{self._name}: {last}")
        finally:
            errors.cancel()
            await asyncio.wait([errors])

    def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("a Child is used outside of its 'async with' block")
        return self._process


@dataclass(frozen=True)
class Measured:
    """What a run gave.

    Attributes:
        frames: every row, of frames that are not measured too.
        samples: of all nodes that the placement uses.
        sampler_share: of a core that sampling took on each node; the services' part in it, about
            as much again, is not in there.
    """

    frames: list[FrameRow]
    samples: list[SampleRow]
    sampler_share: dict[str, float]


class Sampler:
    """One node's sampler while a run is under way."""

    def __init__(self, node: str, child: Child) -> None:
        """Read from `child`, which is started."""
        self.node = node
        self.told: list[dict[str, Any]] = []
        self._ready = asyncio.Event()
        self._reading = asyncio.create_task(self._read(child))

    async def ready(self) -> None:
        """Wait for the first sample.

        Raises:
            ServiceError: the metrics cannot be read.
        """
        first = asyncio.create_task(self._ready.wait())
        await asyncio.wait([first, self._reading], return_when=asyncio.FIRST_COMPLETED)
        first.cancel()
        self.check()

    def check(self) -> None:
        """Raise what went wrong, if it has.

        Raises:
            ServiceError: the metrics cannot be read any more.
        """
        if self._reading.done():
            self._reading.result()

    async def end(self) -> None:
        """Read no more."""
        self._reading.cancel()
        await asyncio.wait([self._reading])

    @property
    def core_share(self) -> float:
        """CPU seconds a second."""
        first, last = self.told[0], self.told[-1]
        seconds = last["at"] - first["at"]
        return (last["cpu_seconds"] - first["cpu_seconds"]) / seconds if seconds else 0.0

    async def _read(self, child: Child) -> None:
        async for line in child.lines():
            self.told.append(json.loads(line))
            self._ready.set()


def plan_of(run: Run, config: Config, files: Path) -> StreamPlan:
    """What the client of a run sends."""
    model = next(each for each in config.models if each.name == run.case.model)
    return StreamPlan(
        files=str(files),
        placement=run.case.placement.value,
        codec=run.case.codec.value if run.case.codec else None,
        cameras=config.cameras,
        phases=(
            Phase(
                PIPELINED,
                warm_up=config.warm_up,
                frames=model.frames or config.frames,
                cool_down=config.cool_down,
                in_flight=MOST_IN_FLIGHT,
            ),
            Phase(
                SINGLE,
                warm_up=config.single_warm_up,
                frames=model.single_frames or config.single_frames,
                cool_down=0,
                in_flight=1,
            ),
        ),
    )


async def measure(
    site: LocalSite | RemoteSite, run: Run, plan: StreamPlan, on_frame: Callable[[], None]
) -> Measured:
    """Run once.

    Raises:
        ServiceError: a frame failed, or a service or its metrics were lost.
    """
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(site.system(run.case))
        samplers = await _start_samplers(stack, system)
        arguments = [system.orchestrator, json.dumps(asdict(plan))]
        client = await stack.enter_async_context(Child(system.client, _STREAMING, arguments))
        rows = []
        async for line in client.lines():
            rows.append(FrameRow(**json.loads(line)))
            on_frame()
        for sampler in samplers:
            sampler.check()
        spans = _spans(rows)
        samples = [row for each in samplers for row in sample_rows(each.node, each.told, spans)]
        return Measured(rows, samples, {each.node: each.core_share for each in samplers})


async def _start_samplers(stack: AsyncExitStack, system: System) -> list[Sampler]:
    samplers = []
    for node, urls in system.metrics.items():
        child = await stack.enter_async_context(_sampling(system.samplers[node], urls))
        sampler = Sampler(node, child)
        stack.push_async_callback(sampler.end)
        samplers.append(sampler)
    for sampler in samplers:
        await sampler.ready()
    return samplers


def _sampling(host: Host, urls: Mapping[Stage, str]) -> Child:
    services = [f"{stage.value}={url}" for stage, url in urls.items()]
    return Child(host, _SAMPLING, [str(PERIOD_SECONDS), *services])


def _spans(rows: Sequence[FrameRow]) -> dict[str, tuple[float, float]]:
    """First and last answer of each phase that is measured.

    Raises:
        ServiceError: there are none: the client ended early.
    """
    spans: dict[str, tuple[float, float]] = {}
    for row in rows:
        if row.measured:
            begin, _ = spans.get(row.phase, (row.answered_at, 0.0))
            spans[row.phase] = (begin, row.answered_at)
    if not spans:
        raise ServiceError("no frame was answered")
    return spans


def write_run(folder: Path, run: Run, measured: Measured, taken_seconds: float) -> None:
    """Write a run's raw rows and how it went."""
    with (folder / FRAMES_FILE).open("w", encoding="utf-8", newline="") as file:
        write_frames(measured.frames, file)
    with (folder / SAMPLES_FILE).open("w", encoding="utf-8", newline="") as file:
        write_samples(measured.samples, file)
    told = {
        "run": run.name,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(taken_seconds, 3),
        "load_average": os.getloadavg()[0],
        "sampler_core_share": measured.sampler_share,
    }
    (folder / RUN_FILE).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
