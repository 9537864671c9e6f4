"""What came of many hostile messages."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import grpc

from benchmarks.hostile.calls import Exchange

# What a caller may be told of its own fault. NOT_FOUND is health's, UNIMPLEMENTED gRPC's own.
CALLER_S_FAULT = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
_MOST_TOLD = 40
_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass
class Tally:
    """Counts; what is wrong is kept in words.

    Attributes:
        messages: sent, pictures and connections included.
        pictures: of these, frames.
        rejected: calls and frames that were told a fault of their own.
        codes: of calls and frames, by method.
        wrong_codes: a caller's fault told as one of the server's, or a call that never ended.
        broken: frames lost, doubled or reordered.
        largest_answer_bytes: of what was rejected.
        crashes: pictures that ended the process that decoded them, which is made for that.
    """

    messages: int = 0
    pictures: int = 0
    rejected: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    wrong_codes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    largest_answer_bytes: int = 0
    crashes: int = 0

    def ended(self, exchange: Exchange) -> None:
        """A call has ended."""
        code = exchange.code
        told = "never ended" if code is None else code.name
        if code is not grpc.StatusCode.OK:
            size = len(exchange.words.encode())
            self._refused(code, size, exchange.method, f"{told}: {exchange.words}")
        else:
            self.codes[f"{exchange.method} {told}"] += 1

    def frame_failed(self, method: str, code: int, answer: bytes, words: str) -> None:
        """A frame was answered with an error."""
        self.crashes += "crashes the decoder" in words
        known = _CODES.get(code)
        self._refused(known, len(answer), f"{method} frame", f"code {code}: {words}")

    def in_order(self, method: str, wanted: list[int], got: list[int], most: int) -> None:
        """Of a stream's frames, those with the ids `wanted` have to be answered, in this order.

        Args:
            method: of the stream.
            wanted: ids of frames that the server must have accepted.
            got: ids of the answers.
            most: answers that there may be: more messages followed that may have been frames.
        """
        if got[: len(wanted)] != wanted or len(got) > most:
            self._tell(self.broken, f"{method}: {len(wanted)} frames, answered: {got}"[:300])

    def _refused(self, code: grpc.StatusCode | None, size: int, what: str, words: str) -> None:
        self.codes[f"{what} {'never ended' if code is None else code.name}"] += 1
        if code not in CALLER_S_FAULT:
            self._tell(self.wrong_codes, f"{what}: {words}"[:300])
            return
        self.rejected += 1
        self.largest_answer_bytes = max(self.largest_answer_bytes, size)

    def _tell(self, kept: list[str], words: str) -> None:
        if len(kept) < _MOST_TOLD:
            kept.append(words)
