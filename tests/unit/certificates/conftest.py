import subprocess

import pytest


@pytest.fixture
def openssl():
    """Runs openssl to the end; its output."""

    def run(*arguments):
        done = subprocess.run(
            ["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
