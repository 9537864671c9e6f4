import pytest

from common.domain.errors import InvalidInputError
from experiments.rate_accuracy.grid import Bound, Cost, Point, Series, bytes_for
from experiments.rate_accuracy.report import comparisons, markdown, write_all


def point(size, ap, name="q80", series=Series.JPEG):
    return Point(series, name, size, dict.fromkeys(FIGURES, ap), 10, 5.0)


FIGURES = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)
LINE = [point(1000, 0.2), point(4000, 0.4), point(2000, 0.3), point(8000, 0.35)]


@pytest.mark.parametrize(
    ("ap", "size", "bound"),
    [
        (0.3, 2000, Bound.EXACT),
        (0.2, 1000, Bound.EXACT),
        (0.4, 4000, Bound.EXACT),
        # Half-way in AP is half-way in the logarithm.
        (0.35, 2000 * 2**0.5, Bound.EXACT),
        (0.225, 1000 * 2**0.25, Bound.EXACT),
        (0.41, 4000, Bound.AT_LEAST),
        (0.1, 1000, Bound.AT_MOST),
    ],
)
def test_bytes_for(ap, size, bound):
    cost = bytes_for(ap, LINE)
    assert cost.bytes_per_frame == pytest.approx(size)
    assert cost.bound is bound


def test_fewer_bytes_with_more_ap_come_first():
    # The dip at 2000 bytes is passed over: 1000 bytes do better already.
    line = [point(1000, 0.3), point(2000, 0.2), point(4000, 0.4)]
    assert bytes_for(0.25, line) == Cost(1000, Bound.AT_MOST)
    assert bytes_for(0.35, line).bytes_per_frame == pytest.approx(2000)


def test_a_line_without_points_has_no_cost():
    with pytest.raises(InvalidInputError):
        bytes_for(0.3, [])


def test_reports(tmp_path):
    features = [point(4000, 0.35, "fp32", Series.FEATURES), point(1500, 0.3, "q4", Series.FEATURES)]
    points = [*features, *LINE]
    (found,) = comparisons(points)
    assert found.ratio == pytest.approx(0.75)
    assert "needs 2,000 for that: 0.75 of its bytes" in found.sentence()
    assert "| features q4 | 0.3000 | -5.00 | 0.3000 | 1,500 |" in markdown(points)
    write_all(tmp_path, points, {"title": "test"})
    lines = (tmp_path / "rate-accuracy.csv").read_text().splitlines()
    assert lines[0].startswith("series,name,bytes_per_frame,frames,fps,AP,AP50")
    assert len(lines) == 1 + len(points)
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".json", ".md", ".png"}
