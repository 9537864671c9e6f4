"""Attack a running system, and print what came of it beside what is required.

`python -m benchmarks.hostile --minutes 10` sends each of the worst single messages,
then mutated messages for most of the time, then thousands of senders and the largest messages over
many streams; health checks and a camera go on beside it. Exits 1 when a figure is not what it has
to be.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

from benchmarks.hostile.attackers import attack
from benchmarks.hostile.bystander import Bystanders
from benchmarks.hostile.crowds import flood, introduce
from benchmarks.hostile.figures import Figures, show
from benchmarks.hostile.honest import Honest
from benchmarks.hostile.single import Delays, baseline, measure
from benchmarks.hostile.system import running
from benchmarks.hostile.worst import worst_messages

_TOY = Path(__file__).parents[2] / "tests/data/toy-bundle"
_BASELINE_SECONDS = 10.0
_FLOOD_SECONDS = 90.0
_PEERS = 6


async def measured(options: argparse.Namespace) -> Figures:
    """Run all parts, one after the other."""
    end = time.monotonic() + 60 * options.minutes - _FLOOD_SECONDS
    honest = Honest(options.bundle)
    async with running(options.bundle) as system:
        async with Bystanders(system.addresses) as beside:
            quiet = await baseline(beside, _BASELINE_SECONDS)
            singles = [
                await measure(system, beside, message)
                for message in worst_messages(honest)
                for _ in range(options.repeat)
                if options.only in message.name
            ]
            logged = await system.logs.so_far()
            began = time.monotonic()
            tally = await attack(
                system.targets,
                honest,
                peers=_PEERS,
                messages=options.messages,
                seed=options.seed,
                until=lambda: time.monotonic() > end,
            )
            ended = time.monotonic()
            await beside.after(ended)
            crowded = Delays.of(beside.between(began, ended))
            logged = await system.logs.so_far() - logged
            await introduce(system, honest, options.senders)
            series = await system.series()
        memory = await flood(system, options.bundle, _FLOOD_SECONDS) if options.flood else {}
        return Figures(
            quiet=quiet,
            singles=singles,
            tally=tally,
            seconds=ended - began,
            crowded=crowded,
            log_bytes=logged.total(),
            longest_log_line=system.logs.longest,
            senders=options.senders,
            series=series,
            memory=memory,
            ended=system.ended(),
        )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all parts, about")
    parser.add_argument("--messages", type=int, default=300_000, help="mutated ones, at most")
    parser.add_argument("--senders", type=int, default=3000, help="of distinct names")
    parser.add_argument("--repeat", type=int, default=2, help="of each of the worst messages")
    parser.add_argument("--only", default="", help="of the worst messages, those named like this")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations")
    parser.add_argument("--bundle", type=Path, default=_TOY, help="folder of the model")
    parser.add_argument(
        "--flood",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="of the largest messages over many streams; takes some 10 GB of memory",
    )
    figures = asyncio.run(measured(parser.parse_args()))
    show(figures)
    sys.exit(not figures.are_as_required)


if __name__ == "__main__":
    main()
