"""Which runs there are, their order, and how long they will take."""

from collections import Counter

from common.bundle import Architecture, FixedInput
from common.domain.codec import Codec
from common.domain.placement import Placement, Stage
from experiments.placements.cases import Case, Run, all_cases, ordered_runs, remaining_seconds
from experiments.placements.config import Config, LocalNodes, ModelPlan


def config(**changes) -> Config:
    settings = {
        "name": "try",
        "title": "A try",
        "nodes": LocalNodes(),
        "models": tuple(
            ModelPlan(name=name, architecture=Architecture(backbone="resnet18"))
            for name in ("R18", "R34")
        ),
        "input": FixedInput(height=96, width=128),
        "codecs": (Codec.FP32, Codec.INT8),
        "links": (100, "unshaped"),
        **changes,
    }
    return Config(**settings)


def test_codecs_vary_only_where_features_cross():
    cases = all_cases(config())
    # 2 models, 2 links; 2 placements with 2 codecs and 2 with none.
    assert len(cases) == len(set(cases)) == 2 * 2 * (2 * 2 + 2)
    apart = (Placement.BACKBONE, Placement.TRANSFORMER)
    assert all((case.codec is not None) == (case.placement in apart) for case in cases)


def test_every_repetition_has_every_case_once_in_an_order_of_its_own():
    runs = ordered_runs(config(repeats=3))
    block = len(all_cases(config()))
    blocks = [runs[start : start + block] for start in range(0, len(runs), block)]
    assert [Counter(run.repeat for run in each) for each in blocks] == [
        {1: block},
        {2: block},
        {3: block},
    ]
    assert len({tuple(run.case for run in each) for each in blocks}) == 3
    assert all(
        set(each) == set(blocks[0]) for each in [[Run(r.case, 1) for r in b] for b in blocks]
    )


def test_the_order_is_the_seed_s():
    assert ordered_runs(config(seed=7)) == ordered_runs(config(seed=7))
    assert ordered_runs(config(seed=7)) != ordered_runs(config(seed=8))


def test_a_case_uses_the_stages_of_its_placement_only():
    case = Case("R18", Placement.TRANSFORMER, Codec.INT8, 100.0)
    assert case.used == {("workstation", Stage.BACKBONE), ("edge", Stage.TRANSFORMER)}
    assert Run(case, 2).name == "R18-transformer-int8-100Mbit-2"
    assert Case("R18", Placement.FULL, None, "unshaped").name == "R18-full-unshaped"


def test_what_is_left_is_estimated_from_the_nearest_runs():
    slow, fast = (Case(name, Placement.FULL, None, "unshaped") for name in ("R101", "R18"))
    other = Case("R101", Placement.WORKSTATION, None, "unshaped")
    taken = {Run(slow, 1): 60.0, Run(fast, 1): 10.0}
    assert remaining_seconds([Run(slow, 2)], taken) == 60
    assert remaining_seconds([Run(fast, 2), Run(other, 1)], taken) == 10 + 60
    unknown = Case("R50", Placement.FULL, None, "unshaped")
    assert remaining_seconds([Run(unknown, 1)], taken) == 35
    assert remaining_seconds([Run(slow, 1)], {}) is None
