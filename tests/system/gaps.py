"""How long clients had to wait after each fault."""

import itertools
import statistics
from typing import Dict, List, Sequence

from tests.system.faults import Event


def longest_gaps(served_at: Sequence[float], events: Sequence[Event]) -> Dict[Event, float]:
    """The longest time without a detection that each event caused.

    A gap belongs to the first event within it, and else to the last one before.
    """
    longest: Dict[Event, float] = {}
    for before, after in itertools.pairwise(served_at):
        within = [event for event in events if before < event.at <= after]
        earlier = [event for event in events if event.at <= before]
        if not within and not earlier:
            continue
        event = within[0] if within else earlier[-1]
        longest[event] = max(longest.get(event, 0.0), after - before)
    return longest


def table(gaps: Dict[str, Sequence[float]]) -> List[str]:
    """Count, median and longest of the gaps of each kind of event."""
    return [
        f"{kind:12} {len(seconds):3}  median {statistics.median(seconds):5.2f} s"
        f"  longest {max(seconds):5.2f} s"
        for kind, seconds in sorted(gaps.items())
    ]
