"""Looking for garbage in a service does not take as long as all its modules would."""

import gc

import pytest

from common.server.server import run_service


@pytest.fixture(autouse=True)
def looked_through():
    """The tests' own process leaves out what it has imported, too."""
    gc.unfreeze()
    yield
    gc.freeze()


def test_modules_are_left_out_when_a_service_looks_for_garbage():
    modules = {id(module.__dict__) for module in (gc, pytest)}
    looked_at, left_out = [], []

    async def serve():
        looked_at.extend(each for each in gc.get_objects() if id(each) in modules)
        left_out.append(gc.get_freeze_count())
        return True

    run_service(serve, "a service")
    assert looked_at == []
    assert left_out[0] > len(modules)


def test_what_a_service_makes_is_looked_at():
    found = []

    class Made:
        def __del__(self):
            found.append(True)

    async def serve():
        made = Made()
        made.itself = made
        del made
        gc.collect()
        return True

    run_service(serve, "a service")
    assert found == [True]
