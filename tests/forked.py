"""Programs forked from a process that has imported them already. Runs on Python 3.8.

`python -m services.backbone` spends most of its start on imports, the same ones for every process
of every test. Here one process imports them once; each program is a fork of it, which then runs its
own `__main__` with its own arguments, environment, output and exit, as `python -m` does.
"""

import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from contextlib import suppress
from multiprocessing import reduction
from pathlib import Path
from typing import Dict, Optional, Sequence

ROOT = Path(__file__).parent.parent

SERVICES = (
    "cv2",
    "common.engines.paced",
    "services.backbone.service",
    "services.transformer.service",
    "services.orchestrator.service",
)
GATEWAY = ("cv2", "services.gateway.service")
COMMAND = ("cv2", "tandem.cli.*")
TRAINING = ("cv2", "torch", "scipy.optimize", "matplotlib.pyplot", "onnx")
_EXIT_CODE = struct.Struct("i")
_MAX_REQUEST_BYTES = 1 << 20


class ForkServer:
    """The process that has imported the programs; it ends with the one that started it."""

    def __init__(self, modules: Sequence[str], environment: Dict[str, str]) -> None:
        """Start it; the first fork waits for its imports.

        Args:
            modules: that it imports; `PACKAGE.*` stands for all of a package's.
            environment: that it imports them in.

        None of the modules may start a thread, as onnxruntime does: a fork has only one, and
        hangs where it needs what another thread held.
        """
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forked", str(theirs.fileno()), *modules],
                cwd=str(ROOT),
                # numpy's library for matrices would start threads, which a fork does not copy.
                env={**environment, "OPENBLAS_NUM_THREADS": "1"},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def run(
        self,
        module: str,
        arguments: Sequence[str],
        environment: Dict[str, str],
        folder: Path = ROOT,
        timeout: Optional[float] = None,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program to its end, as `subprocess.run` does; the rest is as for `start`."""
        with tempfile.TemporaryFile() as log:
            process = self.start(module, arguments, environment, log.fileno(), folder)
            with process.stdout:
                output = process.stdout.read()
            code = process.wait(timeout)
            log.seek(0)
            return subprocess.CompletedProcess(arguments, code, output, log.read().decode())

    def start(
        self,
        module: str,
        arguments: Sequence[str],
        environment: Dict[str, str],
        log: int,
        folder: Path = ROOT,
    ) -> "ForkedProcess":
        """Start a program.

        Args:
            module: that `python -m` would run.
            arguments: its command line.
            environment: all of its environment.
            log: file descriptor that its standard error goes to.
            folder: that it runs in.
        """
        output, output_end = os.pipe()
        exit_code, exit_code_end = os.pipe()
        request = {
            "module": module,
            "arguments": arguments,
            "environment": environment,
            "folder": str(folder),
        }
        self._control.sendall(json.dumps(request).encode())
        reduction.sendfds(self._control, [output_end, log, exit_code_end])
        os.close(output_end)
        os.close(exit_code_end)
        answer = self._control.recv(_EXIT_CODE.size)
        if not answer:
            raise RuntimeError("the process that programs are forked from has died")
        return ForkedProcess(_EXIT_CODE.unpack(answer)[0], output, exit_code)

    def close(self) -> None:
        """End the process; the programs that it has started go on."""
        self._control.close()
        self._process.wait()


class ForkedProcess:
    """One program: the part of `subprocess.Popen` that tests use.

    Attributes:
        pid: its number.
        stdout: its standard output.
        returncode: None until `poll` or `wait` has found that it ended; -N if signal N ended it.
    """

    def __init__(self, pid: int, output: int, exit_code: int) -> None:
        self.pid = pid
        self.stdout = os.fdopen(output)
        self.returncode: Optional[int] = None
        self._exit_code = exit_code

    def poll(self) -> Optional[int]:
        """The exit code, if the process has ended."""
        if self.returncode is None and select.select([self._exit_code], [], [], 0)[0]:
            self._read_exit_code()
        return self.returncode

    def wait(self, timeout: Optional[float] = None) -> int:
        """Wait for its end; the exit code."""
        if self.returncode is None:
            if not select.select([self._exit_code], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            self._read_exit_code()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            # It may have ended since, before its exit code has come.
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _read_exit_code(self) -> None:
        answer = os.read(self._exit_code, _EXIT_CODE.size)
        os.close(self._exit_code)
        if not answer:
            raise RuntimeError("the process that programs are forked from has died")
        (self.returncode,) = _EXIT_CODE.unpack(answer)


def main() -> None:
    """Serve requests to fork; returns in each fork alone, as the program that was asked for."""
    for name in sys.argv[2:]:
        _import(name)
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError(f"one of {sys.argv[2:]} starts a thread when it is imported")
    gc.collect()
    gc.freeze()
    request = _next_request(socket.socket(fileno=int(sys.argv[1])))
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = [sys.argv[0], *request["arguments"]]
    # The last thing done, so that its end is the end of the interpreter.
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def _import(name: str) -> None:
    package, is_all, _ = name.partition(".*")
    module = importlib.import_module(package)
    if is_all:
        for each in pkgutil.iter_modules(module.__path__, package + "."):
            importlib.import_module(each.name)


def _next_request(control: socket.socket) -> dict:
    """Fork for each request; in the fork, what was asked for."""
    # Written to when a child ends, which wakes the loop up.
    wake_up, wake_up_end = socket.socketpair()
    wake_up.setblocking(False)
    wake_up_end.setblocking(False)
    handlers = {
        signal.SIGCHLD: signal.signal(signal.SIGCHLD, lambda *_: None),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
    }
    signal.set_wakeup_fd(wake_up_end.fileno(), warn_on_full_buffer=False)
    exit_code_ends: Dict[int, int] = {}
    while True:
        ready, _, _ = select.select([control, wake_up], [], [])
        if wake_up in ready:
            wake_up.recv(_MAX_REQUEST_BYTES)
            _tell_ends(exit_code_ends)
        if control not in ready:
            continue
        message = control.recv(_MAX_REQUEST_BYTES)
        if not message:
            os._exit(0)
        output, log, exit_code_end = reduction.recvfds(control, 3)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            for number in (exit_code_end, *exit_code_ends.values()):
                os.close(number)
            for one in (control, wake_up, wake_up_end):
                one.close()
            _write_to(output, log)
            return json.loads(message)
        exit_code_ends[pid] = exit_code_end
        os.close(output)
        os.close(log)
        control.sendall(_EXIT_CODE.pack(pid))


def _write_to(output: int, log: int) -> None:
    """Make these file descriptors standard output and standard error."""
    for source, target in ((output, 1), (log, 2)):
        os.dup2(source, target)
        os.close(source)
    # Ours believe that they write where the process that we are forked from does.
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(  # noqa: SIM115
        2, "w", buffering=1, errors="backslashreplace", closefd=False
    )


def _tell_ends(exit_code_ends: Dict[int, int]) -> None:
    """Reap the children that have ended, and tell each one's exit code."""
    for pid in list(exit_code_ends):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            number = exit_code_ends.pop(pid)
            # Whoever asked for it may be no more interested.
            with suppress(BrokenPipeError):
                os.write(number, _EXIT_CODE.pack(code))
            os.close(number)


if __name__ == "__main__":
    main()
