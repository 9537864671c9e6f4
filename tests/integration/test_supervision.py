"""A service whose background work fails ends loudly, and does not go on as if nothing were."""

import subprocess
import sys

import pytest

from tests.harness import ROOT, clean_environment

PROGRAM = """
import asyncio, sys
from common.server.server import ServiceServer, run_service
from common.server.settings import ServerSettings

async def work():
    await asyncio.sleep(0.1)
    {work}

async def serve():
    server = ServiceServer("test", ServerSettings(grace_seconds=1))
    server.supervise(work(), "watching the paint dry")
    async def prepare():
        pass
    await server.run(prepare)
    return True

run_service(serve, "test service")
"""


@pytest.mark.parametrize("work", ["raise KeyError('paint')", "return"])
def test_a_service_ends_loudly_with_its_background_work(work):
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(work=work)],
        cwd=str(ROOT),
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "watching the paint dry" in ended.stdout + ended.stderr
    assert "test service: background work failed" in ended.stderr
