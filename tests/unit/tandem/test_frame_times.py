"""When frames are shown, by time stamps that start anew or leap."""

import pytest

from tandem.sources.times import FrameTimes

YEARS = 1_700_000_000.0


@pytest.mark.parametrize(
    ("stamps", "seconds"),
    [
        ((3.0, 3.1, 3.2), (0, 0.1, 0.2)),
        ((-2.0, -1.9), (0, 0.1)),
        # A camera that records what moves only.
        ((0.0, 0.1, 600.0, 600.1), (0, 0.1, 600, 600.1)),
        # The same time twice, and frames that are stored in a wrong order.
        ((0.0, 0.2, 0.2, 0.1, 0.3), (0, 0.2, 0.2, 0.1, 0.3)),
        # Recordings that were joined.
        ((5.0, 6.0, 0.0, 1.0, 0.0, 1.0), (0, 1, 1.25, 2.25, 2.5, 3.5)),
        # A clock that was set, ahead and back.
        ((1.0, 1.1, YEARS, YEARS + 0.1, 2.0), (0, 0.1, 0.35, 0.45, 0.7)),
    ],
)
def test_time_goes_on_from_the_frame_before(stamps, seconds):
    times = FrameTimes(4.0)
    told = [times.since_first(stamp) for stamp in stamps]
    assert told == pytest.approx(seconds, abs=1e-6)


def test_a_broadcast_leaps_no_further_than_a_camera_is_silent():
    stamps = (0.0, 9.0, 9.1, 19.2, 19.3, 18_000.0)
    times = FrameTimes(4.0, may_start_anew=True)
    told = [times.since_first(stamp) for stamp in stamps]
    assert told == pytest.approx((0, 9, 9.1, 9.35, 9.45, 9.7))


def test_a_video_that_tells_no_rate():
    times = FrameTimes(None)
    assert [times.since_first(stamp) for stamp in (9.0, 1.0)] == [0.0, pytest.approx(0.04)]
