"""Rates of pairs are taken from saturated, settled time only, and say whether they were steady."""

import pytest

from services.orchestrator.estimation.pair_rates import PairRate


def answers(rate, *, frames_per_second, since, until, backlogged=True, waits=0.0, transfers=0.0):
    """Let answers come evenly; returns when the last one did."""
    count = round((until - since) * frames_per_second)
    for number in range(count):
        now = since + number / frames_per_second
        rate.observe(waits, transfers, backlogged=backlogged, now=now)
    return now


def test_a_saturated_pair_has_the_rate_of_its_answers():
    rate = PairRate()
    last = answers(rate, frames_per_second=40, since=10, until=13)
    rate.measure()
    assert rate.frames_per_second == pytest.approx(40)
    assert rate.measured_at == last
    assert rate.steady


def test_no_rate_before_the_pair_has_settled():
    rate = PairRate()
    # Half a second to settle, and then too little to measure.
    answers(rate, frames_per_second=40, since=10, until=11)
    rate.measure()
    assert rate.frames_per_second is None


def test_no_rate_of_sessions_that_leave_their_windows_empty():
    rate = PairRate()
    answers(rate, frames_per_second=5, since=10, until=20, backlogged=False)
    rate.measure()
    assert rate.frames_per_second is None


def test_a_rate_that_changes_under_way_is_not_steady_until_it_has_changed():
    rate = PairRate()
    answers(rate, frames_per_second=40, since=10, until=13)
    answers(rate, frames_per_second=10, since=13, until=13.8)
    rate.measure()
    assert not rate.steady
    answers(rate, frames_per_second=10, since=13.8, until=16)
    rate.measure()
    assert rate.steady
    assert rate.frames_per_second == pytest.approx(10)


def test_a_pause_begins_a_new_run():
    rate = PairRate()
    answers(rate, frames_per_second=40, since=10, until=13)
    answers(rate, frames_per_second=10, since=15, until=15.9)
    rate.measure()
    assert rate.frames_per_second is None


@pytest.mark.parametrize(
    ("waits", "transfers", "engines"), [(0.05, 0.02, True), (0.001, 0.2, False)]
)
def test_what_limits_the_pair_is_where_its_frames_wait(waits, transfers, engines):
    rate = PairRate()
    answers(rate, frames_per_second=40, since=10, until=13, waits=waits, transfers=transfers)
    rate.measure()
    assert rate.engines_are_limit is engines
