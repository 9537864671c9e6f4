"""Real services as child processes, for tests. Runs on Python 3.8, as the services do."""

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from common.domain.placement import Stage
from services.arguments import orchestrator_arguments, stage_arguments
from tests.forked import GATEWAY, ROOT, SERVICES, ForkServer
from tests.waiting import PATIENCE_SECONDS

TOY_BUNDLE = ROOT / "tests/data/toy-bundle"
# Of format 2: two tensors cross its cut.
TOY_TENSORS = ROOT / "tests/data/toy-tensors"
NODES = ("edge", "workstation")
# A machine that stops any process for a while has no stage taken for one that hangs, unless a test
# says when it is to be.
PATIENT = ("--health-timeout-seconds", "30", "--unavailable-after", "30")


class Place(NamedTuple):
    """Where a node's services run: the address they listen on, and how a command gets there."""

    address: str = "127.0.0.1"
    command: Tuple[str, ...] = ()


HERE = Place()


class ServiceProcess:
    """One service; its address is known once it is healthy."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        python: str = sys.executable,
        environment=None,
        place: Place = HERE,
    ) -> None:
        """Start it.

        Args:
            module: that `python -m` runs.
            arguments: its command line.
            python: that runs it, if not ours.
            environment: further variables.
            place: where it runs.
        """
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        arguments = ("--log-format", "json", *arguments)
        environment = {**clean_environment(), **(environment or {})}
        # Coverage is measured of services as users start them.
        is_measured = "COVERAGE_PROCESS_CONFIG" in os.environ
        if place.command or python != sys.executable or is_measured:
            self.process = subprocess.Popen(
                [*place.command, python, "-m", module, *arguments],
                cwd=str(ROOT),
                env=environment,
                stdout=subprocess.PIPE,
                stderr=self.log,
                text=True,
            )
        else:
            modules = GATEWAY if module == "services.gateway" else SERVICES
            server = _fork_server(modules)
            self.process = server.start(module, arguments, environment, self.log.fileno())
        self._announcement: Optional[Dict[str, object]] = None

    @property
    def announcement(self) -> Dict[str, object]:
        """The line that the service prints once it is healthy; waits for it."""
        if self._announcement is None:
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(f"the service died:\n{self.log_text()}")
            self._announcement = json.loads(line)
        return self._announcement

    @property
    def address(self) -> str:
        return str(self.announcement["address"])

    @property
    def metrics_url(self) -> str:
        return str(self.announcement["metrics"])

    def metric(self, name: str, **labels: str) -> float:
        """The sum over all samples of a metric that have these labels."""
        with urllib.request.urlopen(self.metrics_url, timeout=PATIENCE_SECONDS) as page:
            lines = page.read().decode().splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith((name + "{", name + " ")) and all(each in line for each in wanted)
        )

    def failovers(self) -> float:
        """Of an orchestrator, but for those because a busy machine made a stage's answers late."""
        name = "tandem_failovers_total"
        return self.metric(name) - self.metric(name, reason="stalled")

    def log_text(self) -> str:
        # Not by `seek`: the service writes to the same open file, and would go on from there.
        number = self.log.fileno()
        return os.pread(number, os.fstat(number).st_size, 0).decode(errors="replace")

    def log_events(self) -> List[Dict[str, object]]:
        # The last line may be half written.
        text = self.log_text().rpartition("\n")[0]
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def hang(self) -> None:
        """Stop it as it is: it keeps its connections and answers nothing, until `go_on`."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def terminate(self, timeout_seconds: float = PATIENCE_SECONDS) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_seconds)

    def close(self) -> None:
        # What `make coverage` shows of a process, it writes when it ends in an orderly way.
        if "COVERAGE_PROCESS_CONFIG" in os.environ and self.process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                self.terminate(10.0)
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


class Cluster:
    """Nodes, both stages each, and the orchestrator.

    Attributes:
        stages: by `NODE.STAGE`, further replicas by `NODE.STAGE.NUMBER`.
    """

    def __init__(
        self,
        bundle: Path = TOY_BUNDLE,
        stage_arguments=(),
        orchestrator_arguments=(),
        *,
        nodes=NODES,
        replicas=None,
        places=None,
        faulty=None,
        secured_by=None,
    ) -> None:
        """Start all and wait until they are healthy.

        Args:
            bundle: that the stages serve.
            stage_arguments: of every stage.
            orchestrator_arguments: of the orchestrator, after those that make it patient.
            nodes: their names.
            replicas: how many processes there are of a stage, by `NODE.STAGE`; 1 if left out.
            places: where a node's stages run, by its name; here if left out.
            faulty: for a stage whose engine is to be told what to do, by `NODE.STAGE`, the file
                that tells it; see `tests.faulty.engine`.
            secured_by: makes a service's arguments of its identity, such as `backbone/edge`; see
                `tests.authorities.Realm.arguments`.
        """
        self._stack = ExitStack()
        self._bundle = bundle
        self._stage_arguments = stage_arguments
        self._orchestrator_arguments = orchestrator_arguments
        self._nodes = nodes
        self._replicas = replicas or {}
        self._places = places or {}
        self._faulty = faulty or {}
        self._secured_by = secured_by or (lambda _: ("--insecure",))
        self.stages: Dict[str, ServiceProcess] = {}
        try:
            for stage in ("transformer", "backbone"):
                for node in nodes:
                    for name in self._names(node, stage):
                        self._start_stage(name)
            self.orchestrator = self._start_orchestrator(orchestrator_arguments)
            self.orchestrator.announcement  # noqa: B018 - waits until it is healthy
        except BaseException:
            self.close()
            raise

    def restart(self, name: str) -> ServiceProcess:
        """Start a stage that has ended anew, where it listened before."""
        return self._start_stage(name, self.stages[name].address.rpartition(":")[2])

    def _start_stage(self, name: str, port: str = "0") -> ServiceProcess:
        node, stage = name.split(".")[:2]
        place = self._places.get(node, HERE)
        package, engine, environment = "services", (), {}
        if name in self._faulty:
            package, engine = "tests.faulty", ("--engine", "faulty")
            environment = {"FAULTY_ENGINE": str(self._faulty[name])}
        process = self._start(
            f"{package}.{stage}",
            *stage_arguments(
                Path(self._bundle),
                node,
                Stage(stage),
                f"{place.address}:{port}",
                self._addresses(Stage.TRANSFORMER) if stage == "backbone" else {},
            ),
            *(*engine, *self._secured_by(f"{stage}/{node}"), *self._stage_arguments),
            place=place,
            environment=environment,
        )
        self.stages[name] = process
        return process

    def _names(self, node: str, stage: str) -> List[str]:
        """Of a stage's processes."""
        first = f"{node}.{stage}"
        more = range(1, self._replicas.get(first, 1))
        return [first, *(f"{first}.{number}" for number in more)]

    def _addresses(self, *stages: Stage) -> Dict[Tuple[str, Stage], List[str]]:
        return {
            (node, stage): [self.stages[name].address for name in self._names(node, stage.value)]
            for node in self._nodes
            for stage in stages
        }

    def restart_orchestrator(self) -> ServiceProcess:
        """Start the orchestrator that has ended anew, where it listened before."""
        port = self.address.rpartition(":")[2]
        self.orchestrator = self._start_orchestrator(self._orchestrator_arguments, port)
        return self.orchestrator

    def _start_orchestrator(self, arguments, port: str = "0") -> ServiceProcess:
        own = orchestrator_arguments(f"127.0.0.1:{port}", self._addresses(*Stage))
        secured = self._secured_by("orchestrator/main")
        return self._start("services.orchestrator", *own, *secured, *PATIENT, *arguments)

    def _start(
        self, module: str, *arguments: str, place: Place = HERE, environment=None
    ) -> ServiceProcess:
        process = ServiceProcess(module, *arguments, place=place, environment=environment)
        self._stack.callback(process.close)
        return process

    @property
    def address(self) -> str:
        return self.orchestrator.address

    def close(self) -> None:
        self._stack.close()


@lru_cache(maxsize=2)
def _fork_server(modules: Tuple[str, ...]) -> ForkServer:
    server = ForkServer(modules, clean_environment())
    atexit.register(server.close)
    return server


def clean_environment() -> Dict[str, str]:
    """This process's environment without what would configure a service."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    return {**kept, "PYTHONPATH": str(ROOT)}
