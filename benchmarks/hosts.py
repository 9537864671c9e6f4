"""Where a benchmark's processes run: a core and a network of their own."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from common.domain.errors import ServiceError, TandemError
from common.domain.placement import EDGE, WORKSTATION
from tandem.processes import ServiceProcess

LOOPBACK = "127.0.0.1"
T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[1]


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
