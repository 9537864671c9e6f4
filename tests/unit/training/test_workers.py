import shutil
from collections import namedtuple

import pytest

from common.domain.errors import ConfigurationError, ResourceExhaustedError
from detr.training.batches import check_shared_memory, from_workers
from detr.training.recipe import Recipe
from tests.unit.training.conftest import TINY

Usage = namedtuple("Usage", "total used free")
COCO = {
    "kind": "coco",
    "train_images": "x",
    "train_annotations": "x",
    "val_images": "x",
    "val_annotations": "x",
}


@pytest.fixture
def docker_memory(monkeypatch):
    """What Docker gives unless told otherwise."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**26, 0, 2**26))


def recipe(**changes):
    return Recipe.model_validate({**TINY, **changes})


def test_batches_that_do_not_fit_are_refused_before_the_first_step(docker_memory):
    large = recipe(data=COCO, input={"policy": "shortest_edge"}, batch_size=2)
    with pytest.raises(
        ResourceExhaustedError, match=r"/dev/shm has 67\.1 MB free.*--shm-size.*--workers 0"
    ):
        check_shared_memory(large, 1)
    check_shared_memory(large, 0)
    check_shared_memory(recipe(), 2)


def failing(error):
    yield 1
    raise error


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (RuntimeError("unable to write to file </torch_1>: No space left"), None, "shm is full"),
        (
            RuntimeError("DataLoader worker (pid 3) is killed by signal: Bus error."),
            None,
            "is full",
        ),
        (RuntimeError("DataLoader worker (pid 3) exited unexpectedly"), None, "was ended"),
        (
            ConfigurationError(
                "Caught ConfigurationError in DataLoader worker process 0.\nOriginal Traceback "
                '(most recent call last):\n  File "x.py", line 3\n'
                "common.domain.errors.ConfigurationError: a.jpg: the image is cut off\n"
            ),
            ConfigurationError,
            r"^a\.jpg: the image is cut off$",
        ),
    ],
)
def test_what_goes_wrong_in_a_worker_is_one_sentence(error, kind, sentence):
    batches = from_workers(failing(error))
    assert next(batches) == 1
    with pytest.raises(kind or ResourceExhaustedError, match=sentence):
        next(batches)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"):
        list(from_workers(failing(RuntimeError("shapes differ"))))
