"""The `tandem` command as a process, and what it started."""

import atexit
import contextlib
import functools
import json
import signal
import subprocess
import sys

import psutil

from tests.forked import COMMAND, ForkServer
from tests.harness import ROOT, TOY_BUNDLE, clean_environment
from tests.waiting import wait_until

TANDEM = (sys.executable, "-m", "tandem")
TIMEOUT_SECONDS = 180


def tandem(*arguments, **more):
    """Run to the end; standard output and error as text."""
    environment = {**clean_environment(), **more}
    if not any(name.startswith(("LC_", "PYTHON")) for name in more):
        return forked(tuple(map(str, arguments)), environment)
    return subprocess.run(
        [*TANDEM, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def forked(arguments, environment):
    """The command in a fork of a process that has imported it, which saves most of its time."""
    return _fork_server().run("tandem", arguments, environment, timeout=TIMEOUT_SECONDS)


@functools.cache
def _fork_server():
    server = ForkServer(COMMAND, clean_environment())
    atexit.register(server.close)
    return server


def json_of(finished):
    """The one line of JSON of a command that succeeded."""
    assert finished.returncode == 0, finished.stderr
    (line,) = finished.stdout.splitlines()
    return json.loads(line)


@contextlib.contextmanager
def started(*arguments, stdout=subprocess.PIPE):
    """A command that runs; killed with all its children at the end."""
    # A test run in the background ignores it, and would hand that on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*TANDEM, *map(str, arguments)],
        cwd=ROOT,
        env=clean_environment(),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    children = []
    try:
        yield process
        children = descendants(process.pid)
    finally:
        for one in (*children, *descendants(process.pid)):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.kill()
        process.communicate()


@contextlib.contextmanager
def up(*arguments):
    """`tandem up --json` on the toy bundle; yields the process and what it told."""
    with started("up", "--json", "--port", 0, "--bundle", TOY_BUNDLE, *arguments) as process:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield process, json.loads(line)


def descendants(pid):
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def is_alive(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def are_gone(pids):
    """Wait until none of these processes is left; False if one stays."""
    return wait_until(lambda: not any(map(is_alive, pids)))
