import os
import socket
import subprocess
import sys

import pytest

from tandem.cluster import free_ports
from tandem.threads import available_cores, threads_per_engine


def test_two_busy_engines_do_not_want_more_than_all_cores():
    assert threads_per_engine() >= 1
    assert 2 * threads_per_engine() <= max(2, available_cores())


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="affinity is Linux's")
def test_cores_that_this_process_may_not_use_do_not_count():
    core = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{core}}});"
        "from tandem.threads import available_cores; print(available_cores())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "1"


def test_ports_are_distinct_and_free():
    ports = free_ports(20, "127.0.0.1")
    assert len(set(ports)) == 20
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_processes_that_start_one_after_the_other_choose_different_ports(monkeypatch):
    chosen = []
    for number in range(40_000, 40_030):
        monkeypatch.setattr(os, "getpid", lambda number=number: number)
        chosen += free_ports(9, "127.0.0.1")
    # Where a port is in use, the next one may be a neighbour's.
    assert len(set(chosen)) > len(chosen) - 9


def test_an_address_of_another_machine_has_no_free_ports():
    with pytest.raises(OSError, match="no 1 free ports on"):
        free_ports(1, "192.0.2.1")
