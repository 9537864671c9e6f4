"""The figures of an attack, beside what is required."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.hostile.calls import Tally
from benchmarks.hostile.crowds import BUDGET_BYTES, SESSIONS
from benchmarks.hostile.single import Delays, Outcome
from benchmarks.report import show_table

_MOST_SECONDS = 1.0
_MOST_BYTES = 1000
_MOST_SERIES = 2000
_SERVED = "served"


@dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes:
        quiet: delays while nothing was sent.
        singles: of each of the worst messages.
        tally: of the mutated ones.
        seconds: that they took.
        crowded: delays meanwhile.
        log_bytes: of all services meanwhile.
        longest_log_line: of any service, ever.
        senders: of distinct names.
        series: metric series of each service after them.
        memory: the most bytes of each service above its base, under the largest messages.
        ended: services whose processes have ended.
    """

    quiet: Delays
    singles: Sequence[Outcome]
    tally: Tally
    seconds: float
    crowded: Delays
    log_bytes: int
    longest_log_line: str
    senders: int
    series: dict[str, int]
    memory: dict[str, int]
    ended: Sequence[str]

    @property
    def are_as_required(self) -> bool:
        """Whether every figure is."""
        return all(line.is_enough for line in _lines(self))


@dataclass(frozen=True)
class _Line:
    what: str
    reached: str
    required: str
    is_enough: bool
    beside: str = ""


def show(figures: Figures) -> None:
    """Print both tables, and in words what went wrong."""
    show_table("The worst single messages", _single_table(figures))
    table = Table()
    for heading in ("what", "reached", "required", "beside it"):
        table.add_column(heading)
    for line in _lines(figures):
        style = "green" if line.is_enough else "red"
        table.add_row(line.what, line.reached, line.required, line.beside, style=style)
    show_table("Under attack", table)
    console = Console(width=150, markup=False, highlight=False)
    for name, count in sorted(figures.tally.codes.items()):
        console.print(f"{count:8} {name}")
    console.print(f"longest line of log: {figures.longest_log_line}")
    faults = [*figures.tally.wrong_codes, *figures.tally.broken, *figures.crowded.errors]
    for words in (*faults, *(error for each in figures.singles for error in each.delays.errors)):
        console.print(words)


def _single_table(figures: Figures) -> Table:
    table = Table()
    delays = ("health, s", "bare, s", "frame, s")
    for heading in ("message", "MB", "answer", "after, s", *delays, "bytes", "log"):
        table.add_column(heading, justify="left" if heading in {"message", "answer"} else "right")
    quiet = figures.quiet
    rows: list[tuple[str, ...]] = [("none", "", "", "", *_delays(quiet), "", "")]
    for each in figures.singles:
        sizes = (f"{each.answer_bytes}", f"{each.log_bytes}")
        size = f"{each.sent_bytes / 1e6:.1f}"
        rows.append(
            (each.name, size, each.told, f"{each.seconds:.2f}", *_delays(each.delays), *sizes)
        )
    for row in rows:
        table.add_row(*row)
    return table


def _delays(delays: Delays) -> tuple[str, ...]:
    seconds = (delays.health_seconds, delays.bare_seconds, delays.frame_seconds)
    return tuple(f"{each:.2f}" for each in seconds)


def _lines(figures: Figures) -> list[_Line]:
    tally, quiet = figures.tally, figures.quiet
    singles = [each.delays for each in figures.singles if each.is_ours]
    rejected = [each for each in figures.singles if each.told != _SERVED]
    to_bare = [each.delays for each in figures.singles if not each.is_ours]
    bare = max((each.bare_seconds for each in to_bare), default=0.0)
    health = max((each.health_seconds for each in singles), default=0.0)
    frame = max((each.frame_seconds for each in singles), default=0.0)
    errors = sum(len(each.errors) for each in (*singles, figures.crowded))
    answer = max([tally.largest_answer_bytes, *(each.answer_bytes for each in rejected)])
    log_bytes = max((each.log_bytes for each in rejected), default=0)
    per_message = figures.log_bytes / max(1, tally.rejected)
    peak = max(figures.memory.values(), default=0)
    return [
        _seconds(
            "longest delay of health by one message",
            health,
            f"without a message {quiet.health_seconds:.2f} s; "
            f"of a bare server by one of 64 MiB {bare:.2f} s",
        ),
        _seconds(
            "longest delay of another's frame by one message",
            frame,
            f"without a message {quiet.frame_seconds:.2f} s",
        ),
        _count("errors caused to others", errors, 0),
        _Line(
            "mutated messages, of them pictures and features",
            f"{tally.messages}, {tally.pictures}",
            "",
            True,
            f"in {figures.seconds:.0f} s; health waited {figures.crowded.health_seconds:.2f} s, "
            f"a frame {figures.crowded.frame_seconds:.2f} s at most; "
            f"{tally.crashes} decoders crashed",
        ),
        _count("services ended", len(figures.ended), 0),
        _count("INTERNAL, UNKNOWN, UNAVAILABLE for a caller's fault", len(tally.wrong_codes), 0),
        _count("streams with frames lost, doubled, reordered", len(tally.broken), 0),
        _count("bytes of answer, one rejected message", answer, _MOST_BYTES),
        _count("bytes of log, one rejected message", log_bytes, _MOST_BYTES),
        _count("the same, mean over the mutated ones", round(per_message), _MOST_BYTES),
        _count("characters of the longest line of log", len(figures.longest_log_line), _MOST_BYTES),
        _count(
            f"metric series of a service after {figures.senders} senders",
            max(figures.series.values()),
            _MOST_SERIES,
        ),
        _Line(
            f"memory above base, {SESSIONS} sessions of the largest messages",
            f"{peak >> 20} MiB",
            f"at most {BUDGET_BYTES >> 20} MiB",
            peak <= BUDGET_BYTES,
            ", ".join(f"{name} {taken >> 20}" for name, taken in figures.memory.items()),
        ),
    ]


def _seconds(what: str, reached: float, beside: str) -> _Line:
    return _Line(
        what,
        f"{reached:.2f} s",
        f"at most {_MOST_SECONDS:g} s",
        reached <= _MOST_SECONDS,
        beside,
    )


def _count(what: str, reached: int, most: int) -> _Line:
    return _Line(what, f"{reached}", f"at most {most}", reached <= most)
