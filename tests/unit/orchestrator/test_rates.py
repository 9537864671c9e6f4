"""Which latent rate is taken: tables of literal states, and a stream on a simulated link."""

from dataclasses import replace

import pytest

from common.domain.codec import Codec, RateFigures
from common.domain.detections import StageTiming, StreamOptions
from common.domain.placement import NodePair, Stage
from common.wire.detections import stage_timing_to_wire
from protos.tandem.v1 import detection_pb2
from services.orchestrator.decision.decider import Decider
from services.orchestrator.decision.explanation import explain
from services.orchestrator.decision.mirroring import pair_to_mirror
from services.orchestrator.decision.policy import Objective, Policy
from services.orchestrator.decision.rates import (
    RateChoice,
    RateDemand,
    RateOption,
    available_bytes_per_second,
    choose_rate,
    explain_rate,
    rate_options,
)
from services.orchestrator.estimation.estimates import (
    Estimates,
    LinkEstimate,
    PayloadEstimate,
    StageEstimate,
)
from services.orchestrator.estimation.keeper import EstimateKeeper
from services.orchestrator.session.rate_control import RateControl

INT8, FINE, LATENT, COARSE = Codec.INT8, Codec.LATENT_FINE, Codec.LATENT, Codec.LATENT_COARSE
SPLIT = NodePair("edge", "workstation")
# With 130 bytes of overhead, 24 frames a second take 10,320, 5,520 and 4,320 bytes a second.
OPTIONS = [
    RateOption(FINE, 300, 0.705),
    RateOption(LATENT, 100, 0.70),
    RateOption(COARSE, 50, 0.66),
]
FIGURES = (
    RateFigures(FINE, 300, 900, 0.705),
    RateFigures(LATENT, 100, 500, 0.70),
    RateFigures(COARSE, 50, 300, 0.66),
)


def demand(link=None, fps=24.0, limit=None, carried=None):
    return RateDemand(fps, link, limit, carried)


def chosen(codec, **values):
    return RateChoice(codec, 0.0, "", **values)


@pytest.mark.parametrize(
    ("given", "codec"),
    [
        # Not measured: the one that does least harm.
        (demand(None), COARSE),
        (demand(None, limit=1e6), COARSE),
        (demand(1e6), FINE),
        (demand(11_000), FINE),
        (demand(10_500), LATENT),
        (demand(6_000), LATENT),
        (demand(5_000), COARSE),
        # Not even the coarsest fits.
        (demand(1_000), COARSE),
        # A camera of 5 frames a second leaves room for the finest.
        (demand(5_000, fps=5), FINE),
        # What the client allows is less than what the link carries, or more.
        (demand(1e6, limit=6_000), LATENT),
        (demand(6_000, limit=1e6), LATENT),
        (demand(1e6, limit=100), COARSE),
        # Frames wait: what gets through is all that there is.
        (demand(1e6, carried=5_600), LATENT),
    ],
)
def test_the_first_choice_is_the_finest_that_fits(given, codec):
    assert choose_rate(None, OPTIONS, given, 0.0).codec is codec


@pytest.mark.parametrize(
    ("before", "given", "codec"),
    [
        (FINE, demand(1e6), FINE),
        (FINE, demand(6_000), LATENT),
        (FINE, demand(1_000), COARSE),
        (FINE, demand(1e6, limit=6_000), LATENT),
        # The estimate is too high: frames wait all the same.
        (FINE, demand(1e6, carried=8_000), LATENT),
        (FINE, demand(1e6, carried=2_000), COARSE),
        # It fits what gets through, and still frames wait.
        (LATENT, demand(1e6, carried=9_000), COARSE),
        (COARSE, demand(1e6, carried=1_000), COARSE),
        # Finer ones fit, and have to do so for a while.
        (COARSE, demand(1e6), COARSE),
        # Just fits, which is enough to stay and not to come.
        (LATENT, demand(5_900), LATENT),
    ],
)
def test_what_becomes_too_much_is_left_at_once(before, given, codec):
    assert choose_rate(chosen(before), OPTIONS, given, 0.0).codec is codec


def steps(choice, given, *times):
    for now in times:
        choice = choose_rate(choice, OPTIONS, given, now)
    return choice


def test_finer_takes_clear_room_for_a_while():
    first = chosen(COARSE)
    assert steps(first, demand(1e6), 1.0, 2.0, 2.9).codec is COARSE
    assert steps(first, demand(1e6), 1.0, 2.0, 3.0).codec is FINE
    # It fits, but not clearly.
    assert steps(first, demand(6_000), 1.0, 2.0, 3.0, 60.0).codec is COARSE
    assert steps(first, demand(7_000), 1.0, 3.0).codec is LATENT


def test_a_moment_without_room_starts_the_wait_anew():
    choice = steps(chosen(COARSE), demand(1e6), 1.0, 2.0)
    choice = steps(choice, demand(5_000), 2.5)
    assert steps(choice, demand(1e6), 3.0, 4.5).codec is COARSE
    assert steps(choice, demand(1e6), 3.0, 5.0).codec is FINE


def test_a_rate_that_proved_too_much_is_tried_less_and_less_often():
    full = demand(1e6, carried=6_000)
    choice, now, waits = chosen(FINE), 0.0, []
    for _ in range(7):
        choice = choose_rate(choice, OPTIONS, full, now)
        assert choice.codec is LATENT
        left_at = now
        while choice.codec is LATENT:
            now += 0.25
            choice = choose_rate(choice, OPTIONS, demand(1e6), now)
        waits.append(now - left_at)
        now += 0.25
    # Each time twice as long, up to a limit; and then there has to be room for two seconds.
    assert waits == pytest.approx([12, 22, 42, 82, 162, 162, 162], abs=0.5)


def test_after_a_long_time_on_a_rate_it_is_the_link_that_has_changed():
    choice = chosen(LATENT)
    for now in (0.0, 100.0):
        left = choose_rate(choice, OPTIONS, demand(1e6, carried=3_000), now)
        again = steps(left, demand(1e6), now + 10.5, now + 12.5)
        assert again.codec is FINE
        choice = replace(again, codec=LATENT)


def test_what_is_finer_than_a_barred_rate_is_barred_as_well():
    left = choose_rate(chosen(LATENT), OPTIONS, demand(1e6, carried=3_000), 0.0)
    assert steps(left, demand(1e6), 1.0, 9.0).codec is COARSE


def test_an_option_that_is_gone_is_chosen_anew():
    assert choose_rate(chosen(INT8), OPTIONS, demand(6_000), 5.0).codec is LATENT


def test_on_a_link_whose_rate_varies_the_choice_does_not_flap():
    # By 8 % about the least that LATENT needs to come.
    choice, codecs = chosen(COARSE), []
    for step in range(400):
        link = 6_850 * (1 + 0.08 * (-1) ** (step // 3))
        choice = choose_rate(choice, OPTIONS, demand(link), 0.25 * step)
        codecs.append(choice.codec)
    changes = sum(one is not other for one, other in zip(codecs, codecs[1:]))
    assert changes <= 1


@pytest.mark.parametrize(
    ("given", "codec", "words"),
    [
        (
            demand(5_000),
            COARSE,
            "latent-coarse: 50 bytes a frame at AP 0.660; latent would take "
            "5.52 kB/s of the 5 kB/s that the link carries",
        ),
        (demand(1e6), FINE, "the finest; it takes 10.3 kB/s of the 1e+03 kB/s"),
        (demand(100), COARSE, "the coarsest, although it takes 4.32 kB/s of the 0.1 kB/s"),
        (demand(None), COARSE, "the link is not measured yet"),
        (demand(1e6, limit=6_000), LATENT, "of the 6 kB/s that the client allows"),
        (demand(1e6, carried=6_000), LATENT, "of the 6 kB/s that get through"),
    ],
)
def test_the_reason_in_words(given, codec, words):
    option = next(each for each in OPTIONS if each.codec is codec)
    assert words in explain_rate(option, OPTIONS, given)


def known(**changes):
    return Estimates(latent_rates={"edge": FIGURES}, **changes)


def sizes(**values):
    names = {"int8": INT8, "fine": FINE, "latent": LATENT, "coarse": COARSE}
    return {names[name]: PayloadEstimate(*value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("codecs", "expected"),
    [
        # The bundle's figures before there are any.
        ({}, {FINE: 300, LATENT: 100, COARSE: 50}),
        # A scene that takes twice as much of one takes twice as much of each.
        (sizes(coarse=(100, 0.1)), {FINE: 600, LATENT: 200, COARSE: 100}),
        (sizes(coarse=(100, 0.1), latent=(150, 3)), {FINE: 600, LATENT: 150, COARSE: 100}),
        # That was another scene.
        (sizes(coarse=(100, 11.0)), {FINE: 300, LATENT: 100, COARSE: 50}),
        # What the default codec takes does not depend on the scene.
        (sizes(int8=(15_000, 60.0)), {INT8: 15_000, FINE: 300, LATENT: 100, COARSE: 50}),
    ],
)
def test_what_each_rate_takes_now(codecs, expected):
    options = rate_options(SPLIT, known(codecs=codecs, default_codecs={"edge": INT8}))
    assert {each.codec: each.payload_bytes for each in options} == expected
    assert [each.codec for each in options] == list(expected)


@pytest.mark.parametrize(
    ("precisions", "expected"),
    [
        ((0.7292, 0.7270, 0.7242), [FINE, LATENT, COARSE]),
        # A finer rate has to keep more for its bytes.
        ((0.7270, 0.7270, 0.7242), [LATENT, COARSE]),
        ((0.7292, 0.7242, 0.7250), [FINE, COARSE]),
        ((0.70, 0.71, 0.72), [COARSE]),
        ((0.72, 0.71, 0.72), [COARSE]),
        # As of a model that was not trained.
        ((0.0, 0.0, 0.0), [COARSE]),
        # Nothing can be said where one was not measured.
        ((None, None, None), [FINE, LATENT, COARSE]),
        ((None, 0.71, 0.72), [FINE, LATENT, COARSE]),
        ((0.70, None, 0.72), [FINE, LATENT, COARSE]),
    ],
)
def test_a_finer_rate_that_keeps_no_more_is_not_taken(precisions, expected):
    figures = [replace(each, average_precision=ap) for each, ap in zip(FIGURES, precisions)]
    options = rate_options(SPLIT, Estimates(latent_rates={"edge": tuple(figures)}))
    assert [each.codec for each in options] == expected
    chosen = choose_rate(None, options, demand(1e6), 0.0)
    assert chosen.codec is expected[0]


def test_what_a_rate_keeps_counts_and_not_its_name():
    figures = (replace(FIGURES[0], bytes_per_frame=40, average_precision=0.6), *FIGURES[1:])
    options = rate_options(SPLIT, Estimates(latent_rates={"edge": figures}))
    assert [each.codec for each in options] == [LATENT, COARSE, FINE]
    assert choose_rate(None, options, demand(1e6), 0.0).codec is LATENT


def test_a_stream_leaves_a_rate_that_a_new_bundle_makes_pointless():
    before = chosen(FINE)
    figures = tuple(replace(each, average_precision=0.7) for each in FIGURES)
    options = rate_options(SPLIT, Estimates(latent_rates={"edge": figures}))
    assert choose_rate(before, options, demand(1e6), 1.0).codec is COARSE


def test_without_a_bottleneck_there_is_nothing_to_choose():
    assert rate_options(SPLIT, Estimates()) == []
    assert rate_options(NodePair("workstation", "edge"), known()) == []


def test_other_streams_have_their_part_of_the_link():
    link = LinkEstimate(8_000, 0.03, 0.1, carried_bytes_per_second=5_000)
    assert available_bytes_per_second(link, 2_000) == 5_000
    assert available_bytes_per_second(link, 5_500) == 8_000
    assert available_bytes_per_second(None, 0) is None


def test_a_key_frame_says_little_of_the_frames_after_it():
    keeper = EstimateKeeper("edge")
    for number in range(20):
        stages = [
            StageTiming("edge", codec=COARSE),
            StageTiming("workstation", request_bytes=50 if number else 2_000),
        ]
        keeper.observe(SPLIT, *stages, now=0.04 * number, backlogged=False)
    assert keeper.snapshot(0.8).codecs[COARSE].payload_bytes == 50


MILLISECONDS = {
    ("edge", Stage.BACKBONE): 20,
    ("edge", Stage.TRANSFORMER): 20,
    ("workstation", Stage.BACKBONE): 20,
    ("workstation", Stage.TRANSFORMER): 20,
}
FULL = NodePair("edge", "edge")
PAIRS = [FULL, SPLIT]


def nodes_and_link(bytes_per_second):
    seconds = {key: each / 1e3 for key, each in MILLISECONDS.items()}
    return known(
        stages={key: StageEstimate(each, each + 0.001, 50, 0.1) for key, each in seconds.items()},
        links={("edge", "workstation"): LinkEstimate(bytes_per_second, 0.03, 0.1)},
        frame_bytes=30_000,
        feature_bytes=15_000,
        codecs=sizes(int8=(15_000, 0.1)),
        default_codecs={"edge": INT8},
    )


@pytest.mark.parametrize(
    ("bytes_per_second", "objective", "node_pair", "codec"),
    [
        # int8 would take 756 kB/s of 50 frames a second: alone the edge reaches 25.
        (16_000, Objective.THROUGHPUT, FULL, None),
        (16_000, Objective.ACCURACY, SPLIT, LATENT),
        (10_000, Objective.ACCURACY, SPLIT, COARSE),
        (25_000, Objective.ACCURACY, SPLIT, FINE),
        (1e6, Objective.ACCURACY, SPLIT, INT8),
        (1e6, Objective.THROUGHPUT, SPLIT, None),
        # Of the coarsest, 22 frames a second.
        (4_000, Objective.ACCURACY, FULL, None),
    ],
)
def test_which_nodes_serve_depends_on_what_the_rates_take(
    bytes_per_second, objective, node_pair, codec
):
    policy = Policy(objective=objective, located_at="edge")
    estimates = nodes_and_link(bytes_per_second)
    decision = Decider(policy).decide(0.0, PAIRS, estimates)
    assert decision.node_pair == node_pair
    rate = decision.predictions[node_pair].rate
    assert (rate.codec if rate else None) is codec


def test_of_nodes_that_serve_as_many_frames_the_more_accurate_ones_serve():
    estimates = nodes_and_link(16_000)
    slow = {key: StageEstimate(0.04, 0.041, 50, 0.1) for key in MILLISECONDS}
    quick = StageEstimate(0.02, 0.021, 50, 0.1)
    stages = {**slow, ("edge", Stage.TRANSFORMER): quick, ("edge", Stage.BACKBONE): quick}
    policy = Policy(objective=Objective.ACCURACY, located_at="edge")
    # 25 frames a second either way; on the edge alone nothing is lost.
    decision = Decider(policy).decide(0.0, PAIRS, replace(estimates, stages=stages))
    assert decision.node_pair == FULL


@pytest.mark.parametrize(
    ("precisions", "expected"),
    [
        # As near to each other as the demo's.
        ((0.7292, 0.7270, 0.7242), "back"),
        ((None, 0.7270, 0.7242), "there"),
        ((None, None, None), "there"),
    ],
)
def test_of_splits_that_serve_as_many_frames_the_one_with_the_finer_rate_serves(
    precisions, expected
):
    """There and back by links of different speed; the faster one has a longer round trip."""
    there, back = SPLIT, NodePair("workstation", "edge")
    figures = tuple(replace(each, average_precision=ap) for each, ap in zip(FIGURES, precisions))
    estimates = replace(
        nodes_and_link(10_000),
        frame_bytes=1,
        latent_rates={"edge": figures, "workstation": figures},
        default_codecs={},
        links={
            ("edge", "workstation"): LinkEstimate(10_000, 0.03, 0.1),
            ("workstation", "edge"): LinkEstimate(40_000, 0.2, 0.1),
        },
    )
    policy = Policy(objective=Objective.ACCURACY, located_at="edge")
    decision = Decider(policy).decide(0.0, [there, back], estimates)
    codecs = [decision.predictions[each].rate.codec for each in (there, back)]
    assert codecs == [COARSE, FINE]
    assert decision.node_pair == {"there": there, "back": back}[expected]


def test_the_explanation_tells_rate_bytes_precision_and_why():
    policy = Policy(objective=Objective.ACCURACY, located_at="edge")
    estimates = nodes_and_link(16_000)
    told = explain(Decider(policy).decide(0.0, PAIRS, estimates), estimates, policy)
    assert told[0].startswith(
        "backbone serves; wanted: the most frames a second, by the most accurate codec that"
    )
    line = next(each for each in told if each.startswith("backbone: "))
    assert "sends its features (0.1 kB) from edge to workstation" in line
    assert (
        "latent: 100 bytes a frame at AP 0.700; latent-fine would take 21.5 kB/s of the 16 kB/s "
        "that the link carries"
    ) in line


@pytest.mark.parametrize(
    ("bytes_per_second", "age_seconds", "is_mirrored"),
    [(1e6, 2.0, True), (8_000, 2.0, False), (8_000, 60.0, False), (8_000, 200.0, True)],
)
def test_mirrored_requests_do_not_hold_up_a_slow_link(bytes_per_second, age_seconds, is_mirrored):
    remote = NodePair("workstation", "workstation")
    estimates = nodes_and_link(bytes_per_second)
    # The picture would take 3.8 s of 64 kbit/s.
    links = {("edge", "workstation"): LinkEstimate(bytes_per_second, 0.03, age_seconds)}
    found = pair_to_mirror([FULL, remote], FULL, replace(estimates, links=links), "edge")
    assert (found == remote) is is_mirrored


class SlowLinkStream:
    """A live stream's rate control, and a link that serves one frame after the other.

    At most three frames are in flight; the newest that waits takes the place of the one before it.
    """

    def __init__(self, bytes_per_second, fps=24.0, **options):
        self.bytes_per_second = bytes_per_second
        self.fps = fps
        self.keeper = EstimateKeeper("edge")
        self.keeper.observe_codecs("edge", INT8, FIGURES)
        self.control = RateControl(
            StreamOptions(**options), Policy(objective=Objective.ACCURACY), is_live=True
        )
        self.now, self.free_at, self.in_flight = 0.0, 0.0, []
        self.codecs, self.dropped = [], 0

    def run(self, seconds):
        """Returns the codecs that frames took."""
        first = len(self.codecs)
        end, next_tick = self.now + seconds, self.now
        while self.now < end:
            self.now += 1 / self.fps
            self._answer_due()
            if self.now >= next_tick:
                self.control.decide(self.keeper.snapshot(self.now), self.now)
                next_tick += 0.25
            self._send()
        return self.codecs[first:]

    def _send(self):
        self.control.arrived(self.now)
        codec = self.control.codec_for(SPLIT, self.keeper.snapshot(self.now), self.now)
        if len(self.in_flight) >= 3:
            self.dropped += 1
            return
        self.codecs.append(codec)
        payload = {FINE: 300, LATENT: 100, COARSE: 50, None: 15_000}[codec]
        payload += 7 * len(self.codecs) % 40
        begins = max(self.now, self.free_at)
        self.free_at = begins + (payload + 130) / self.bytes_per_second
        self.in_flight.append((self.free_at + 0.005, self.now, payload, codec))

    def _answer_due(self):
        while self.in_flight and self.in_flight[0][0] <= self.now:
            backlogged = len(self.in_flight) >= 3
            at, sent, payload, codec = self.in_flight.pop(0)
            backbone = StageTiming("edge", execute_seconds=0.005, codec=codec)
            transformer = StageTiming(
                "workstation",
                execute_seconds=0.005,
                request_bytes=payload,
                transfer_seconds=at - sent,
            )
            self.keeper.observe(SPLIT, backbone, transformer, now=at, backlogged=backlogged)
            timing = detection_pb2.Timing(
                backbone=stage_timing_to_wire(backbone),
                transformer=stage_timing_to_wire(transformer),
            )
            self.control.answered(
                SPLIT, timing, backlogged=backlogged, round_trip_seconds=0.0, now=at
            )


def share(codecs, *wanted):
    return sum(each in wanted for each in codecs) / len(codecs)


def test_a_stream_begins_coarse_and_takes_what_the_link_carries():
    stream = SlowLinkStream(50_000)
    assert stream.run(0.5)[0] is COARSE
    stream.run(10)
    assert share(stream.run(10), FINE) == 1.0


def test_a_link_that_becomes_slow_and_fast_again_is_followed():
    stream = SlowLinkStream(50_000)
    stream.run(10)
    stream.bytes_per_second = 4_800
    slowing = stream.run(4)
    assert FINE in slowing
    # A finer one is tried now and then.
    assert share(stream.run(10), COARSE) >= 0.9
    dropped = stream.dropped
    stream.bytes_per_second = 50_000
    stream.run(20)
    assert share(stream.run(10), FINE) == 1.0
    assert stream.dropped == dropped


@pytest.mark.parametrize("bytes_per_second", [3_000, 5_000, 8_000, 12_000, 20_000])
def test_on_a_steady_link_nearly_every_frame_gets_through_and_nothing_flaps(bytes_per_second):
    stream = SlowLinkStream(bytes_per_second)
    stream.run(30)
    dropped = stream.dropped
    codecs = stream.run(60)
    changes = sum(one is not other for one, other in zip(codecs, codecs[1:]))
    assert changes <= 4
    if bytes_per_second >= 5_000:
        assert stream.dropped - dropped <= 0.03 * 60 * 24
    else:
        assert share(codecs, COARSE) == 1.0


def test_a_client_s_limit_holds_on_a_fast_link():
    stream = SlowLinkStream(1e6, max_link_bits_per_second=8 * 8_500)
    stream.run(10)
    codecs = stream.run(10)
    assert share(codecs, LATENT) == 1.0


def test_a_codec_that_is_asked_for_is_taken():
    control = RateControl(
        StreamOptions(codec=INT8), Policy(objective=Objective.ACCURACY), is_live=False
    )
    assert control.codec_for(SPLIT, known(), 0.0) is INT8


@pytest.mark.parametrize(
    ("policy", "pair", "estimates"),
    [
        (Policy(), SPLIT, known()),
        (Policy(objective=Objective.ACCURACY), NodePair("edge", "edge"), known()),
        (Policy(objective=Objective.ACCURACY), SPLIT, Estimates()),
    ],
)
def test_everything_is_as_before_where_no_rate_is_to_be_chosen(policy, pair, estimates):
    control = RateControl(StreamOptions(), policy, is_live=False)
    assert control.codec_for(pair, estimates, 0.0) is None
    assert control.why(pair) == ""
