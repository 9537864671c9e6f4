from detr.distillation.comparison import Row, table


def test_the_first_model_is_the_one_that_others_are_measured_by():
    rows = [
        Row("R50", 2_600_000, 21.04, 0.5, 0.75),
        Row("R34", 2_450_000, 15.0, 0.49, 0.74),
    ]
    lines = table(rows).splitlines()
    assert lines[2] == "| R50 | 2.60M | 21.0 | 0.500 | 0.750 |  |"
    assert lines[3] == "| R34 | 2.45M | 15.0 | 0.490 | 0.740 | -2.0% |"
