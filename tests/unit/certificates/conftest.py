import subprocess

import pytest

from common.certificates.folder import AuthorityFolder, set_up


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The folder of an authority, with all that a pair of machines needs; nobody changes it."""
    folder = tmp_path_factory.mktemp("authority") / "certificates"
    set_up(AuthorityFolder.create(folder), {"edge": ["tx2.example", "[fd00::5]", "192.168.1.20"]})
    return folder


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
