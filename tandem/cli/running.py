"""From a coroutine to a process's end: signals, errors and a closed pipe become exit codes."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from common.domain.errors import TandemError
from common.domain.redaction import fit_to_show

T = TypeVar("T")

EXIT_FAILURE = 1
# What a shell reports for a process that a signal ended: 128 + its number.
EXIT_INTERRUPTED = 128 + signal.SIGINT


class TerminatedError(BaseException):
    """SIGTERM or SIGHUP came; no `Exception`, so that nothing on the way takes it for a failure."""

    def __init__(self, number: int) -> None:
        """Note the signal's number."""
        super().__init__(number)
        self.number = number


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to the end; SIGINT, SIGTERM and SIGHUP cancel it, so that all that it holds is released.

    Raises:
        KeyboardInterrupt: SIGINT came.
        TerminatedError: SIGTERM or SIGHUP came.
    """
    received: list[int] = []

    async def guarded() -> T:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()

        def cancel(number: int) -> None:
            received.append(number)
            if task is not None:
                task.cancel()

        # SIGINT too: a shell starts background jobs with it ignored, and asyncio would leave it so.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, cancel, number)
        return await coroutine

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        if not received:
            raise
        if received[0] == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise TerminatedError(received[0]) from None


def exit_code_of(command: Callable[[], int | None], program: str) -> int:
    """Run a command to its exit code; whatever it raises becomes one sentence on stderr."""
    _write_any_character()
    try:
        code = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except TerminatedError as error:
        return 128 + error.number
    except BrokenPipeError:
        # Whoever read our output has seen enough; a second failure at exit would print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except TandemError as error:
        return _fail(program, str(error))
    except OSError as error:
        return _fail(program, f"{error.filename or 'system'}: {error.strerror or error}")
    except MemoryError:
        return _fail(program, "there is not enough memory for this")
    except Exception as error:  # noqa: BLE001 - a traceback is no answer to a user
        return _fail(program, f"internal error: {type(error).__name__}: {error}")
    return code or 0


def _fail(program: str, sentence: str) -> int:
    # Whoever worded it: no password gets out here.
    sys.stderr.write(f"{program}: {fit_to_show(' '.join(sentence.split()))}\n")
    return EXIT_FAILURE


def _write_any_character() -> None:
    """A name that the terminal's encoding lacks is no reason to fail; it is written escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
