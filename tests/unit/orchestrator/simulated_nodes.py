"""Nodes, links and one session in simulated time; for tests of estimates and decisions.

Every device, engine and direction of a link serves one frame at a time, in the order in which
frames reach it. Frames report their times as the services do; nothing is measured that they do not.
"""

import heapq
import random
from collections import deque

from common.domain.detections import StageTiming
from common.domain.placement import Stage
from services.orchestrator.decision.decider import Decider
from services.orchestrator.decision.mirroring import MirrorBudget, pair_to_mirror
from services.orchestrator.estimation.keeper import EstimateKeeper

TICK_SECONDS = 0.25
HEARTBEAT_SECONDS = 0.5
# Transport and event loop of a message and its answer, without the link.
OVERHEAD_SECONDS = 0.001


class Clock:
    """Runs what is due, in order of time."""

    def __init__(self):
        self.now = 0.0
        self._due = []
        self._order = 0

    def after(self, seconds, action):
        self._order += 1
        heapq.heappush(self._due, (self.now + seconds, self._order, action))

    def run_until(self, end):
        while self._due and self._due[0][0] <= end:
            self.now, _, action = heapq.heappop(self._due)
            action()
        self.now = end


class Server:
    """Serves one at a time; `seconds_of(work)` is asked when the work begins."""

    def __init__(self, clock, seconds_of):
        self._clock = clock
        self._seconds_of = seconds_of
        self._waiting = deque()
        self._busy = False

    def serve(self, work, done, begun=lambda: None):
        self._waiting.append((work, done, begun))
        self._next()

    def _next(self):
        if self._busy or not self._waiting:
            return
        self._busy = True
        work, done, begun = self._waiting.popleft()
        begun()
        self._clock.after(self._seconds_of(work), lambda: self._finish(done))

    def _finish(self, done):
        self._busy = False
        done()
        self._next()


class Engine:
    """Hands one frame at a time to the node's device; waits for that count as execution."""

    def __init__(self, clock, device):
        self._clock = clock
        self._device = device
        self._waiting = deque()
        self._busy = False

    def execute(self, seconds, done):
        """`done` gets the seconds queued and the seconds in the engine."""
        self._waiting.append((seconds, self._clock.now, done))
        self._next()

    def _next(self):
        if self._busy or not self._waiting:
            return
        self._busy = True
        seconds, ready_at, done = self._waiting.popleft()
        started_at = self._clock.now

        def finish():
            self._busy = False
            done(started_at - ready_at, self._clock.now - started_at)
            self._next()

        self._device.serve(seconds, finish)


class Simulation:
    """A saturated session on simulated nodes, with the real keeper, probing and decider.

    Args:
        execute_seconds: by node and stage.
        bits_per_second: of each direction of each link; may be changed at any time.
        policy: of the decider.
        window: frames in flight.
        noise: share by which each execution may take more or less.
        latency_seconds: of each link, one way.
        fixed: the pair to use always, instead of deciding.
    """

    def __init__(
        self,
        execute_seconds,
        bits_per_second,
        policy,
        *,
        pairs,
        frame_bytes=50_000,
        feature_bytes=218_000,
        window=8,
        noise=0.0,
        latency_seconds=0.0005,
        fixed=None,
        separate_devices=False,
        seed=0,
    ):
        self.clock = Clock()
        self.bits_per_second = bits_per_second
        self.keeper = EstimateKeeper(policy.located_at)
        self.decider = Decider(policy)
        self.pairs = list(pairs)
        self.unavailable = {}
        self.decisions = []
        self.answered_at = []
        self.decision = None
        self._fixed = fixed
        self._policy = policy
        self._execute_seconds = execute_seconds
        self._payload = {Stage.BACKBONE: frame_bytes, Stage.TRANSFORMER: feature_bytes}
        self._window = window
        self._noise = noise
        self._latency_seconds = latency_seconds
        self._random = random.Random(seed)
        devices = {}
        self._engines = {}
        for node, stage in execute_seconds:
            key = (node, stage) if separate_devices else node
            device = devices.setdefault(key, Server(self.clock, lambda seconds: seconds))
            self._engines[node, stage] = Engine(self.clock, device)
        self._links = {}
        self._in_flight = 0
        self._budget = MirrorBudget(0.05)
        self._mirroring = False
        self.clock.after(0.0, self._tick)
        self.clock.after(0.0, self._heartbeat)

    def run(self, seconds):
        """Returns the frames a second of that time."""
        before = len(self.answered_at)
        self.clock.run_until(self.clock.now + seconds)
        return (len(self.answered_at) - before) / seconds

    @property
    def changes(self):
        return [(at, each.node_pair, each.reason) for at, each in self.decisions if each.changed]

    def _tick(self):
        estimates = self.keeper.snapshot(self.clock.now)
        usable = [node_pair for node_pair in self.pairs if node_pair not in self.unavailable]
        if self._fixed is not None:
            usable = [self._fixed]
        self.decision = self.decider.decide(self.clock.now, usable, estimates, self.unavailable)
        self.decisions.append((self.clock.now, self.decision))
        self._fill()
        self.clock.after(TICK_SECONDS, self._tick)

    def _heartbeat(self):
        for node in {node for node, _ in self._execute_seconds}:
            local = node == self._policy.located_at
            seconds = OVERHEAD_SECONDS + (0 if local else 2 * self._latency_seconds)
            self.keeper.observe_round_trip(node, seconds, self.clock.now)
        self.clock.after(HEARTBEAT_SECONDS, self._heartbeat)

    def _fill(self):
        while self._in_flight < self._window and self.decision.node_pair is not None:
            self._in_flight += 1
            self._send(self.decision.node_pair, self._answered)

    def _answered(self, node_pair, backbone, transformer):
        backlogged = node_pair == self.decision.node_pair and self._in_flight >= self._window
        self._in_flight -= 1
        self.answered_at.append(self.clock.now)
        self.keeper.observe(
            node_pair, backbone, transformer, now=self.clock.now, backlogged=backlogged
        )
        self._budget.earn()
        self._mirror()
        self._fill()

    def _mirror(self):
        if self._mirroring or not self._budget.enough() or self._fixed is not None:
            return
        estimates = self.keeper.snapshot(self.clock.now)
        usable = [
            node_pair
            for node_pair in self.pairs
            if node_pair not in self.unavailable and node_pair not in self.decision.excluded
        ]
        node_pair = pair_to_mirror(
            usable, self.decision.node_pair, estimates, self._policy.located_at
        )
        if node_pair is not None:
            self._budget.spend()
            self._mirroring = True
            self._send(node_pair, self._mirrored)

    def _mirrored(self, node_pair, backbone, transformer):
        self._mirroring = False
        self.keeper.observe(node_pair, backbone, transformer, now=self.clock.now, backlogged=False)

    def _send(self, node_pair, answered):
        def after_transformer(transformer):
            def after_backbone(backbone):
                answered(node_pair, backbone, transformer)

            return after_backbone

        self._stage(
            self._policy.located_at,
            node_pair.backbone,
            Stage.BACKBONE,
            lambda held: self._stage(
                node_pair.backbone,
                node_pair.transformer,
                Stage.TRANSFORMER,
                lambda done: done(),
                lambda transformer: held(after_transformer(transformer)),
            ),
            lambda backbone: None,
        )

    def _stage(self, sender, receiver, stage, then, answer):
        """Send to a stage, execute there, do `then`, and answer back; reports a `StageTiming`.

        `then` gets a function to call when the stage may answer; what that is given, if anything,
        gets the timing as well.
        """
        sent_at = self.clock.now
        payload_bytes = self._payload[stage]
        delay = 0.0 if sender == receiver else self._latency_seconds

        def arrived():
            read_at = self.clock.now
            seconds = self._execute_seconds[receiver, stage]
            seconds *= 1 + self._random.uniform(-self._noise, self._noise)

            def executed(queue_seconds, execute_seconds):
                def held(also=lambda timing: None):
                    held_seconds = self.clock.now - read_at

                    def answered():
                        timing = StageTiming(
                            receiver,
                            queue_seconds=queue_seconds,
                            execute_seconds=execute_seconds,
                            held_seconds=held_seconds,
                            transfer_seconds=self.clock.now - sent_at - held_seconds,
                            request_bytes=payload_bytes,
                        )
                        answer(timing)
                        also(timing)

                    self.clock.after(delay + OVERHEAD_SECONDS / 2, answered)

                then(held)

            self._engines[receiver, stage].execute(seconds, executed)

        def crossed():
            self.clock.after(delay + OVERHEAD_SECONDS / 2, arrived)

        if sender == receiver:
            crossed()
        else:
            self._link(sender, receiver).serve(payload_bytes, crossed)

    def _link(self, sender, receiver):
        def seconds_of(payload_bytes):
            return payload_bytes * 8 / self.bits_per_second

        key = (sender, receiver)
        if key not in self._links:
            self._links[key] = Server(self.clock, seconds_of)
        return self._links[key]
