"""What waits is given out in turn: one of each stream, each in the order of its own."""

import threading

import pytest

from services.pipeline.turns import Turns, TurnThreads


def turns_of(*items):
    turns = Turns()
    for item in items:
        turns.put(item[0], item)
    return turns


def fill(turns, limit=8, fits=lambda item, taken: True):
    taken = []
    turns.fill(taken, limit, fits)
    return taken


def test_streams_take_turns_and_keep_their_order():
    turns = turns_of(("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("c", 1))
    taken = [turns.pop() for _ in range(3)]
    # One that comes now waits for one of each other stream.
    turns.put("d", ("d", 1))
    taken += [turns.pop() for _ in range(4)]
    assert taken == [("a", 1), ("b", 1), ("c", 1), ("a", 2), ("b", 2), ("d", 1), ("a", 3)]
    assert not turns
    with pytest.raises(KeyError):
        turns.pop()


def test_several_are_taken_of_as_many_streams():
    turns = turns_of(("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("c", 1))
    assert fill(turns, 2) == [("a", 1), ("b", 1)]
    assert fill(turns) == [("c", 1), ("a", 2), ("b", 2)]
    assert fill(turns) == [("a", 3)]


def test_what_does_not_fit_keeps_its_place():
    turns = turns_of(("a", 1), ("b", 2), ("b", 1), ("c", 1), ("c", 2))
    odd = fill(turns, fits=lambda item, taken: item[1] % 2 == 1)
    assert odd == [("a", 1), ("c", 1)]
    assert fill(turns) == [("b", 2), ("c", 2)]
    turns.put("d", ("d", 1))
    turns.put("e", ("e", 1))
    alike = fill(turns, fits=lambda item, taken: not taken or item[0] == "e")
    assert alike == [("b", 1), ("e", 1)]


def test_what_was_taken_before_counts():
    turns = turns_of(("a", 1), ("b", 1), ("c", 1))
    taken = fill(turns, 1)
    turns.fill(taken, 2, lambda item, taken: item[0] != "b")
    turns.fill(taken, 2, lambda item, taken: True)
    assert taken == [("a", 1), ("c", 1)]
    assert fill(turns) == [("b", 1)]


def test_what_is_removed_frees_the_next_of_its_stream():
    turns = turns_of(("a", 1), ("a", 2), ("b", 1))
    turns.remove("a", ("a", 1))
    turns.remove("b", ("b", 1))
    assert fill(turns) == [("a", 2)]
    assert not turns


def test_every_job_is_done_once_by_many_threads_and_from_many_threads():
    done, all_done, rounds = [], threading.Semaphore(0), 500
    threads = TurnThreads(3, "test")

    def submit(stream):
        for number in range(rounds):
            threads.submit(stream, lambda item=(stream, number): (done.append(item), free()))

    def free():
        all_done.release()

    submitters = [threading.Thread(target=submit, args=(name,)) for name in "abc"]
    for submitter in submitters:
        submitter.start()
    for _ in range(3 * rounds):
        assert all_done.acquire(timeout=30)
    assert sorted(done) == [(name, number) for name in "abc" for number in range(rounds)]
    assert threads.close(10)


def test_jobs_of_one_thread_take_turns_by_stream():
    begin, done = threading.Event(), []
    threads = TurnThreads(1, "test")
    threads.submit("first", lambda: begin.wait(30))
    for stream in ("flood", "flood", "flood", "camera"):
        threads.submit(stream, lambda stream=stream: done.append(stream))
    begin.set()
    assert threads.close(10)
    # The end comes in its turn as well: behind one of each stream.
    assert done[:2] == ["flood", "camera"]
