import pytest

from common.domain.errors import ConfigurationError, InvalidInputError
from experiments.rate_accuracy.comparison import comparisons, price, price_table
from experiments.rate_accuracy.grid import Series
from experiments.rate_accuracy.publish import headline, publish
from experiments.rate_accuracy.report import markdown, write_all
from experiments.rate_accuracy.tradeoff import Bound, Cost, Point, bytes_for, envelope


def point(size, ap, name="q80", series=Series.JPEG):
    return Point(series, name, size, size - 40, dict.fromkeys(FIGURES, ap), 10, 5.0)


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


FEATURES_LINE = [
    point(4000, 0.35, "fp32", Series.FEATURES),
    point(1500, 0.3, "q4", Series.FEATURES),
]
LATENTS_LINE = [
    point(200, 0.34, "latent", Series.LATENTS),
    point(100, 0.28, "latent-coarse", Series.LATENTS),
]
VIDEO_LINES = [
    point(900, 0.33, "crf23", Series.H265),
    point(600, 0.27, "crf28", Series.H265),
    # Of the smaller frame, and better.
    point(800, 0.34, "crf18", Series.REDUCED_H265),
]


def test_a_codec_is_compared_to_each_rival_that_was_measured():
    (found,) = comparisons([*FEATURES_LINE, *LINE])
    assert found.ratio == pytest.approx(0.75)
    assert "needs 2,000 for that: 0.75 of its bytes" in found.sentence()
    found = comparisons([*FEATURES_LINE, *LATENTS_LINE, *LINE, *VIDEO_LINES])
    assert [(one.codec, one.rival.split()[0]) for one in found] == [
        *(("q4", "JPEG"), ("q4", "H.265"), ("latent", "JPEG"), ("latent", "H.265")),
        *(("latent-coarse", "JPEG"), ("latent-coarse", "H.265")),
    ]
    # The line of video is the better of both sizes.
    assert found[3].cost == Cost(800, Bound.EXACT)
    assert found[3].ratio == pytest.approx(0.25)


def test_everything_has_a_price_at_one_ap():
    points = [*FEATURES_LINE, *LATENTS_LINE, *LINE, *VIDEO_LINES]
    found = price(points, 0.01)
    assert found.ap == pytest.approx(0.34)
    assert found.costs["latents"].bytes_per_frame == pytest.approx(200)
    assert found.costs["H.265 of the better size"].bytes_per_frame == pytest.approx(800)
    text = price_table(found)
    assert "| H.265 of the better size | 800 | 4.0 |" in text
    assert "| latents | 200 |  |" in text
    assert price(LINE, 0.01) is None


@pytest.mark.parametrize(
    ("loss", "rival", "text"),
    [
        # H.265 does not reach 0.345, the latents do not either: nothing is known of their ratio.
        (0.005, VIDEO_LINES, "| H.265 of the better size | more than 800 |  |"),
        (0.02, VIDEO_LINES[:2], "| H.265 of the better size | 900 | 5.1 |"),
        (0.015, VIDEO_LINES[:2], "| H.265 of the better size | more than 900 | more than 4.8 |"),
        # The latents' coarsest is better than that.
        (0.1, VIDEO_LINES[:2], "| H.265 of the better size | less than 600 |  |"),
        (0.075, VIDEO_LINES[:2], "| H.265 of the better size | 621 | more than 6.2 |"),
    ],
)
def test_bounds_stay_bounds(loss, rival, text):
    assert text in price_table(price([*FEATURES_LINE, *LATENTS_LINE, *rival], loss))


def test_the_envelope_rises():
    assert [(one.bytes_per_frame, one.ap) for one in envelope(VIDEO_LINES)] == [
        (600, 0.27),
        (800, 0.34),
    ]


def test_reports(tmp_path):
    points = [*FEATURES_LINE, *LATENTS_LINE, *LINE, *VIDEO_LINES]
    table = markdown(points)
    assert "| features q4 | 0.3000 | -5.00 | 0.3000 | 1,500 | 1,460 |" in table
    assert "| latents latent | 0.3400 | -1.00 | 0.3400 | 200 | 160 |" in table
    assert "| H.265 crf18 at the network's size | 0.3400 |" in table
    write_all(tmp_path, points, {"title": "test"}, 0.01)
    lines = (tmp_path / "rate-accuracy.csv").read_text().splitlines()
    assert lines[0].startswith("series,name,bytes_per_frame,payload_bytes,frames,fps,AP,AP50")
    assert len(lines) == 1 + len(points)
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".json", ".md", ".png"}
    written = (tmp_path / "rate-accuracy.md").read_text()
    assert "at AP 0.3400, 1.0 points under fp32" in written


def test_what_was_measured_goes_between_its_lines(tmp_path):
    (tmp_path / "docs/images").mkdir(parents=True)
    accuracy, readme = tmp_path / "docs/accuracy.md", tmp_path / "README.md"
    accuracy.write_text(
        "a\n<!-- measured: demo-clip -->\nold\n<!-- end -->\nb\n"
        "<!-- measured: other -->\nold\n<!-- end -->\n"
    )
    readme.write_text("a\n\n<!-- measured: demo-clip -->\n<!-- end -->\n\nb\n")
    points = [*FEATURES_LINE, *LATENTS_LINE, *LINE, *VIDEO_LINES]
    about = {"bundle": "toy", "bundle_digest": "0123456789", "frames": 10}
    write_all(tmp_path, points, about, 0.01)
    for _ in range(2):
        publish(tmp_path, "demo-clip", points, tmp_path, 0.01)
        text = accuracy.read_text()
        assert text.startswith(
            "a\n<!-- measured: demo-clip -->\n\nMeasured with `toy` (digest `01234567`)"
        )
        assert text.count("| features q4 |") == 1
        assert text.endswith("b\n<!-- measured: other -->\nold\n<!-- end -->\n")
        assert "H.265 at low delay needs 800 for the same accuracy, 4.0 times" in readme.read_text()
    assert (tmp_path / "docs/images/rate-accuracy-demo-clip.png").exists()
    assert (tmp_path / "docs/images/rate-accuracy-overview.png").exists()
    with pytest.raises(ConfigurationError, match="0 places for what was measured of clips"):
        publish(tmp_path, "clips", points, tmp_path, 0.01)


@pytest.mark.parametrize(
    "points",
    [
        [*FEATURES_LINE, *VIDEO_LINES],
        [*FEATURES_LINE, *LATENTS_LINE],
        # The latents do not reach the AP; video is cheaper; video is cheaper still.
        [*FEATURES_LINE, point(200, 0.2, "latent", Series.LATENTS), *VIDEO_LINES],
        [*FEATURES_LINE, point(900, 0.345, "latent", Series.LATENTS), *VIDEO_LINES],
        [*FEATURES_LINE, *LATENTS_LINE, point(100, 0.345, "crf18", Series.H265)],
    ],
)
def test_no_gain_is_no_headline(points):
    assert headline(points, 0.01) is None
