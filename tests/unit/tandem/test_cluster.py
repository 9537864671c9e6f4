import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from common.domain.placement import Stage
from tandem.cluster import (
    ClusterOptions,
    free_ports,
    orchestrator_arguments,
    orchestrator_config,
    stage_arguments,
)
from tandem.threads import available_cores, threads_per_engine

ADDRESSES = {
    ("edge", Stage.BACKBONE): "127.0.0.1:1",
    ("edge", Stage.TRANSFORMER): "127.0.0.1:2",
    ("workstation", Stage.BACKBONE): "127.0.0.1:3",
    ("workstation", Stage.TRANSFORMER): "127.0.0.1:4",
}


def value_of(arguments, name):
    return arguments[arguments.index(name) + 1]


def test_a_backbone_knows_every_transformer():
    options = ClusterOptions(Path("bundle"), paced_milliseconds={Stage.BACKBONE: 20.0})
    arguments = stage_arguments(options, "edge", Stage.BACKBONE, ADDRESSES)
    transformers = json.loads(value_of(arguments, "--transformers"))
    assert transformers == {"edge": "127.0.0.1:2", "workstation": "127.0.0.1:4"}
    assert value_of(arguments, "--port") == "1"
    assert value_of(arguments, "--paced-milliseconds") == "20.0"
    assert Path(value_of(arguments, "--bundle")).is_absolute()


def test_a_transformer_knows_nobody():
    arguments = stage_arguments(
        ClusterOptions(Path("bundle")), "workstation", Stage.TRANSFORMER, ADDRESSES
    )
    assert "--transformers" not in arguments
    assert "--paced-milliseconds" not in arguments


def test_the_orchestrator_knows_every_stage():
    nodes = yaml.safe_load(orchestrator_config(ADDRESSES))["nodes"]
    assert nodes == {
        "edge": {"backbone": "127.0.0.1:1", "transformer": "127.0.0.1:2"},
        "workstation": {"backbone": "127.0.0.1:3", "transformer": "127.0.0.1:4"},
    }
    options = ClusterOptions(Path("bundle"), host="0.0.0.0", window=7)
    arguments = orchestrator_arguments(options, Path("c.yaml"), 50050)
    assert value_of(arguments, "--host") == "0.0.0.0"
    assert value_of(arguments, "--window") == "7"
    assert "--window" not in orchestrator_arguments(ClusterOptions(Path("b")), Path("c.yaml"), 1)


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


def test_an_address_of_another_machine_has_no_free_ports():
    with pytest.raises(OSError, match="no 1 free ports on"):
        free_ports(1, "192.0.2.1")
