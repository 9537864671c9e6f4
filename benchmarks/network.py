"""Two network namespaces with one shaped link between them; Linux, root, iproute2."""

from __future__ import annotations

import os
import subprocess
from types import TracebackType
from typing import Self

from benchmarks.hosts import Host
from common.domain.errors import ConfigurationError, ServiceError
from common.domain.placement import EDGE, WORKSTATION

_MINIMUM_BURST_BYTES = 4_000
# What the filter may let through at once: this long at full rate, at least a few packets.
_BURST_SECONDS = 0.002
_QUEUE = "50ms"
_DEVICE = "tandem0"


class ShapedLink:
    """An edge and a workstation, each with an end of a veth pair; a context manager.

    Leaving removes both namespaces, and with them the link and its shapers.

    Attributes:
        edge: where the edge's processes run.
        workstation: where the workstation's run.
    """

    def __init__(self, edge_core: int = 0, workstation_core: int = 1) -> None:
        """Name the namespaces after this process; nothing is made yet."""
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
        """Limit each direction to `megabits` a second; packets wait in a queue of 50 ms."""
        bytes_a_second = megabits * 1e6 / 8
        burst = max(_MINIMUM_BURST_BYTES, int(bytes_a_second * _BURST_SECONDS))
        limit = ("rate", f"{megabits}mbit", "burst", f"{burst}b", "latency", _QUEUE)
        for host in self._hosts():
            _run(
                "tc",
                "-n",
                str(host.namespace),
                "qdisc",
                "replace",
                "dev",
                _DEVICE,
                "root",
                "tbf",
                *limit,
            )

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


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ServiceError(f"{' '.join(command)}: {done.stderr.strip()}")
