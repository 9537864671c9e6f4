"""Where a benchmark's processes run: a core and a network of their own, on two sides of a link.

A shaped link is made of network namespaces: it takes Linux, root and iproute2.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from common.domain.errors import ConfigurationError, ServiceError, TandemError
from common.domain.placement import EDGE, WORKSTATION
from tandem.processes import ServiceProcess

LOOPBACK = "127.0.0.1"
T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[1]
_MINIMUM_BURST_BYTES = 4_000
# What the filter may let through at once: this long at full rate, at least a few packets.
_BURST_SECONDS = 0.002
_QUEUE = "50ms"
# Of Ethernet, and four of them: a modem keeps more, and then everything on the link is late.
_PACKET_BYTES = 1_600
_SLOW_QUEUE_BYTES = 6_000
_DEVICE = "tandem0"


@dataclass(frozen=True)
class Host:
    """A node's place.

    Attributes:
        node: its name.
        core: that its processes are pinned to; None leaves them to the scheduler.
        address: that they listen on.
        namespace: network namespace; None is that of this process.
    """

    node: str
    core: int | None
    address: str = LOOPBACK
    namespace: str | None = None

    def command(self, module: str, arguments: Sequence[str]) -> list[str]:
        """The command line of `python -m MODULE ARGUMENTS` here."""
        network = ["ip", "netns", "exec", self.namespace] if self.namespace else []
        pinned = [] if self.core is None else ["taskset", "--cpu-list", str(self.core)]
        return [*network, *pinned, sys.executable, "-m", module, *arguments]

    async def start(self, name: str, module: str, arguments: Sequence[str]) -> ServiceProcess:
        """Start a service here; see `tandem.processes.ServiceProcess.start`."""
        process = await asyncio.create_subprocess_exec(
            *self.command("tandem.child", [module, *arguments]),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        return ServiceProcess(name, process, None)

    async def run(self, module: str, *arguments: str) -> str:
        """Run `python -m MODULE ARGUMENTS` here to its end; what it printed.

        Raises:
            ServiceError: it failed; with its last line.
        """
        return await run_command(self.command(module, arguments))


def run_to_end(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, but SIGTERM too leaves every context: no process or network stays behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return asyncio.run(main)
    except TandemError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit("interrupted") from None


async def run_command(command: Sequence[str]) -> str:
    """Run a command to its end; what it printed.

    Raises:
        ServiceError: it failed; with its last line.
    """
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if process.returncode != 0:
        last = (errors.decode().strip().splitlines() or ["it said nothing"])[-1]
        raise ServiceError(f"{' '.join(command[:8])} ...: {last}")
    return output.decode()


LOCAL_EDGE = Host(EDGE, core=0)
LOCAL_WORKSTATION = Host(WORKSTATION, core=1)


class ShapedLink:
    """An edge and a workstation, each with an end of a veth pair; a context manager.

    Leaving removes both namespaces, and with them the link and its shapers.

    Attributes:
        edge: where the edge's processes run.
        workstation: where the workstation's run.
        megabits: rate of each direction, Mbit/s; 0: not limited.
    """

    def __init__(self, edge_core: int = 0, workstation_core: int = 1) -> None:
        """Name the namespaces after this process; nothing is made yet."""
        self.megabits = 0.0
        own = os.getpid()
        self.edge = Host(EDGE, edge_core, "10.77.0.1", f"tandem-edge-{own}")
        self.workstation = Host(
            WORKSTATION, workstation_core, "10.77.0.2", f"tandem-workstation-{own}"
        )

    def __enter__(self) -> Self:
        """Make both namespaces and an unshaped link.

        Raises:
            ConfigurationError: this process is not root.
            ServiceError: a command failed; with what it said.
        """
        if os.geteuid() != 0:
            raise ConfigurationError("network namespaces and traffic shaping need root")
        try:
            for host in self._hosts():
                _ip("netns", "add", str(host.namespace))
                _ip("-n", str(host.namespace), "link", "set", "lo", "up")
            edge, workstation = (str(host.namespace) for host in self._hosts())
            far = ("peer", "name", _DEVICE, "netns", workstation)
            _ip("link", "add", "name", _DEVICE, "netns", edge, "type", "veth", *far)
            for host in self._hosts():
                _ip(
                    "-n",
                    str(host.namespace),
                    "address",
                    "add",
                    f"{host.address}/24",
                    "dev",
                    _DEVICE,
                )
                _ip("-n", str(host.namespace), "link", "set", _DEVICE, "up")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove both namespaces."""
        self._remove()

    def shape(self, megabits: float) -> None:
        """Limit each direction to `megabits` a second; packets wait in a queue of 50 ms.

        Under 1 Mbit/s in a queue of a few packets, and no more than one goes out at once.
        """
        self.megabits = megabits
        bytes_a_second = megabits * 1e6 / 8
        if megabits < 1:
            burst, queue = _PACKET_BYTES, ("limit", f"{_SLOW_QUEUE_BYTES}b")
        else:
            burst = max(_MINIMUM_BURST_BYTES, int(bytes_a_second * _BURST_SECONDS))
            queue = ("latency", _QUEUE)
        limit = ("rate", f"{round(megabits * 1e6)}bit", "burst", f"{burst}b", *queue)
        for host in self._hosts():
            _run("tc", *_device_of(host, "replace"), "root", "tbf", *limit)

    def carried_bytes(self) -> tuple[int, int]:
        """What has left for the workstation and for the edge so far, with all headers."""
        told = [_run("tc", "-s", "-j", *_device_of(host, "show")) for host in self._hosts()]
        to_workstation, to_edge = (int(json.loads(each)[0]["bytes"]) for each in told)
        return to_workstation, to_edge

    def _hosts(self) -> tuple[Host, Host]:
        return self.edge, self.workstation

    def _remove(self) -> None:
        for host in self._hosts():
            # One that was never made is no matter.
            subprocess.run(
                ["ip", "netns", "delete", str(host.namespace)], check=False, capture_output=True
            )


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _device_of(host: Host, action: str) -> tuple[str, ...]:
    return ("-n", str(host.namespace), "qdisc", action, "dev", _DEVICE)


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ServiceError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
