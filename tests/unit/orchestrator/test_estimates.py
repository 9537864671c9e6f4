"""Estimates from answers, in simulated time."""

import pytest

from common.domain.detections import StageTiming
from common.domain.placement import EDGE, WORKSTATION, NodePair, Placement, Stage
from services.orchestrator.decision.prediction import predict
from services.orchestrator.estimation.keeper import EstimateKeeper
from services.orchestrator.estimation.link_rates import LinkRates

BACKBONE, TRANSFORMER = Stage.BACKBONE, Stage.TRANSFORMER
FULL = Placement.FULL.node_pair
SPLIT = Placement.BACKBONE.node_pair
FEATURES = (EDGE, WORKSTATION, TRANSFORMER)
FRAMES = (EDGE, WORKSTATION, BACKBONE)
BACK = (WORKSTATION, EDGE, TRANSFORMER)
ROUND_TRIP_SECONDS = 0.002


def transfer_seconds(payload_bytes, megabits):
    return ROUND_TRIP_SECONDS + payload_bytes * 8 / (megabits * 1e6)


def megabits_of(rates, now, key=FEATURES):
    estimates = rates.estimates(now, lambda sender, receiver: ROUND_TRIP_SECONDS)
    return estimates[key[:2]].bytes_per_second * 8e-6


def send_idle(rates, key, megabits, since, until):
    """Payloads that find the link idle."""
    at = since
    payload_bytes = 50_000 if key == FRAMES else 218_000
    while at < until:
        rates.observe(key, payload_bytes, transfer_seconds(payload_bytes, megabits), at)
        at += 0.5
    return at


def send_queued(rates, megabits, since, until):
    """Payloads that keep the link busy: each waits for those ahead of it in the window."""
    at, serialisation = since, 218_000 * 8 / (megabits * 1e6)
    while at < until:
        rates.observe(FEATURES, 218_000, ROUND_TRIP_SECONDS + 8 * serialisation, at)
        at += serialisation
    return at


@pytest.mark.parametrize("megabits", [5, 20, 100, 1000])
def test_rate_of_an_idle_link(megabits):
    rates = LinkRates()
    now = send_idle(rates, FEATURES, megabits, 0.0, 2.0)
    assert megabits_of(rates, now) == pytest.approx(megabits, rel=0.01)


@pytest.mark.parametrize("megabits", [5, 20, 100, 1000])
def test_rate_of_a_busy_link_that_frames_wait_for(megabits):
    rates = LinkRates()
    now = send_queued(rates, megabits, 0.0, 3.0)
    assert megabits_of(rates, now) == pytest.approx(megabits, rel=0.01)


@pytest.mark.parametrize(("before", "after"), [(1000, 5), (5, 1000), (100, 20), (20, 100)])
def test_a_change_is_seen_within_two_seconds(before, after):
    rates = LinkRates()
    changed_at = send_queued(rates, before, 0.0, 3.0)
    megabits_of(rates, changed_at)
    now = send_queued(rates, after, changed_at + 218_000 * 8e-6 / after, changed_at + 1.6)
    assert now < changed_at + 2.0
    assert megabits_of(rates, now) == pytest.approx(after, rel=0.1)


@pytest.mark.parametrize(
    ("payload_bytes", "seconds"), [(1, 0.0), (218_000, 0.0), (10, 1e-9), (100, 0.0015)]
)
def test_tiny_payloads_and_times_give_a_finite_rate(payload_bytes, seconds):
    rates = LinkRates()
    rates.observe(FEATURES, payload_bytes, seconds, 0.0)
    assert 0 < megabits_of(rates, 0.0) <= 10_000


def test_what_stays_on_a_node_crosses_no_link():
    rates = LinkRates()
    rates.observe((EDGE, EDGE, TRANSFORMER), 218_000, 0.001, 0.0)
    assert rates.estimates(0.0, lambda sender, receiver: 0.0) == {}


def test_a_direction_never_measured_is_as_the_other():
    rates = LinkRates()
    now = send_idle(rates, FEATURES, 20, 0.0, 1.0)
    back = rates.estimates(now, lambda sender, receiver: ROUND_TRIP_SECONDS)[BACK[:2]]
    assert back.borrowed
    assert back.bytes_per_second * 8e-6 == pytest.approx(20, rel=0.01)


def both_directions(rates, forth, back):
    """Measure both together, so that each knows what the other was like."""
    now = send_idle(rates, FEATURES, forth, 0.0, 1.0)
    send_idle(rates, BACK, back, 0.5, 1.0)
    megabits_of(rates, now)
    return now


def test_an_idle_direction_keeps_its_own_rate_while_the_other_does_not_change():
    rates = LinkRates()
    now = both_directions(rates, forth=100, back=5)
    now = send_idle(rates, FEATURES, 100, now, now + 5)
    assert megabits_of(rates, now, BACK) == pytest.approx(5, rel=0.01)


@pytest.mark.parametrize(("before", "after"), [(100, 5), (5, 100)])
def test_an_idle_direction_changes_with_the_other(before, after):
    rates = LinkRates()
    now = both_directions(rates, forth=before, back=before)
    now = send_idle(rates, FEATURES, after, now, now + 3)
    assert megabits_of(rates, now, BACK) == pytest.approx(after, rel=0.01)


def test_small_frames_do_not_hide_what_large_features_showed_until_the_link_changes():
    rates = LinkRates()
    now = send_idle(rates, FEATURES, 1000, 0.0, 1.0)
    # Delay of the services makes a small frame look like 100 Mbit/s.
    send_idle(rates, FRAMES, 100, 0.5, 1.0)
    megabits_of(rates, now)
    now = send_idle(rates, FRAMES, 100, now, now + 5)
    assert megabits_of(rates, now) == pytest.approx(1000, rel=0.01)
    now = send_idle(rates, FRAMES, 5, now, now + 2)
    assert megabits_of(rates, now) == pytest.approx(5, rel=0.01)


def answer(keeper, node_pair, backbone_seconds, transformer_seconds, now, **options):
    keeper.observe(
        node_pair,
        StageTiming(
            node_pair.backbone,
            queue_seconds=options.get("queue_seconds", 0.02),
            execute_seconds=backbone_seconds,
            encode_seconds=0.001,
            transfer_seconds=0.001,
            request_bytes=50_000,
        ),
        StageTiming(
            node_pair.transformer,
            execute_seconds=transformer_seconds,
            postprocess_seconds=0.002,
            transfer_seconds=transfer_seconds(218_000, 1000),
            request_bytes=218_000,
        ),
        now=now,
        backlogged=options.get("backlogged", True),
    )


def saturate(keeper, node_pair, backbone_seconds, transformer_seconds, interval, **options):
    """Four seconds of answers at an interval; returns the estimates, read four times a second."""
    began = now = options.pop("since", 0.0)
    snapshot_at = began
    while now < began + 4:
        now += interval
        answer(keeper, node_pair, backbone_seconds, transformer_seconds, now, **options)
        if now >= snapshot_at:
            keeper.snapshot(now)
            snapshot_at += 0.25
    return keeper.snapshot(now)


def test_stage_times_are_medians_with_their_age():
    keeper = EstimateKeeper(EDGE)
    for number in range(20):
        answer(keeper, SPLIT, 0.9 if number % 7 == 0 else 0.021, 0.012, number * 0.03)
    estimates = keeper.snapshot(1.57)
    backbone = estimates.stages[EDGE, BACKBONE]
    assert backbone.execute_seconds == pytest.approx(0.021)
    assert backbone.compute_seconds == pytest.approx(0.022)
    assert backbone.frames == 20
    assert backbone.age_seconds == pytest.approx(1.0)
    assert estimates.stages[WORKSTATION, TRANSFORMER].compute_seconds == pytest.approx(0.014)
    assert (estimates.frame_bytes, estimates.feature_bytes) == (50_000, 218_000)


def test_what_a_frame_of_video_brought_along_tells_of_the_link_and_not_of_the_frames_to_come():
    keeper = EstimateKeeper(EDGE)
    pair = Placement.WORKSTATION.node_pair
    for number in range(30):
        # The first one came with its whole group, at the link's own rate.
        sent_bytes = 1_000_000 if number == 0 else 20_000
        frame = StageTiming(
            WORKSTATION,
            execute_seconds=0.01,
            transfer_seconds=transfer_seconds(sent_bytes, 20),
            request_bytes=sent_bytes,
        )
        features = StageTiming(WORKSTATION, execute_seconds=0.01, request_bytes=218_000)
        keeper.observe(
            *(pair, frame, features), now=number * 0.03, backlogged=False, frame_bytes=20_000
        )
    keeper.observe_round_trip(WORKSTATION, ROUND_TRIP_SECONDS, 0.9)
    estimates = keeper.snapshot(0.9)
    assert estimates.frame_bytes == 20_000
    rate = estimates.links[EDGE, WORKSTATION].bytes_per_second
    assert rate * 8e-6 == pytest.approx(20, rel=0.05)


def test_nothing_observed():
    estimates = EstimateKeeper(EDGE).snapshot(5.0)
    assert not estimates.stages
    assert not estimates.links
    assert estimates.frame_bytes is None


def test_a_stage_is_judged_by_when_it_had_the_device_for_itself():
    keeper = EstimateKeeper(EDGE)
    for number in range(20):
        answer(keeper, SPLIT, 0.021, 0.012, number * 0.03)
    estimates = saturate(keeper, FULL, 0.033, 0.033, 0.033, since=10.0)
    assert estimates.stages[EDGE, BACKBONE].execute_seconds == pytest.approx(0.021)


def test_a_shared_device_does_not_count_twice():
    estimates = saturate(EstimateKeeper(EDGE), FULL, 0.033, 0.033, 0.033)
    assert predict(FULL, estimates, EDGE).frames_per_second == pytest.approx(1 / 0.033, rel=0.05)
    stages = [estimates.stages[EDGE, stage].execute_seconds for stage in Stage]
    assert sum(stages) == pytest.approx(0.033, rel=0.05)


@pytest.mark.parametrize(("interval", "share"), [(0.033, 1.0), (0.021, 33 / 21), (0.041, 33 / 41)])
def test_what_a_pair_reached_as_a_share_of_the_model(interval, share):
    keeper = EstimateKeeper(EDGE)
    # A pause before each, so that both are seen alone on the device.
    for number in range(5):
        answer(keeper, FULL, 0.021, 0.012, number - 10.0, backlogged=False)
    estimates = saturate(keeper, FULL, 0.021, 0.012, interval)
    node_pair = estimates.pairs[FULL]
    assert node_pair.frames_per_second == pytest.approx(1 / interval, rel=0.01)
    assert node_pair.compute_share == pytest.approx(share, rel=0.01)


def test_a_rate_that_engines_did_not_limit_lowers_no_prediction():
    keeper = EstimateKeeper(EDGE)
    estimates = saturate(keeper, SPLIT, 0.021, 0.012, 0.2, queue_seconds=0.0)
    assert estimates.pairs[SPLIT].compute_share is None
    assert predict(SPLIT, estimates, EDGE).frames_per_second == pytest.approx(1 / 0.021)


def test_a_client_that_sends_little_gives_no_rate():
    estimates = saturate(EstimateKeeper(EDGE), SPLIT, 0.021, 0.012, 0.2, backlogged=False)
    assert estimates.pairs == {}


def test_frames_sent_to_measure_do_not_begin_a_rate():
    keeper = EstimateKeeper(EDGE)
    for number in range(10):
        answer(keeper, SPLIT, 0.021, 0.012, number * 0.5, backlogged=False)
    estimates = saturate(keeper, SPLIT, 0.021, 0.012, 0.021, since=5.0)
    assert estimates.pairs[SPLIT].compute_share == pytest.approx(1.0, rel=0.01)


def test_round_trips_are_the_least_lately():
    keeper = EstimateKeeper(EDGE)
    answer(keeper, SPLIT, 0.021, 0.012, 19.9)
    for at, seconds in ((0.0, 0.001), (15.0, 0.050), (16.0, 0.004), (17.0, 0.009)):
        keeper.observe_round_trip(WORKSTATION, seconds, at)
    link = keeper.snapshot(20.0).links[EDGE, WORKSTATION]
    assert link.latency_seconds == 0.004
    assert link.age_seconds == pytest.approx(0.1)


def test_power_and_replicas_are_told():
    keeper = EstimateKeeper(EDGE, {("left", BACKBONE): 3})
    answer(keeper, NodePair("left", "right"), 0.021, 0.012, 0.0)
    keeper.observe_power("left", 7.5)
    estimates = keeper.snapshot(0.0)
    assert estimates.watts == {"left": 7.5}
    assert estimates.stages["left", BACKBONE].interval_seconds == pytest.approx(0.007)
    assert estimates.stages["right", TRANSFORMER].replicas == 1
