"""Engines that want one device take turns."""

import threading
import time

from services.pipeline.execution_turn import ExecutionTurn


def test_who_comes_back_at_once_stands_behind_those_that_wait():
    turn, order, threads = ExecutionTurn(), [], []

    def execute(name):
        with turn:
            order.append(name)

    with turn:
        for number in range(3):
            threads.append(threading.Thread(target=execute, args=(number,)))
            threads[-1].start()
            deadline = time.monotonic() + 60
            while turn.waiting <= number:
                assert time.monotonic() < deadline
    # An ordinary lock would be taken again by this thread.
    execute("again")
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2, "again"]
