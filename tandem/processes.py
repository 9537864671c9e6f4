"""One service as a child process: started, awaited until healthy, and always reaped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.domain.errors import UnavailableError

# Importing, loading a large model and warming its engine up on a slow machine.
START_TIMEOUT_SECONDS = 120.0
# Time to answer the frames in flight after SIGTERM.
STOP_GRACE_SECONDS = 5.0
_CHUNK_BYTES = 1 << 16
# Of the services' settings, which refuse keys that they do not know; importing it from
# common.server.settings would cost a fifth of a second.
_SETTINGS_PREFIX = "TANDEM_"
_ROOT = Path(__file__).resolve().parent.parent

LogSink = Callable[[str, str], None]


@dataclass(frozen=True)
class Announcement:
    """What a service tells once it is healthy.

    Attributes:
        address: `host:port` of its gRPC server.
        metrics: URL of its Prometheus text.
        pid: number of its process.
    """

    address: str
    metrics: str
    pid: int


class ServiceProcess:
    """A running service.

    Attributes:
        told: the whole line by which it announced itself; empty until it is healthy.
    """

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, on_log: LogSink | None
    ) -> None:
        """Take over a process that has just been started; see `start`."""
        self.name = name
        self.told: dict[str, Any] = {}
        self._process = process
        self._on_log = on_log
        self._last_line = ""
        self._log_reader = asyncio.create_task(self._read_log())

    @classmethod
    async def start(
        cls, name: str, module: str, arguments: Sequence[str], on_log: LogSink | None = None
    ) -> ServiceProcess:
        """Start `python -m MODULE ARGUMENTS`, bound to the life of this process.

        Args:
            name: for messages, such as `edge backbone`.
            module: of the service.
            arguments: its command line.
            on_log: called with the name and each line that the service writes to stderr.
        """
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tandem.child", module, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(),
            # Ctrl-C is for the parent alone, which then stops its children in good order.
            start_new_session=True,
        )
        return cls(name, process, on_log)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    async def announcement(self) -> Announcement:
        """Wait until the service is healthy, or has told in `told` why it will not be.

        Raises:
            UnavailableError: it ended or stayed silent instead; with its last words.
        """
        output = self._process.stdout
        if output is None:
            raise RuntimeError("the process was started without a pipe")
        try:
            line = await asyncio.wait_for(output.readline(), START_TIMEOUT_SECONDS)
        except TimeoutError as error:
            raise UnavailableError(
                f"the {self.name} was not healthy within {START_TIMEOUT_SECONDS:g} seconds"
            ) from error
        if not line:
            code = await self.wait()
            raise UnavailableError(
                f"the {self.name} did not start (exit code {code}): {self.last_words()}"
            )
        self.told = json.loads(line)
        return Announcement(self.told["address"], self.told["metrics"], self.told["pid"])

    async def wait(self) -> int:
        """Wait until the process has ended and its log is read; its exit code."""
        code = await self._process.wait()
        await asyncio.wait([self._log_reader])
        return code

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after a grace; returns when the process is reaped."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), STOP_GRACE_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self.wait()

    def last_words(self) -> str:
        """The last line of its log, without the program's name in front of an error."""
        return re.sub(r"^python -m [\w.]+: ", "", self._last_line) or "it said nothing"

    async def _read_log(self) -> None:
        """Drain stderr, so that the service never blocks on it; a line may have any length."""
        stream = self._process.stderr
        if stream is None:
            raise RuntimeError("the process was started without a pipe")
        rest = b""
        while chunk := await stream.read(_CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._log(line)
        if rest:
            self._log(rest)

    def _log(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if text:
            self._last_line = text
            if self._on_log is not None:
                self._on_log(self.name, text)


def _environment() -> dict[str, str]:
    """Ours, less the services' own settings: the command line alone says what children do."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS_PREFIX)
    }
    paths = [str(_ROOT), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return environment
