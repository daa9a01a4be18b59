"""Promises of the small parts of training: data order, learning rate, parameter groups, averages, metrics, loss terms."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bigr_features import BiGR, BinaryAutoencoder
from bigr_features.checkpoints import official_generator_state
from bigr_features.evaluate import reconstruction as metrics
from bigr_features.train import losses, optimizer, schedule
from bigr_features.train.adversary import PatchDiscriminator, augment
from bigr_features.train.ema import EMA
from bigr_features.train.sampler import batch_positions, choices, hold_out

from ..helpers import GOLDEN, GoldenSet
from .small import GENERATOR, TOKENIZER

# ------------------------------------------------------------------------------------------------------------------- data order


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 5))
def test_every_epoch_visits_every_item_once(num_items, batch_size, seed):
    batches = [batch_positions(num_items, batch_size, step, seed) for step in range(2 * num_items)]
    assert all(len(batch) == batch_size for batch in batches)
    row = np.concatenate(batches)
    for epoch in range(len(row) // num_items):
        assert sorted(row[epoch * num_items : (epoch + 1) * num_items]) == list(range(num_items))


def test_order_depends_on_seed_and_epoch():
    first = batch_positions(100, 100, 0, seed=0)
    assert not np.array_equal(first, batch_positions(100, 100, 1, seed=0))
    assert not np.array_equal(first, batch_positions(100, 100, 0, seed=1))
    np.testing.assert_array_equal(first, batch_positions(100, 100, 0, seed=0))


@settings(max_examples=30)
@given(st.integers(1, 60), st.data())
def test_held_out_items_are_never_trained_on(num_items, data):
    count = data.draw(st.integers(0, num_items - 1))
    train, held_out = hold_out(num_items, count, seed=0)
    assert len(held_out) == count
    assert sorted([*train, *held_out]) == list(range(num_items))


def test_holding_everything_out_is_refused():
    with pytest.raises(ValueError, match="2000 of 1 images"):
        hold_out(1, 2000, seed=0)


def test_views_are_drawn_evenly():
    counts = np.bincount(choices(10_000, 10, step=3, seed=0), minlength=10)
    assert counts.min() > 850
    assert counts.max() < 1150
    assert not choices(5, 1, step=0, seed=0).any()


# ---------------------------------------------------------------------------------------------------------------- learning rate


def test_warmup_reaches_every_group():
    model = BiGR(GENERATOR)
    adamw = optimizer.build_optimizer(model, 1e-3, 0.02)
    assert len(adamw.param_groups) == 2
    for step, expected in ((1, 1e-4), (5, 5e-4), (10, 1e-3), (1000, 1e-3)):
        schedule.set_learning_rate(adamw, schedule.learning_rate_factor(step, warmup_steps=10, total_steps=1000))
        assert [group["lr"] for group in adamw.param_groups] == pytest.approx([expected] * 2)


def test_cosine_by_hand():
    factor = [schedule.learning_rate_factor(s, warmup_steps=10, total_steps=110, schedule="cosine") for s in (5, 10, 60, 110, 200)]
    assert factor == pytest.approx([0.5, 1.0, 0.5, 0.0, 0.0])


def test_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="schedule 'linear' is unknown"):
        schedule.learning_rate_factor(1, warmup_steps=0, total_steps=1, schedule="linear")


def test_parameter_groups_are_those_of_the_public_code():
    """Names in `adamw_groups` were read from the public code's optimiser."""
    model = BiGR(GoldenSet("gen_a").config)
    official = {
        value.data_ptr(): key for key, value in official_generator_state(model).items() if not key.startswith("diffusion_processor")
    }
    expected = json.loads((GOLDEN / "gen_a" / "config.json").read_text())["adamw_groups"]
    without, decayed = optimizer.parameter_groups(model, 0.02)
    assert {official[p.data_ptr()] for p in without["params"]} == set(expected["no_weight_decay"])
    assert {official[p.data_ptr()] for p in decayed["params"]} == set(expected["weight_decay"])
    assert (without["weight_decay"], decayed["weight_decay"]) == (0.0, 0.02)


@pytest.mark.parametrize("model", [BiGR(GENERATOR), BinaryAutoencoder(TOKENIZER)], ids=["generator", "tokenizer"])
def test_every_parameter_is_in_one_group(model):
    grouped = [id(p) for group in optimizer.parameter_groups(model, 0.1) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


# ---------------------------------------------------------------------------------------------------------------------- average


def test_average_by_hand():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    ema = EMA(model, decay=0.9)
    nn.init.constant_(model.weight, 1.0)
    ema.update(1)
    assert ema.average[0].item() == pytest.approx(0.1)
    with ema.swapped():
        assert model.weight.item() == pytest.approx(0.1)
    assert model.weight.item() == 1.0
    ema.reset()
    assert ema.average[0].item() == 1.0


def test_average_warms_up():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    ema = EMA(model, decay=0.9999, warmup=True)
    nn.init.constant_(model.weight, 1.0)
    ema.update(1)
    assert ema.average[0].item() == pytest.approx(1 - 2 / 11)


def test_impossible_decay_is_refused():
    with pytest.raises(ValueError, match="decay 1"):
        EMA(nn.Linear(1, 1), decay=1)


# ---------------------------------------------------------------------------------------------------------------------- metrics


def test_psnr_by_hand():
    images = torch.full((2, 3, 16, 16), 0.5)
    other = images + torch.tensor([0.1, 0.01])[:, None, None, None]
    torch.testing.assert_close(metrics.psnr(images, other), torch.tensor([20.0, 40.0]), atol=1e-3, rtol=0)


def test_ssim_against_a_second_implementation():
    torch.manual_seed(0)
    x, y = torch.rand(2, 3, 24, 20, dtype=torch.float64), torch.rand(2, 3, 24, 20, dtype=torch.float64)
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    for image in range(2):
        values = []
        for channel in range(3):
            a, b = x[image, channel].numpy(), y[image, channel].numpy()
            for top in range(24 - 10):
                for left in range(20 - 10):
                    p, q = a[top : top + 11, left : left + 11], b[top : top + 11, left : left + 11]
                    mp, mq = (window * p).sum(), (window * q).sum()
                    vp, vq, c = (window * p * p).sum() - mp**2, (window * q * q).sum() - mq**2, (window * p * q).sum() - mp * mq
                    values.append((2 * mp * mq + 1e-4) * (2 * c + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
        assert metrics.ssim(x, y)[image].item() == pytest.approx(np.mean(values), abs=1e-9)
    torch.testing.assert_close(metrics.ssim(x, x), torch.ones(2, dtype=torch.float64))
    with pytest.raises(ValueError, match="images are 10 x 16; SSIM compares windows of 11 x 11 pixels"):
        metrics.ssim(torch.rand(2, 1, 10, 16), torch.rand(2, 1, 10, 16))


def test_bit_usage_and_entropy_by_hand():
    codes = torch.tensor([[[1, 0], [1, 0]], [[1, 1], [1, 0]]])
    usage = metrics.bit_usage(codes)
    assert usage.tolist() == [1.0, 0.25]
    expected = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    torch.testing.assert_close(metrics.binary_entropy(usage), torch.tensor([0.0, expected]), atol=1e-5, rtol=0)


# ------------------------------------------------------------------------------------------------------------------- loss terms


def test_reconstruction_by_hand():
    images, other = torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.5, -0.1]]]])
    assert losses.reconstruction_loss(images, other, 1.0, 2.0).item() == pytest.approx(0.3 + 2 * 0.13)


def test_code_terms_by_hand():
    half = torch.full((2, 3, 4), 0.5)
    assert losses.entropy_loss(half).item() == pytest.approx(0.0, abs=1e-6)
    assert losses.commitment_loss(half).item() == 0.25
    stuck = torch.ones(2, 3, 4)
    assert losses.entropy_loss(stuck).item() == pytest.approx(1.0, abs=1e-4)
    assert losses.commitment_loss(stuck).item() == 0.0


def test_hinge_by_hand():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-2.0, 0.0])
    assert losses.hinge_discriminator_loss(real, fake).item() == pytest.approx(0.5 * (0.25 + 0.5))
    assert losses.hinge_generator_loss(fake).item() == 1.0


def test_adaptive_weight_evens_the_gradients():
    weight = torch.ones(2, requires_grad=True)
    reconstruction, adversarial = (weight * torch.tensor([3.0, 4.0])).sum(), (weight * torch.tensor([6.0, 8.0])).sum()
    assert losses.adaptive_weight(reconstruction, adversarial, weight).item() == pytest.approx(0.5, abs=1e-4)
    assert losses.adaptive_weight(100 * reconstruction, adversarial, weight).item() == 1.0


def test_augmentation_is_differentiable_and_repeatable():
    images = torch.rand(4, 3, 16, 16, requires_grad=True)
    once, again = (augment(images, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(once, again)
    assert once.shape == images.shape
    assert not torch.equal(once, augment(images, torch.Generator().manual_seed(1)))
    once.square().sum().backward()
    assert images.grad.abs().flatten(1).sum(1).min() > 0


def test_discriminator_can_learn():
    torch.manual_seed(0)
    model = PatchDiscriminator(3, width=8, depth=1)
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    real, fake = torch.rand(8, 3, 16, 16) * 0.5, torch.rand(8, 3, 16, 16) * 0.5 + 0.5
    for _ in range(30):
        loss = losses.hinge_discriminator_loss(model(real), model(fake))
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert model(real).mean() > 0.5
    assert model(fake).mean() < -0.5


def test_perceptual_loss_without_weights_says_what_to_do(tmp_path):
    pytest.importorskip("torchvision")
    with pytest.raises(FileNotFoundError, match="--perceptual off"):
        losses.PerceptualLoss(tmp_path / "vgg16.pth")


def test_perceptual_loss_is_zero_for_equal_images_only(tmp_path):
    vgg = pytest.importorskip("torchvision.models.vgg")
    torch.manual_seed(0)
    layers = vgg.make_layers(vgg.cfgs["D"])
    torch.save({f"features.{key}": value for key, value in layers.state_dict().items()}, tmp_path / "vgg16.pth")
    loss = losses.PerceptualLoss(tmp_path / "vgg16.pth").train()
    images, other = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32, requires_grad=True)
    assert loss(images, images).item() == 0.0
    distance = loss(images, other)
    assert distance.item() > 0
    distance.backward()
    assert other.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in loss.parameters())
