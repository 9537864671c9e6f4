import itertools

import pytest
import torch

from detr.training.losses import MatchCosts, cost_matrices, match

COSTS = MatchCosts()


def random_predictions(seed, predictions=3, queries=5, targets=4, classes=6):
    generator = torch.Generator().manual_seed(seed)

    def boxes(count):
        centre = torch.rand(predictions, count, 2, generator=generator)
        return torch.cat([centre, torch.rand(predictions, count, 2, generator=generator)], dim=2)

    logits = torch.randn(predictions, queries, classes + 1, generator=generator)
    kinds = torch.randint(0, classes, (predictions, targets), generator=generator)
    return logits, boxes(queries), kinds, boxes(targets)


def cheapest_by_brute_force(matrix, count):
    """The least total cost over every way to give `count` targets queries of their own."""
    return min(
        sum(float(matrix[query, target]) for target, query in enumerate(chosen))
        for chosen in itertools.permutations(range(matrix.shape[0]), count)
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_assignment_is_the_cheapest(seed):
    logits, boxes, kinds, targets = random_predictions(seed)
    counts = [4, 2, 0]
    found = match(logits, boxes, kinds, targets, counts=counts, costs=COSTS)
    matrices = cost_matrices(logits, boxes, kinds, targets, COSTS)
    for index, count in enumerate(counts):
        mine = found.prediction == index
        queries, objects = found.query[mine], found.target[mine]
        assert sorted(objects.tolist()) == list(range(count))
        assert len(set(queries.tolist())) == count
        total = matrices[index][queries, objects].sum().item()
        assert total == pytest.approx(cheapest_by_brute_force(matrices[index], count), abs=1e-4)


def test_costs_by_hand():
    # One query says class 1 with probability 3/4, at the object's place but half as wide.
    logits = torch.tensor([[[1.0, 6.0, 1.0]]]).log()
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.4]]])
    targets = torch.tensor([[[0.5, 0.5, 0.4, 0.4]]])
    cost = cost_matrices(logits, boxes, torch.tensor([[1]]), targets, COSTS)
    # Class 1 has probability 6/8; L1 is 0.2; one box covers half of the other, which is the hull.
    assert cost.item() == pytest.approx(-0.75 + 5 * 0.2 - 2 * 0.5)


def test_more_objects_than_queries():
    logits, boxes, kinds, targets = random_predictions(0, queries=2, targets=4)
    found = match(logits, boxes, kinds, targets, counts=[4, 4, 4], costs=COSTS)
    assert len(found.query) == 6


def test_no_objects_at_all():
    logits, boxes, kinds, targets = random_predictions(0)
    found = match(logits, boxes, kinds, targets, counts=[0, 0, 0], costs=COSTS)
    assert len(found.query) == 0
