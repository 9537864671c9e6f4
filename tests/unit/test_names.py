"""Name servers of tests that run on one machine at the same time."""

import subprocess

import pytest

from tests.names import NameServer, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


def looked_up(names):
    """The addresses of its name, as a process of its own place finds them."""
    done = subprocess.run(
        [*names.place.command, "getent", "ahostsv4", names.name], capture_output=True, text=True
    )
    return {line.split()[0] for line in done.stdout.splitlines()}


def test_two_servers_know_the_same_name_by_other_addresses():
    with NameServer("stage.test", ["127.0.0.2"]) as one, NameServer("stage.test", []) as two:
        two.hosts = ["127.0.0.3", "127.0.0.4"]
        assert looked_up(one) == {"127.0.0.2"}
        assert looked_up(two) == {"127.0.0.3", "127.0.0.4"}
