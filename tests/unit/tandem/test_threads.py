import threading

import pytest

from tandem.threads import iterate_in_thread


async def test_items_come_in_order_from_one_other_thread():
    def numbers():
        for number in range(5):
            yield number, threading.get_ident()

    items = [item async for item in iterate_in_thread(numbers())]
    assert [number for number, _ in items] == list(range(5))
    threads = {thread for _, thread in items}
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_nothing_is_read_ahead():
    read = []

    def numbers():
        for number in range(5):
            read.append(number)
            yield number

    items = iterate_in_thread(numbers())
    assert read == []
    assert await anext(items) == 0
    assert read == [0]
    await items.aclose()


async def test_leaving_closes_the_generator():
    closed = []

    def numbers():
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    items = iterate_in_thread(numbers())
    await anext(items)
    await items.aclose()
    assert closed == [True]


async def test_errors_come_through_after_the_items():
    def numbers():
        yield 1
        raise KeyError("broken")

    items = iterate_in_thread(numbers())
    assert await anext(items) == 1
    with pytest.raises(KeyError, match="broken"):
        await anext(items)
