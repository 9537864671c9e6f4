"""What training a bottleneck minimises, what it changes, and that a run can be resumed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from common.bundle import Normalization
from common.domain.errors import ConfigurationError
from detr.bottleneck.losses import LOSS_NAMES, Noise, draw_noise, losses
from detr.bottleneck.recipe import Pairs, Weights
from detr.bottleneck.signals import Signals, frame_pair, open_cache, shuffled, signals_of
from detr.bottleneck.training import train_bottleneck
from detr.model.bottleneck import Bottleneck, BottleneckSizes, LatentPrior, TemporalPrior
from detr.training.checkpoints import load_checkpoint
from detr.training.loop import Surroundings
from detr.training.metrics import read_metrics
from tests.unit.training.conftest import random_batch

SIZES = BottleneckSizes(features=16, channels=4, encoder_width=8, decoder_width=8)


def surroundings(folder, *, resume=False):
    return Surroundings(
        folder, None, resume, 0, report=lambda row, steps: None, say=lambda text: None
    )


def weights_of(checkpoint, kind="trained"):
    return load_checkpoint(checkpoint)[kind]


def noise_of(step, reach, seed=0):
    size = (4, 1, 1, 1)
    generator = torch.Generator().manual_seed(seed)
    return Noise(torch.full(size, step), torch.full(size, reach), generator)


@pytest.fixture
def prepared(teacher):
    """A bottleneck for the model's features, and what the model says of a batch."""
    torch.manual_seed(0)
    signals = signals_of(teacher.model.detr, random_batch(0))
    bottleneck = Bottleneck(SIZES)
    bottleneck.fit(signals.valid_features())
    return bottleneck, teacher.model.detr, signals


def values_of(prepared, noise, **weights):
    bottleneck, model, signals = prepared
    values = losses(bottleneck, model, signals, Weights(rate=1.0, **weights), noise)
    return dict(zip(LOSS_NAMES, values.tolist()))


def test_the_prior_counts_the_bits_of_its_own_distribution():
    # Catches a prior that is no distribution: its probabilities have to add up to one.
    prior = LatentPrior(2)
    levels = torch.arange(-300.0, 301.0)[:, None, None, None].expand(-1, 2, 1, 1)
    for step in (1.0, 0.5):
        bits = prior(levels * step, torch.tensor(step)).detach()
        assert (2**-bits).sum(dim=0) == pytest.approx(1.0, abs=1e-4)


def test_the_temporal_prior_is_a_distribution_whatever_was_before():
    prior = TemporalPrior(2)
    levels = torch.arange(-300.0, 301.0)[:, None, None, None].expand(-1, 2, 1, 1)
    for before in (0.0, 7.0):
        bits = prior(levels, torch.full_like(levels, before), torch.tensor(1.0)).detach()
        assert (2**-bits).sum(dim=0) == pytest.approx(1.0, abs=1e-4)


def test_a_bottleneck_begins_as_principal_components():
    # Catches a start that loses what it could keep: with all channels nothing may be lost, with
    # fewer only what varies least.
    torch.manual_seed(0)
    mixed = torch.randn(4000, 16) * torch.linspace(2, 0.1, 16) @ torch.randn(16, 16) + 5
    grid = mixed[:12].T.reshape(1, 16, 3, 4)
    lost = []
    for channels in (16, 8, 2):
        bottleneck = Bottleneck(replace(SIZES, channels=channels))
        bottleneck.fit(mixed)
        latents = bottleneck.encoder(grid)
        variances = bottleneck.encoder(mixed.T.reshape(1, 16, 40, 100)).var(dim=(0, 2, 3))
        assert (variances.diff() <= 1e-4).all()
        lost.append((bottleneck.decoder(latents) - grid).square().mean().item())
    assert lost[0] == pytest.approx(0.0, abs=1e-8)
    assert lost[0] < lost[1] < lost[2]


def pairs_of(**changes):
    still = {"largest_shift_pixels": 0, "still_share": 0, "largest_noise_levels": 0}
    return Pairs.model_validate({**still, "noisy_share": 1, **changes})


def pair_of(pairs):
    batch = replace(random_batch(0), padding=torch.zeros(random_batch(0).padding.shape, dtype=bool))
    return batch, frame_pair(batch, pairs, Normalization(), torch.Generator().manual_seed(0))


def test_the_frame_before_is_the_same_picture_moved():
    batch, pair = pair_of(pairs_of())
    assert torch.allclose(pair.before, batch.images, atol=1e-5)
    batch, pair = pair_of(pairs_of(largest_shift_pixels=4, still_share=1))
    assert torch.allclose(pair.before, batch.images, atol=1e-5)
    batch, pair = pair_of(pairs_of(largest_shift_pixels=4))
    assert torch.equal(pair.batch.images, batch.images)
    ramp = replace(
        batch, images=torch.arange(batch.images.shape[3]).expand_as(batch.images).float()
    )
    moved = frame_pair(
        ramp, pairs_of(largest_shift_pixels=4), Normalization(), torch.Generator().manual_seed(0)
    )
    shifts = (moved.before - ramp.images)[:, 0, 8:-8, 8:-8]
    assert torch.allclose(shifts, shifts[:, :1, :1].expand_as(shifts), atol=1e-3)
    assert 1 < shifts.abs().max() <= 4.001


def test_a_sensors_noise_differs_from_frame_to_frame():
    batch, pair = pair_of(pairs_of(largest_noise_levels=8))
    noises = [pair.batch.images - batch.images, pair.before - batch.images]
    levels = [255 * noise.std(dim=(2, 3)) * torch.tensor(Normalization().std) for noise in noises]
    for each in levels:
        assert each.max() < 8.5 and each.std(dim=0).min() > 0.1
    assert torch.allclose(levels[0], levels[1], rtol=0.2)
    assert torch.corrcoef(torch.stack([noise.flatten() for noise in noises]))[0, 1] < 0.1


def test_a_frame_that_stays_as_it_was_takes_fewer_bits(prepared):
    bottleneck, model, signals = prepared
    other = replace(signals, before=signals.features.flip(0))
    still, moved = (
        values_of((bottleneck, model, each), noise_of(1.0, 0.0), temporal_rate=1.0)
        for each in (signals, other)
    )
    assert still["temporal_bits"] < 0.8 * moved["temporal_bits"]
    assert still["bits"] == moved["bits"]
    assert values_of(prepared, noise_of(1.0, 0.0))["temporal_bits"] == 0


def test_pairs_and_their_weight_need_each_other(recipe_of):
    with pytest.raises(ValueError, match="need each other"):
        recipe_of(weights={"rate": 0.05, "temporal_rate": 0.05})
    with pytest.raises(ValueError, match="need each other"):
        recipe_of(pairs=pairs_of().model_dump())


def test_a_coarser_step_takes_fewer_bits_and_more_noise_moves_the_features_further(prepared):
    fine, coarse = values_of(prepared, noise_of(0.5, 0.25)), values_of(prepared, noise_of(2.0, 1.0))
    assert coarse["bits"] < fine["bits"] - 4
    assert coarse["features"] > fine["features"]


def test_without_bottleneck_and_noise_nothing_would_be_lost(prepared):
    # Catches losses that compare with something else than what the model says by itself.
    bottleneck, model, signals = prepared
    bottleneck.encoder.forward = lambda features: features
    bottleneck.decoder.forward = lambda latents: latents
    bottleneck.prior = LatentPrior(16)
    values = values_of((bottleneck, model, signals), noise_of(1.0, 0.0))
    for name in ("features", "memory"):
        assert values[name] == pytest.approx(0.0, abs=1e-9)
    assert values["outputs"] == pytest.approx(0.0, abs=1e-4)


def test_padding_counts_for_nothing(prepared):
    bottleneck, model, signals = prepared
    padding = signals.padding.clone()
    padding[:, :, -1] = True
    changed = signals.features.clone()
    changed[:, :, :, -1] += 100
    values = [
        values_of(
            (
                bottleneck,
                model,
                replace(signals, features=features, padding=padding),
            ),
            noise_of(1.0, 0.0),
            outputs=0,
            memory=0,
        )
        for features in (signals.features, changed)
    ]
    # A bottleneck that has only begun looks at one cell at a time.
    assert values[0] == values[1]
    only_padding = torch.zeros_like(padding)
    only_padding[:, :, :] = True
    nothing = replace(signals, features=changed, padding=only_padding)
    assert values_of((bottleneck, model, nothing), noise_of(1.0, 0.0))["bits"] == 0


def test_steps_are_drawn_over_the_whole_range_and_some_latents_are_kept():
    noise = draw_noise(4000, (0.5, 4.0), torch.Generator().manual_seed(1))
    steps = noise.step.flatten()
    assert 0.5 <= steps.min() < 0.52 and 3.9 < steps.max() <= 4.0
    # As many below the geometric mean as above.
    assert (steps < 2**0.5).float().mean() == pytest.approx(0.5, abs=0.03)
    reach = (noise.reach / noise.step).flatten()
    assert reach.min() == 0.5 and reach.max() > 1.05
    assert (reach > 0.5).float().mean() == pytest.approx(0.5, abs=0.03)


def test_a_run_changes_the_bottleneck_only_and_ends_with_its_figures(recipe_of, teacher, tmp_path):
    before = {name: value.clone() for name, value in teacher.model.detr.state_dict().items()}
    checkpoint = train_bottleneck(recipe_of(), teacher, surroundings(tmp_path / "run"))
    assert all(name.startswith("bottleneck.") for name in weights_of(checkpoint))
    after = teacher.model.detr.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    last = read_metrics(checkpoint.parent / "metrics.csv")[-1]
    assert last.step == 4 and last.ap is not None and set(last.losses) == set(LOSS_NAMES)
    assert (checkpoint.parent / "curve.png").is_file()


def test_more_latents_than_features_are_refused(recipe_of, teacher, tmp_path):
    recipe = recipe_of(sizes={"channels": 17, "encoder_width": 8, "decoder_width": 8})
    with pytest.raises(ConfigurationError, match="17 channels of latents, .* have 16"):
        train_bottleneck(recipe, teacher, surroundings(tmp_path / "run"))


def test_a_run_with_pairs_trains_on_them(recipe_of, teacher, tmp_path):
    pairs = pairs_of(largest_shift_pixels=2, largest_noise_levels=4)
    recipe = recipe_of(pairs=pairs.model_dump(), weights={"rate": 0.05, "temporal_rate": 0.05})
    checkpoint = train_bottleneck(recipe, teacher, surroundings(tmp_path / "run"))
    trained = weights_of(checkpoint)
    assert not torch.equal(
        trained["bottleneck.temporal_prior.log_scale_staying"], torch.full((4,), -2.0)
    )
    assert read_metrics(checkpoint.parent / "metrics.csv")[-1].losses["temporal_bits"] > 0


def test_training_lowers_the_loss(recipe_of, teacher, tmp_path):
    steps, every = 60, {"every_steps": 60, "images": 2}
    recipe = recipe_of(steps=steps, evaluation=every, optimiser={"learning_rate": 1e-2})
    checkpoint = train_bottleneck(recipe, teacher, surroundings(tmp_path / "run"))
    rows = read_metrics(checkpoint.parent / "metrics.csv")
    assert rows[-1].losses["loss"] < 0.9 * rows[0].losses["loss"]


def test_a_resumed_run_computes_what_the_whole_one_does(recipe_of, teacher, tmp_path):
    whole = train_bottleneck(recipe_of(), teacher, surroundings(tmp_path / "whole"))

    class StoppedError(Exception):
        """As if the machine had been switched off."""

    def stop(row, steps):
        raise StoppedError

    # The evaluation after step 2 is reported before that step's checkpoint is written.
    cut = recipe_of(evaluation={"every_steps": 3, "images": 2}, checkpoint_every_steps=2)
    halted = Surroundings(tmp_path / "part", None, False, 0, report=stop, say=lambda text: None)
    with pytest.raises(StoppedError):
        train_bottleneck(cut, teacher, halted)
    assert load_checkpoint(tmp_path / "part" / "checkpoint.pt")["step"] == 2
    part = train_bottleneck(cut, teacher, surroundings(tmp_path / "part", resume=True))
    for kind in ("trained", "average"):
        ours, theirs = weights_of(whole, kind), weights_of(part, kind)
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_run_is_resumed_only_if_it_is_the_same(recipe_of, teacher, tmp_path):
    train_bottleneck(recipe_of(), teacher, surroundings(tmp_path))
    with pytest.raises(ConfigurationError, match="--resume"):
        train_bottleneck(recipe_of(), teacher, surroundings(tmp_path))
    with pytest.raises(ConfigurationError, match="another recipe"):
        train_bottleneck(recipe_of(seed=4), teacher, surroundings(tmp_path, resume=True))


def test_the_transformer_is_tuned_in_the_last_steps_only(recipe_of, teacher, tmp_path):
    recipe = recipe_of(tuned_share=0.5)
    checkpoint = train_bottleneck(recipe, teacher, surroundings(tmp_path))
    trained, original = weights_of(checkpoint), teacher.model.detr.state_dict()
    moved = {
        name.removeprefix("model.").split(".")[0]
        for name, value in trained.items()
        if name.startswith("model.") and not torch.equal(value, original[name[len("model.") :]])
    }
    assert moved == {"transformer", "query_embed", "class_embed", "bbox_embed"}
    assert [recipe.tunes_at(step) for step in range(4)] == [False, False, True, True]


def test_cached_signals_are_what_the_model_says(teacher, tmp_path):
    batches = [random_batch(seed) for seed in range(3)]
    said = [signals_of(teacher.model.detr, batch) for batch in batches]
    computed = []

    def compute():
        computed.append(True)
        return iter(said)

    for _ in range(2):
        cache = open_cache(tmp_path, {"model": 1}, 10, compute)
    assert len(cache) == 10 and computed == [True]
    third = cache.batch(np.array([8, 9]))
    assert torch.allclose(third.features, said[2].features[:2], atol=1e-2)
    assert torch.equal(third.logits, said[2].logits[:2])
    open_cache(tmp_path, {"model": 2}, 10, compute)
    assert computed == [True, True]
    # Every sample once a pass, in batches that depend on seed and step alone.
    first = [next(shuffled(cache, 5, 0, step)).logits for step in range(2)]
    both = torch.cat(first).flatten(1).sum(dim=1).sort().values
    everything = cache.batch(np.arange(10)).logits.flatten(1).sum(dim=1).sort().values
    assert torch.allclose(both, everything)


def test_pictures_of_several_sizes_are_not_cached(teacher, tmp_path):
    said = [signals_of(teacher.model.detr, random_batch(seed)) for seed in range(2)]
    narrow = Signals(**{**vars(said[1]), "features": said[1].features[..., :-1]})
    with pytest.raises(ConfigurationError, match="cached_samples"):
        open_cache(tmp_path, {}, 8, lambda: iter([said[0], narrow]))
