"""What does TLS cost?

`python -m benchmarks.encryption` runs the same system with TLS and without, side by side: paced
engines at a known speed, the orchestrator alone on one core, and the bytes on the way from the
orchestrator to a stage.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from benchmarks.camera import CameraPlan
from benchmarks.cluster import Cluster, ClusterPlan
from benchmarks.hosts import LOCAL_EDGE, LOCAL_WORKSTATION, Host, run_to_end
from benchmarks.relaying import FRAMES, orchestrator_rate
from benchmarks.report import Row, conclude, frames_per_second
from benchmarks.suite import clip_images
from common.certificates.folder import AuthorityFolder, set_up
from common.domain.placement import EDGE, WORKSTATION, Placement, Stage
from common.security.identity import Identity, Role
from tandem.processes import Announcement
from tandem.shipped import shipped_bundle

PACE_MS = 20.0
_FRAMES = 300
_WARM_UP = 40
_REQUIRED_PIPELINE = 0.99
_REQUIRED_ORCHESTRATOR = 0.85
_MOST_BYTES = 1.01
_CHUNK_BYTES = 1 << 16
# Whose certificate also holds the names of all stages.
_INSTANT = Identity(Role.TRANSFORMER, "instant")


def make_certificates(folder: Path) -> None:
    """Make an authority with all that a local cluster needs, and one server that is every stage."""
    authority = AuthorityFolder.create(folder)
    set_up(authority, {}, 1)
    stages = [Identity(Role(stage.value), node) for node in (EDGE, WORKSTATION) for stage in Stage]
    authority.issue(_INSTANT, [each.server_name for each in stages])


class CountingProxy:
    """Passes connections on, and counts the bytes of both directions.

    Attributes:
        count: bytes so far.
        sent: those of them that callers sent.
    """

    def __init__(self, target: str) -> None:
        """Pass connections on to `target`, host:port."""
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self.count = 0
        self.sent = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Listen while the context lasts; gives the address."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()
            yield f"{host}:{port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, self._port)
        await asyncio.gather(self._pass(reader, back, sent=1), self._pass(there, writer, sent=0))

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, sent: int
    ) -> None:
        try:
            while chunk := await reader.read(_CHUNK_BYTES):
                self.count += len(chunk)
                self.sent += sent * len(chunk)
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@dataclass(frozen=True)
class Speed:
    """How fast an orchestrator was.

    Attributes:
        frames_per_second: by the clock.
        processor_seconds: that its process computed for; what else runs hardly changes them.
    """

    frames_per_second: float
    processor_seconds: float


class Alone:
    """An orchestrator in front of stages that answer at once; started by `running`.

    Attributes:
        proxy: between the orchestrator and the stages; None: they are connected directly.
    """

    def __init__(self, certificates: str, frames: int, *, counted: bool = False) -> None:
        """Prepare.

        Args:
            certificates: folder of an authority; empty: no TLS.
            frames: that a measurement sends.
            counted: whether there is a proxy that counts bytes.
        """
        self._certificates = certificates
        self._frames = frames
        self._counted = counted
        self.proxy: CountingProxy | None = None
        self._address = ""
        self._pid = 0

    async def speed(self) -> Speed:
        """Measure once."""
        process = psutil.Process(self._pid)
        before = process.cpu_times()
        rate = await orchestrator_rate(self._address, self._certificates, self._frames)
        after = process.cpu_times()
        return Speed(rate, after.user + after.system - before.user - before.system)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Alone]:
        """Run the processes while the context lasts."""
        async with AsyncExitStack() as stack:

            async def start(host: Host, module: str, *arguments: str) -> Announcement:
                process = await host.start(module, module, arguments)
                stack.push_async_callback(process.stop)
                return await process.announcement()

            own = str(Path(self._certificates) / _INSTANT.name) if self._certificates else ""
            told = await start(LOCAL_WORKSTATION, "benchmarks.instant", "stage", "", own)
            stage = told.address
            if self._counted:
                self.proxy = CountingProxy(stage)
                stage = await stack.enter_async_context(self.proxy.listening())
            stages = {each.value: stage for each in Stage}
            nodes = json.dumps({EDGE: stages, WORKSTATION: stages})
            listening = ("--nodes", nodes, "--port", "0", "--metrics-port", "0")
            # A machine that is busy with other work must not make a stage unavailable.
            patient = ("--health-timeout-seconds", "30", "--unavailable-after", "60")
            quiet = ("--log-level", "warning", *patient)
            arguments = (*listening, *quiet, *self._security())
            told = await start(LOCAL_EDGE, "services.orchestrator", *arguments)
            self._address, self._pid = told.address, told.pid
            yield self

    def _security(self) -> tuple[str, ...]:
        if not self._certificates:
            return ()
        own = Path(self._certificates) / WORKSTATION
        return (
            *("--tls-certificate", str(own / "orchestrator.crt")),
            *("--tls-key", str(own / "orchestrator.key")),
            *("--tls-peers-ca", str(own / "peers-ca.crt")),
            *("--tls-clients-ca", str(own / "clients-ca.crt")),
        )


async def orchestrator_ratios(certificates: str, repetitions: int, frames: int) -> list[Row]:
    """How fast the orchestrator alone is with TLS, as a share of how fast it is without."""
    pairs = []
    plain_one, encrypted_one = Alone("", frames), Alone(certificates, frames)
    async with plain_one.running() as plain, encrypted_one.running() as encrypted:
        for _ in range(repetitions):
            pairs.append((await plain.speed(), await encrypted.speed()))
    rates = [each[1].frames_per_second / each[0].frames_per_second for each in pairs]
    costs = [each[0].processor_seconds / each[1].processor_seconds for each in pairs]
    return [
        Row(
            "orchestrator alone, 20 kB frames: frames/s with TLS / without",
            statistics.median(rates),
            "",
            _REQUIRED_ORCHESTRATOR,
            "; ".join(
                f"{encrypted.frames_per_second:.0f} / {plain.frames_per_second:.0f}"
                for plain, encrypted in pairs
            ),
        ),
        Row(
            "the same by its processor time: without TLS / with",
            statistics.median(costs),
            "",
            _REQUIRED_ORCHESTRATOR,
            "; ".join(
                f"{plain.processor_seconds:.2f} / {encrypted.processor_seconds:.2f} s"
                for plain, encrypted in pairs
            ),
        ),
    ]


async def bytes_ratio(certificates: str, frames: int) -> Row:
    """The bytes between orchestrator and stage without TLS, as a share of those with it."""
    counts = []
    for folder in ("", certificates):
        async with Alone(folder, frames, counted=True).running() as system:
            await system.speed()
            counts.append(system.proxy.count if system.proxy else 0)
    return Row(
        "orchestrator and stage, 20 kB frames: bytes without TLS / with",
        counts[0] / counts[1],
        "",
        1 / _MOST_BYTES,
        f"{counts[0]} / {counts[1]} bytes, health checks included",
    )


async def pipeline_ratio(certificates: Path, pictures: Path, repetitions: int) -> Row:
    """The rate of paced engines with TLS, as a share of that without."""
    paced = dict.fromkeys(Stage, PACE_MS)
    plans = [
        ClusterPlan(shipped_bundle(), engine="none", paced_milliseconds=paced, certificates=folder)
        for folder in (None, certificates)
    ]
    without_tls = CameraPlan(
        str(pictures), Placement.BACKBONE.value, "int8", count=_FRAMES, warm_up=_WARM_UP
    )
    with_tls = replace(without_tls, certificates=str(certificates))
    ratios, shares = [], []
    async with Cluster(plans[0]) as plain, Cluster(plans[1]) as encrypted:
        for _ in range(repetitions):
            plain_fps = frames_per_second(await plain.stream(without_tls))
            tls_fps = frames_per_second(await encrypted.stream(with_tls))
            ratios.append(tls_fps / plain_fps)
            shares.append(f"{tls_fps * PACE_MS / 1000:.3f} / {plain_fps * PACE_MS / 1000:.3f}")
    return Row(
        "paced 20 + 20 ms, backbone: frames/s with TLS / without",
        statistics.median(ratios),
        "",
        _REQUIRED_PIPELINE,
        "of the ideal: " + "; ".join(shares),
    )


async def measure(folder: Path, repetitions: int, frames: int) -> list[Row]:
    """Measure all."""
    certificates, pictures = folder / "certificates", folder / "pictures"
    make_certificates(certificates)
    pictures.mkdir()
    for index, image in enumerate(clip_images()):
        (pictures / f"{index:03}.jpg").write_bytes(image.data)
    return [
        *await orchestrator_ratios(str(certificates), repetitions, frames),
        await pipeline_ratio(certificates, pictures, repetitions),
        await bytes_ratio(str(certificates), frames),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encryption", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5, help="of each measurement")
    parser.add_argument(
        "--frames", type=int, default=FRAMES, help="of each measurement of the orchestrator alone"
    )
    parser.add_argument("--csv", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tandem-benchmarks-") as folder:
        rows = run_to_end(measure(Path(folder), options.repetitions, options.frames))
    conclude("What TLS costs", rows, options.csv)


if __name__ == "__main__":
    main()
