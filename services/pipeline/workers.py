"""The threads that prepare and finish frames, shared by all bundles that a stage serves."""

from __future__ import annotations

from services.pipeline.turns import TurnThreads

# Preparing the next frame overlaps with finishing the previous one.
WORKER_THREADS = 2
# How long the shutdown waits for the workers' current steps.
_CLOSE_SECONDS = 0.5


class Workers:
    """Threads at which streams take turns.

    Attributes:
        usual: prepare and finish frames.
        slow: prepares the frames for which that is slow.
    """

    def __init__(self) -> None:
        """Start them."""
        self.usual = TurnThreads(WORKER_THREADS, "worker")
        self.slow = TurnThreads(1, "slow-worker")

    def close(self) -> bool:
        """End them; no frame may be under way.

        Returns:
            Whether they ended; one that hangs is left to the end of the process.
        """
        ended = [each.close(_CLOSE_SECONDS) for each in (self.usual, self.slow)]
        return all(ended)
