"""Processes that tell what they measure, line by line."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

from benchmarks.hosts import ROOT, Host
from common.domain.errors import ServiceError


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
