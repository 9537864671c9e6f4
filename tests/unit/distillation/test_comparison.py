import cv2
import pytest

from common.domain.errors import ConfigurationError
from detr.distillation.comparison import Row, draw_runs, table
from detr.training.metrics import MetricsFile, MetricsRow


def test_the_first_model_is_the_one_that_others_are_measured_by():
    rows = [
        Row("R50", 2_600_000, 21.04, 0.5, 0.75),
        Row("R34", 2_450_000, 15.0, 0.49, 0.74),
    ]
    lines = table(rows).splitlines()
    assert lines[2] == "| R50 | 2.60M | 21.0 | 0.500 | 0.750 |  |"
    assert lines[3] == "| R34 | 2.45M | 15.0 | 0.490 | 0.740 | -2.0% |"


def run(folder, ap):
    folder.mkdir()
    metrics = MetricsFile(folder, 0, ["loss"])
    for step, precision in ((10, None), (20, ap)):
        metrics.append(MetricsRow(step, 16 * step, 3.0 * step, 1e-4, {"loss": 2.0}, precision))
    return folder


def test_each_run_adds_a_curve_to_the_picture(tmp_path):
    one, two = run(tmp_path / "one", 0.4), run(tmp_path / "two", 0.5)
    for runs in ([("one", one)], [("one", one), ("two", two)]):
        draw_runs(runs, tmp_path / f"{len(runs)}.png")
    first, second = (cv2.imread(str(tmp_path / name)) for name in ("1.png", "2.png"))
    assert first.shape == second.shape == (400, 900, 3)
    # Matplotlib's second colour, orange: BGR.
    orange = (14, 127, 255)
    assert not (first == orange).all(-1).any()
    assert (second == orange).all(-1).any()


def test_a_run_without_an_ap_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"empty: no metrics\.csv"):
        draw_runs([("empty", run(tmp_path / "empty", None))], tmp_path / "runs.png")
