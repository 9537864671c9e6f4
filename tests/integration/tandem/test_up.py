import json
import os
import signal
import urllib.request

import psutil
import pytest

from tests.harness import TOY_BUNDLE
from tests.integration.tandem.commands import (
    are_gone,
    descendants,
    json_of,
    started,
    tandem,
    up,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.slow


def pids(told):
    return [told["orchestrator"]["pid"], *(stage["pid"] for stage in told["stages"])]


@pytest.fixture(scope="module")
def running():
    with up() as (process, told):
        yield process, told


def test_it_tells_every_address_once_all_are_healthy(running):
    process, told = running
    assert set(told) == {"orchestrator", "stages"}
    assert set(told["orchestrator"]) == {"address", "metrics", "pid"}
    assert [(stage["node"], stage["stage"]) for stage in told["stages"]] == [
        ("edge", "backbone"),
        ("edge", "transformer"),
        ("workstation", "backbone"),
        ("workstation", "transformer"),
    ]
    for stage in told["stages"]:
        assert set(stage) == {"node", "stage", "address", "metrics", "pid"}
    # The backbones have children of their own, which decode.
    assert {child.pid for child in psutil.Process(process.pid).children()} == set(pids(told))
    for one in (told["orchestrator"], *told["stages"]):
        with urllib.request.urlopen(one["metrics"]) as page:
            assert b"tandem_" in page.read()


def are_healthy(server, *more):
    told = json_of(tandem("status", *server, *more, "--json"))
    placements = [each["available"] for each in told["placements"]]
    return all(stage["healthy"] for stage in told["stages"]) and all(placements[:4])


def test_status_and_placement(running):
    server = ("--server", running[1]["orchestrator"]["address"])
    # A busy machine may have let one be silent for longer than such nodes may be.
    assert wait_until(lambda: are_healthy(server))
    status = json_of(tandem("status", *server, "--json"))
    assert status["placement_setting"] == "auto"
    assert [one["placement"] for one in status["placements"] if one["available"]] == [
        "full",
        "backbone",
        "transformer",
        "workstation",
    ]
    told = json_of(tandem("placement", "transformer", *server, "--json"))
    assert told == {"setting": "transformer", "placement": "transformer"}
    assert tandem("placement", *server).stdout == "placement: transformer\n"
    told = json_of(tandem("placement", "auto", *server, "--json"))
    assert told["setting"] == "auto"
    assert told["placement"] in {"full", "backbone", "transformer", "workstation"}
    people = tandem("status", *server)
    assert "workstation" in people.stdout
    assert "placement: auto, for throughput; now" in people.stdout


def test_a_second_one_on_the_same_port_says_so(running):
    port = running[1]["orchestrator"]["address"].rpartition(":")[2]
    second = tandem("up", "--port", port, "--bundle", TOY_BUNDLE)
    assert second.returncode == 1
    assert second.stderr.startswith("tandem: the orchestrator did not start")
    assert f"cannot listen on 127.0.0.1:{port}" in second.stderr
    assert second.stderr.endswith(f"port {port} of 127.0.0.1 is in use by another program\n")
    assert "GRPC_VERBOSITY" not in second.stderr
    assert len(second.stderr.splitlines()) == 1


def test_a_signal_stops_everything_quietly():
    """SIGTERM; SIGINT is sent where the live view is one of the children."""
    with up() as (process, told):
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=120)
        assert (process.returncode, out, errors) == (143, "", "")
        assert are_gone(pids(told))


def test_a_signal_while_it_starts_leaves_nothing_behind():
    with started("up", "--port", 0, "--bundle", TOY_BUNDLE) as process:
        assert wait_until(lambda: len(descendants(process.pid)) >= 5)
        children = [child.pid for child in descendants(process.pid)]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (130, "")
        assert are_gone(children)


def test_children_do_not_outlive_a_killed_parent():
    with up() as (process, told):
        process.kill()
        process.wait()
        assert are_gone(pids(told))


def test_a_stage_that_dies_is_told_and_the_rest_goes_on_while_there_is_an_orchestrator():
    with up() as (process, told):
        victim = next(one for one in told["stages"] if one["node"] == "edge")
        os.kill(victim["pid"], signal.SIGKILL)
        assert "tandem: the edge backbone ended with exit code -9\n" in iter(
            process.stderr.readline, ""
        )
        server = ("--server", told["orchestrator"]["address"])
        assert wait_until(lambda: not edge_backbone_healthy(server))
        assert process.poll() is None
        os.kill(told["orchestrator"]["pid"], signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "tandem: the orchestrator ended with exit code -9" in errors
        assert are_gone(pids(told))


def edge_backbone_healthy(server):
    status = json_of(tandem("status", *server, "--json"))
    return next(
        stage["healthy"]
        for stage in status["stages"]
        if (stage["node"], stage["stage"]) == ("edge", "backbone")
    )


def test_a_stage_that_does_not_start_is_told_with_its_last_words(tmp_path):
    manifest = json.loads((TOY_BUNDLE / "bundle.json").read_text())
    (tmp_path / "bundle.json").write_text(json.dumps(manifest))
    for name in set(manifest["files"]) - {"backbone.onnx"}:
        (tmp_path / name).write_bytes((TOY_BUNDLE / name).read_bytes())
    with started("up", "--port", 0, "--bundle", tmp_path) as process:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 1
        (line,) = errors.splitlines()
        assert line.startswith("tandem: the ")
        assert "backbone did not start (exit code 2)" in line
        assert line.endswith("backbone.onnx is missing")
        assert wait_until(lambda: descendants(process.pid) == [])


def test_other_machines_may_reach_it_with_certificates(tmp_path):
    made = tmp_path / "made"
    assert tandem("certificates", "init", made).returncode == 0

    def known_as(name):
        return (
            *("--tls-ca", made / name / "peers-ca.crt"),
            *("--tls-certificate", made / name / f"{name}.crt"),
            *("--tls-key", made / name / f"{name}.key"),
        )

    with up("--host", "0.0.0.0", "--certificates", made) as (_, told):
        server = ("--server", "localhost:" + told["orchestrator"]["address"].rpartition(":")[2])
        assert told["orchestrator"]["metrics"].startswith("https://")
        assert wait_until(lambda: are_healthy(server, *known_as("operator")))
        status = json_of(tandem("status", *server, *known_as("operator"), "--json"))
        assert len(status["stages"]) == 4
        assert status["warnings"] == []
        assert tandem("placement", "full", *server, *known_as("client")).returncode == 1
        assert tandem("status", *server).returncode == 1
    with up("--host", "0.0.0.0", "--insecure") as (_, told):
        server = ("--server", "localhost:" + told["orchestrator"]["address"].rpartition(":")[2])
        shown = tandem("status", *server).stdout
    assert "insecure: other machines reach this orchestrator without TLS" in shown


def test_the_live_view_is_a_further_child():
    with up("--live-view", "--http-port", "0") as (process, told):
        url = told["gateway"]["http"]
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url) as page:
            assert b"Tandem live view" in page.read()
        with urllib.request.urlopen(told["gateway"]["metrics"]) as page:
            assert b'tandem_camera_up{camera="demo"}' in page.read()
        gateway = told["gateway"]["pid"]
        assert gateway in {child.pid for child in psutil.Process(process.pid).children()}
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=120)
        assert (process.returncode, out, errors) == (130, "", "")
        assert are_gone([gateway, *pids(told)])
