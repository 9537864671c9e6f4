"""Ordered answers: one each, in order, bounded, through every kind of end."""

import asyncio

import pytest

from common.server.ordered_stream import OrderedAnswers, OrderedStream, PendingAnswer


class Script:
    """Requests that come when the test says so, handlers that finish when it says so."""

    def __init__(self, limit=4):
        self.requests = asyncio.Queue()
        self.started = []
        self.written = []
        self.release = {}
        self.stream = OrderedStream(self._handle, self._write, asyncio.Semaphore(limit))
        self.stop = asyncio.Event()

    async def _handle(self, request):
        self.started.append(request)
        await self.release.setdefault(request, asyncio.Event()).wait()
        return request * 10

    async def _write(self, answer):
        self.written.append(answer)

    async def _requests(self):
        while True:
            request = await self.requests.get()
            if request is None:
                return
            if isinstance(request, Exception):
                raise request
            yield request

    def run(self):
        return asyncio.ensure_future(self.stream.run(self._requests(), self.stop.wait()))

    def let(self, *requests):
        for request in requests:
            self.release.setdefault(request, asyncio.Event()).set()

    def send(self, *requests):
        for request in requests:
            self.requests.put_nowait(request)


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


async def test_answers_keep_the_order_of_the_requests():
    script = Script()
    running = script.run()
    script.send(1, 2, 3, None)
    await settle()
    assert script.started == [1, 2, 3]
    script.let(3, 2)
    await settle()
    assert script.written == []
    script.let(1)
    await running
    assert script.written == [10, 20, 30]


async def test_no_more_than_the_limit_is_read():
    script = Script(limit=2)
    running = script.run()
    script.send(1, 2, 3, 4, None)
    await settle()
    assert script.started == [1, 2]
    script.let(1)
    await settle()
    assert script.started == [1, 2, 3]
    script.let(2, 3, 4)
    await running
    assert script.written == [10, 20, 30, 40]


async def test_a_stop_answers_what_was_read_and_reads_no_more():
    script = Script()
    running = script.run()
    script.send(1, 2)
    await settle()
    script.stop.set()
    await settle()
    script.send(3)
    script.let(1, 2, 3)
    await running
    assert script.written == [10, 20]
    assert script.started == [1, 2]


async def test_an_error_in_reading_comes_after_the_answers():
    script = Script()
    running = script.run()
    script.send(1, 2, ValueError("id does not increase"))
    await settle()
    assert not running.done()
    script.let(1, 2)
    with pytest.raises(ValueError, match="id does not increase"):
        await running
    assert script.written == [10, 20]


async def test_a_failed_write_ends_the_stream_and_cancels_the_rest():
    script = Script()

    async def broken(_):
        raise ConnectionError("the client is gone")

    script.stream = OrderedStream(script._handle, broken, asyncio.Semaphore(4))
    running = script.run()
    script.send(1, 2, 3)
    await settle()
    script.let(1)
    with pytest.raises(ConnectionError):
        await running
    await settle()
    assert len(asyncio.all_tasks()) == 1


async def test_cancelling_leaves_no_task_behind():
    script = Script()
    running = script.run()
    script.send(1, 2, 3)
    await settle()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await settle()
    assert len(asyncio.all_tasks()) == 1


async def test_an_empty_stream_ends():
    script = Script()
    script.send(None)
    await script.run()
    assert script.written == []


class Held:
    """What a request is charged for."""

    def __init__(self):
        self.released = 0

    def release(self):
        self.released += 1


class Begun:
    """Requests that no task works on: the test settles each of them."""

    def __init__(self):
        self.script = Script()
        self.pending = {}
        self.held = Held()
        self.stream = OrderedAnswers(self._begin, self.script._write, asyncio.Semaphore(8))
        self.script.stream = self.stream

    def _begin(self, request):
        pending = self.pending[request] = PendingAnswer(self.held)
        if request == "at once":
            pending.settle("here")
        if request == "by a task":
            pending.follow(self.script._handle(request))
        return pending


async def test_answers_that_are_settled_keep_the_order_too():
    begun = Begun()
    running = begun.script.run()
    begun.script.send(1, 2, "by a task", "at once", 3, None)
    await settle()
    begun.pending[3].settle("three")
    begun.pending[2].settle("two")
    begun.script.let("by a task")
    await settle()
    assert begun.script.written == []
    assert begun.held.released == 4
    begun.pending[1].settle("one")
    await running
    assert begun.script.written == ["one", "two", "by a task" * 10, "here", "three"]
    assert begun.held.released == 5


async def test_a_second_answer_is_left_aside():
    begun = Begun()
    running = begun.script.run()
    begun.script.send(1, None)
    await settle()
    begun.pending[1].settle("first")
    begun.pending[1].settle("second")
    begun.pending[1].fail(ValueError("late"))
    await running
    assert begun.script.written == ["first"]
    assert begun.held.released == 1


async def test_what_fails_ends_the_stream_after_the_answers_before():
    begun = Begun()
    running = begun.script.run()
    begun.script.send(1, 2, 3)
    await settle()
    begun.pending[2].fail(ValueError("two"))
    begun.pending[1].settle("one")
    with pytest.raises(ValueError, match="two"):
        await running
    assert begun.script.written == ["one"]
    assert begun.held.released == 3


async def test_cancelling_releases_what_nobody_works_on():
    begun = Begun()
    running = begun.script.run()
    begun.script.send(1, "by a task")
    await settle()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert begun.held.released == 2
    assert len(asyncio.all_tasks()) == 1
