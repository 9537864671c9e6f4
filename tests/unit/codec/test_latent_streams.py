"""What a stream's two ends hold of its latents: a frame is decoded given its reference, or not."""

import random
from dataclasses import replace

import numpy as np
import pytest

from common.bundle import load_bundle
from common.codec import KeyReason, LatentCoders, LatentDecoder, LatentEncoder
from common.codec.latent_streams import FRAMES_HELD
from common.domain.codec import Codec, EncodedFeatures, EncodedTensor
from common.domain.errors import InvalidInputError, PreconditionError, ReferenceMissingError
from common.domain.frames import FrameGeometry
from tests.harness import TOY_BUNDLE

CODERS = LatentCoders.of_bundle(load_bundle(TOY_BUNDLE))
CODEC = Codec.LATENT_FINE
STEP = 4
SIZES = FrameGeometry(120, 160, 64, 96, 64, 96)
SHAPE = (1, 8, 2, 3)
SPARE = 1 << 62


def latents(seed, shape=SHAPE):
    return np.random.default_rng(seed).integers(-400, 400, shape).astype(np.float32)


def rounded(values):
    """To the nearest multiple of the step, halves upwards: what the receiver has to see."""
    return np.floor(values / STEP + 0.5) * STEP


def check_shape(shape, geometry):
    expected = (1, 8, geometry.input_height // 32, geometry.input_width // 32)
    if shape != expected:
        raise InvalidInputError(f"shape {shape} for {expected}")


class Ends:
    """Both ends of one stream."""

    def __init__(self, codec=CODEC):
        self.reasons = []
        self.encoder = LatentEncoder(codec, CODERS.of(codec), self.reasons.append)
        self.decoder = LatentDecoder(CODERS, check_shape)

    def encode(self, frame_id, sizes=SIZES, shape=SHAPE):
        return self.encoder.encode(frame_id, latents(frame_id, shape), sizes)

    def arrives(self, features, seed, sizes=SIZES):
        """Decode it, and check that it shows this frame."""
        decoded, geometry = self.decoder.decode(features)
        np.testing.assert_array_equal(decoded, rounded(latents(seed)))
        assert geometry == sizes


@pytest.fixture
def ends():
    return Ends()


def facts(features):
    return features.frame_id, features.reference_id, features.tensors[0].shape, features.geometry


def test_a_frame_is_coded_given_the_one_before_and_leaves_out_what_is_that_one_s(ends):
    sent = [ends.encode(number) for number in (5, 6, 9)]
    assert [facts(each) for each in sent] == [
        (5, None, SHAPE, SIZES),
        (6, 5, (), None),
        (9, 6, (), None),
    ]
    assert ends.reasons == [KeyReason.FIRST]
    for number, each in zip((5, 6, 9), sent):
        ends.arrives(each, number)


def test_a_frame_like_the_one_before_costs_next_to_nothing(ends):
    first = ends.encode(1)
    again = ends.encoder.encode(2, latents(1), SIZES)
    assert len(again.tensors[0].data) < len(first.tensors[0].data) / 4
    ends.arrives(first, 1)
    ends.arrives(again, 1)


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        # The same latents of another picture size, whose boxes are others.
        (FrameGeometry(240, 320, 64, 96, 64, 96), SHAPE),
        (FrameGeometry(120, 160, 96, 96, 96, 96), (1, 8, 3, 3)),
    ],
)
def test_a_frame_of_other_sizes_is_coded_alone(ends, sizes, shape):
    ends.arrives(ends.encode(1), 1)
    other = ends.encode(2, sizes, shape)
    assert facts(other) == (2, None, shape, sizes)
    assert ends.reasons == [KeyReason.FIRST, KeyReason.SIZE]
    decoded, geometry = ends.decoder.decode(other)
    np.testing.assert_array_equal(decoded, rounded(latents(2, shape)))
    assert geometry == sizes


def test_what_refers_to_a_lost_frame_is_refused_and_coded_again(ends):
    ends.arrives(ends.encode(0), 0)
    ends.encode(1)
    for number in (2, 3):
        with pytest.raises(ReferenceMissingError, match=f"frame {number} .* frame {number - 1}"):
            ends.decoder.decode(ends.encode(number))
    again = ends.encoder.encode_again(latents(2), SIZES)
    assert facts(again) == (SPARE, None, SHAPE, SIZES)
    following = ends.encode(4)
    assert following.reference_id == SPARE
    ends.arrives(again, 2)
    ends.arrives(following, 4)
    assert ends.reasons == [KeyReason.FIRST, KeyReason.MISSING]


def test_a_payload_that_lies_is_refused_and_what_is_held_stays_sound(ends):
    ends.arrives(ends.encode(0), 0)
    good = ends.encode(1)
    bad = EncodedTensor((), CODEC, good.tensors[0].data[:-1])
    with pytest.raises(InvalidInputError):
        ends.decoder.decode(EncodedFeatures(1, (bad,), None, 0))
    with pytest.raises(ReferenceMissingError):
        ends.decoder.decode(ends.encode(2))
    # It is the refused frame that is missing; the one before it is not.
    ends.arrives(good, 1)


def test_no_name_ever_means_two_pictures(ends):
    """A client may number its frames as it likes."""
    names = [ends.encode(number).frame_id for number in (0, 0, 5, 3, 2**64 - 1, SPARE, 6)]
    assert names == [0, SPARE, 5, SPARE + 1, SPARE + 2, SPARE + 3, 6]


def test_a_name_that_comes_again_no_longer_means_the_frame_before(ends):
    """Even if what comes by it cannot be decoded: a stale picture would be a wrong one."""
    ends.arrives(ends.encode(7), 7)
    referring = ends.encode(8)
    with pytest.raises(InvalidInputError):
        ends.decoder.decode(EncodedFeatures(7, (EncodedTensor(SHAPE, CODEC, b""),), SIZES))
    with pytest.raises(ReferenceMissingError):
        ends.decoder.decode(referring)


def test_the_receiver_holds_a_few_frames(ends):
    first = ends.encode(0)
    ends.arrives(first, 0)
    referring = ends.encode(1)
    for number in range(2, 1 + FRAMES_HELD):
        alone = Ends().encode(number)
        ends.arrives(alone, number)
    ends.decoder.decode(referring)
    with pytest.raises(ReferenceMissingError):
        ends.decoder.decode(referring)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (EncodedFeatures(1, (EncodedTensor(SHAPE, CODEC, b"x"),), None), "has to tell its sizes"),
        (EncodedFeatures(1, (EncodedTensor((), CODEC, b"x"),), SIZES), r"shape \(\)"),
        (EncodedFeatures(1, (EncodedTensor((1, 8, 9, 9), CODEC, b"x"),), SIZES), "9, 9"),
        (EncodedFeatures(1, (EncodedTensor((1, 8, 9, 9), CODEC, b"x"),), None, 0), "9, 9"),
        (
            EncodedFeatures(1, (EncodedTensor((), Codec.LATENT, b"x"),), None, 0),
            "codec latent cannot refer to one of codec latent-fine",
        ),
        (
            EncodedFeatures(1, (EncodedTensor(SHAPE, CODEC, b"x"),) * 2, SIZES),
            "latents are one tensor, and this frame has 2",
        ),
    ],
)
def test_what_cannot_be_is_refused(ends, features, words):
    ends.arrives(ends.encode(0), 0)
    with pytest.raises(InvalidInputError, match=words):
        ends.decoder.decode(features)


def test_a_frame_may_not_refer_to_itself(ends):
    ends.arrives(ends.encode(0), 0)
    data = ends.encode(1).tensors
    with pytest.raises(ReferenceMissingError):
        ends.decoder.decode(EncodedFeatures(0, data, None, 0))


def test_latents_that_are_no_numbers_leave_the_encoder_as_it_was(ends):
    ends.arrives(ends.encode(0), 0)
    with pytest.raises(InvalidInputError):
        ends.encoder.encode(1, np.full(SHAPE, np.nan, np.float32), SIZES)
    ends.arrives(ends.encode(2), 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bottleneck": None}, "codec latent needs a bundle with a bottleneck, and this one has"),
        ({"files": {}}, "codec latent needs a bundle that is calibrated for its bottleneck"),
    ],
)
def test_a_bundle_that_cannot_serve_them_says_why(change, words):
    bundle = load_bundle(TOY_BUNDLE)
    coders = LatentCoders.of_bundle(
        replace(bundle, manifest=bundle.manifest.model_copy(update=change))
    )
    with pytest.raises(PreconditionError, match=words):
        coders.of(Codec.LATENT)
    with pytest.raises(PreconditionError):
        LatentDecoder(coders, check_shape).decode(Ends().encode(0))


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_lost_no_frame_shows_another_picture(seed):
    """Frames are lost, damaged and refused at random; answers are late by a few frames."""
    draw, ends, refused = random.Random(seed), Ends(), 0
    late = []
    for number in range(200):
        late.append((number, ends.encode(number)))
        if len(late) < 4:
            continue
        arriving, features = late.pop(0)
        fate = draw.random()
        if fate < 0.1:
            continue
        if fate < 0.2:
            tensor = EncodedTensor(features.tensors[0].shape, CODEC, features.tensors[0].data[:-1])
            damaged = EncodedFeatures(
                features.frame_id, (tensor,), features.geometry, features.reference_id
            )
            with pytest.raises((InvalidInputError, ReferenceMissingError)):
                ends.decoder.decode(damaged)
            continue
        try:
            ends.arrives(features, arriving)
        except ReferenceMissingError:
            refused += 1
            # Nothing is missing where a frame was coded alone, so none is sent a third time.
            assert features.reference_id is not None
            late.append((arriving, ends.encoder.encode_again(latents(arriving), SIZES)))
    assert 0 < refused < 150
