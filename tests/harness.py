"""Real services as child processes, for tests. Runs on Python 3.8, as the services do."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Dict, List, Optional

import yaml

ROOT = Path(__file__).parent.parent
TOY_BUNDLE = ROOT / "tests/data/toy-bundle"
NODES = ("edge", "workstation")
START_SECONDS = 60.0


class ServiceProcess:
    """One service; its address is known once it is healthy."""

    def __init__(
        self, module: str, *arguments: str, python: str = sys.executable, environment=None
    ) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self.process = subprocess.Popen(
            [python, "-m", module, "--log-format", "json", *arguments],
            cwd=str(ROOT),
            env={**clean_environment(), **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
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

    def log_text(self) -> str:
        self.log.seek(0)
        return self.log.read().decode()

    def log_events(self) -> List[Dict[str, object]]:
        return [json.loads(line) for line in self.log_text().splitlines() if line.startswith("{")]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self, timeout_seconds: float = 30.0) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_seconds)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


class Cluster:
    """An edge node and a workstation node, both stages each, and the orchestrator."""

    def __init__(
        self, bundle: Path = TOY_BUNDLE, stage_arguments=(), orchestrator_arguments=()
    ) -> None:
        self._stack = ExitStack()
        self._bundle = bundle
        self._stage_arguments = stage_arguments
        self.stages: Dict[str, ServiceProcess] = {}
        try:
            for node in NODES:
                self.start_stage(node, "transformer")
            for node in NODES:
                self.start_stage(node, "backbone")
            self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            self.orchestrator = self._start_orchestrator(orchestrator_arguments)
            self.orchestrator.announcement  # noqa: B018 - waits until it is healthy
        except BaseException:
            self.close()
            raise

    def start_stage(self, node: str, stage: str, *arguments: str, port: int = 0) -> ServiceProcess:
        """Start one stage (anew), by default on a free port."""
        if stage == "backbone":
            transformers = {each: self.stages[f"{each}.transformer"].address for each in NODES}
            arguments = ("--transformers", json.dumps(transformers), *arguments)
        common = ("--node", node, "--bundle", str(self._bundle), *self._stage_arguments)
        ports = ("--port", str(port), "--metrics-port", "0")
        process = self._start(f"services.{stage}", *common, *ports, *arguments)
        self.stages[f"{node}.{stage}"] = process
        return process

    def _start_orchestrator(self, arguments) -> ServiceProcess:
        nodes = {
            node: {
                stage: self.stages[f"{node}.{stage}"].address
                for stage in ("backbone", "transformer")
            }
            for node in NODES
        }
        path = self.folder / "nodes.yaml"
        path.write_text(yaml.safe_dump({"nodes": nodes}))
        ports = ("--port", "0", "--metrics-port", "0")
        return self._start("services.orchestrator", "--config", str(path), *ports, *arguments)

    def _start(self, module: str, *arguments: str) -> ServiceProcess:
        process = ServiceProcess(module, *arguments)
        self._stack.callback(process.close)
        return process

    @property
    def address(self) -> str:
        return self.orchestrator.address

    def close(self) -> None:
        self._stack.close()


def clean_environment() -> Dict[str, str]:
    """This process's environment without what would configure a service."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    return {**kept, "PYTHONPATH": str(ROOT)}
