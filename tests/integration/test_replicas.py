"""Stages whose addresses are found by name come and go under load; orchestrators share them."""

import socket
from contextlib import ExitStack, contextmanager

import pytest

from common.domain.placement import Stage
from services.arguments import orchestrator_arguments, stage_arguments
from tests.cameras import Camera, assert_own_boxes, boxes_of_pictures, streaming
from tests.harness import HERE, PATIENT, TOY_BUNDLE, ServiceProcess
from tests.names import NameServer, why_not
from tests.streams import watch_until

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

NAME = "transformer.test"
HOSTS = ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]
PACED = ("--paced-milliseconds", "20")
TRANSFORMERS = ("a", Stage.TRANSFORMER)


def free_port():
    """Of all hosts of this machine: replicas of one name have one port."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


class System:
    """One node whose transformers have one name, and any number of orchestrators."""

    def __init__(self, names, stack):
        self.names = names
        self.port = free_port()
        self._stack = stack
        self.transformers = {}
        self.found = {TRANSFORMERS: [f"dns:///{NAME}:{self.port}"]}

    def start(self, module, arguments, *more, place=HERE):
        process = ServiceProcess(module, *arguments, "--insecure", *more, place=place)
        self._stack.callback(process.close)
        return process

    def start_transformers(self, *hosts):
        for host in hosts:
            arguments = stage_arguments(
                TOY_BUNDLE, "a", Stage.TRANSFORMER, f"{host}:{self.port}", {}
            )
            self.transformers[host] = self.start("services.transformer", arguments, *PACED)

    def start_orchestrator(self, *more, transformer=None):
        """With a backbone of its own; it knows the transformers' name, or this one alone."""
        known = {TRANSFORMERS: [transformer]} if transformer else self.found
        arguments = stage_arguments(TOY_BUNDLE, "a", Stage.BACKBONE, "127.0.0.1:0", known)
        often = ("--lookup-seconds", "0.5")
        backbone = self.start("services.backbone", arguments, *often, place=self.names.place)
        addresses = {("a", Stage.BACKBONE): [backbone.address], **known}
        arguments = orchestrator_arguments("127.0.0.1:0", addresses)
        more = (*PATIENT, *often, "--health-interval-seconds", "0.2", *more)
        return self.start("services.orchestrator", arguments, *more, place=self.names.place)

    def executed(self, host):
        """Frames that a transformer has executed."""
        return self.transformers[host].metric(
            "tandem_stage_seconds_count", stage="transformer", step="execute"
        )


@contextmanager
def system(*hosts):
    with NameServer(NAME, list(hosts)) as names, ExitStack() as stack:
        it = System(names, stack)
        it.start_transformers(*hosts)
        yield it


def serving(state):
    """The hosts of the transformers that frames may go to."""
    return {
        each.address.rpartition(":")[0]
        for each in state.stages
        if each.stage == "transformer" and each.healthy
    }


async def test_a_name_is_scaled_to_four_and_to_one_under_load():
    first = HOSTS[0]
    with system(first) as it:
        orchestrator = it.start_orchestrator()
        expected = await boxes_of_pictures(orchestrator.address, "latent-fine")
        cameras = [Camera(f"camera {number}", codec="latent-fine") for number in range(3)]
        async with streaming(orchestrator.address, *cameras):
            await cameras[0].served(5)
            # The name leads there before anybody listens: they are used once they are healthy.
            it.names.hosts = HOSTS
            it.start_transformers(*HOSTS[1:])
            await cameras[0].until(lambda: all(it.executed(host) >= 10 for host in HOSTS[1:]))
            # What is known goes on being used while the name cannot be looked up.
            it.names.is_broken = True
            state = await watch_until(
                orchestrator.address, lambda state: any("known last" in w for w in state.warnings)
            )
            assert serving(state) == set(HOSTS)
            await cameras[0].served(5)
            it.names.hosts, it.names.is_broken = [first], False
            state = await watch_until(orchestrator.address, lambda state: len(state.stages) == 2)
            assert serving(state) == {first}
            assert not any("known last" in warning for warning in state.warnings)
            # What was on its way there is answered first.
            for camera, sent in [(camera, camera.sent) for camera in cameras]:
                await camera.until(lambda camera=camera, sent=sent: len(camera.ids) >= sent)
            left = {host: it.executed(host) for host in HOSTS[1:]}
            await cameras[0].served(20)
            assert {host: it.executed(host) for host in HOSTS[1:]} == left
        for camera in cameras:
            assert set(camera.outcomes) == {"detections"}
            assert_own_boxes(camera, expected)
        # A scale-down is no fault, and a fault of the name is told once.
        assert orchestrator.failovers() == 0
        assert orchestrator.metric("tandem_replicas", node="a", stage="transformer") == 1
        assert orchestrator.metric("tandem_failed_lookups_total", stage="transformer") >= 1
        faults = [each for each in orchestrator.log_events() if each.get("fault")]
        assert len(faults) == 1, faults


@pytest.mark.alone
async def test_two_orchestrators_share_replicas_by_what_these_tell():
    busy, spare = HOSTS[:2]
    with system(busy, spare) as it:
        first = it.start_orchestrator(transformer=f"{busy}:{it.port}")
        # With one frame in flight at a time, what a server holds of its own says nothing to it.
        second = it.start_orchestrator("--window", "1")
        flood, camera = Camera("flood"), Camera("camera")
        async with streaming(first.address, flood):
            await flood.served(10)
            async with streaming(second.address, camera):
                await camera.served(10)
                before, served = it.executed(spare), len(camera.served_at)
                await camera.served(20)
                share = (it.executed(spare) - before) / (len(camera.served_at) - served)
        assert not flood.failed_at + camera.failed_at
        assert share >= 0.8
