"""Promises of tokenizer training: it learns, measures with thresholded bits, and every term of the loss can be had."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn

from bigr_features import BinaryAutoencoder
from bigr_features.checkpoints import load_model
from bigr_features.train import checkpoint
from bigr_features.train.tokenizer import Autoencode, train_tokenizer

from .small import TOKENIZER, logged


def test_it_learns(tokenizer_config):
    config = tokenizer_config(steps=60, batch_size=16, learning_rate=3e-3, validate_every=60, checkpoint_every=60)
    result = load_model(train_tokenizer(config))
    losses = [line["loss"] for line in logged(config.out)]
    assert sum(losses[-5:]) < 0.4 * sum(losses[:5])
    values = logged(config.out, "validation")[-1]
    assert values["psnr"] > 9
    assert {"ssim", "bit_usage_min", "bit_usage_max", "bit_entropy"} <= set(values)
    averaged = checkpoint.load(config.out / "checkpoints")["ema"]
    assert all(torch.equal(value, averaged[key]) for key, value in result.state_dict().items())
    picture = Image.open(config.out / "samples" / "step_00000060.png")
    assert picture.width > 16 * 96
    assert picture.height > 2 * 96  # originals above reconstructions, scaled up


def test_images_too_small_for_ssim_are_measured_without_it(tokenizer_config):
    config = tokenizer_config(model=TOKENIZER.replace(image_size=8), steps=1, validate_every=1)
    train_tokenizer(config)
    values = logged(config.out, "validation")[-1]
    assert "psnr" in values
    assert "ssim" not in values


def test_gradients_reach_the_encoder_through_drawn_bits():
    torch.manual_seed(0)
    module = Autoencode(BinaryAutoencoder(TOKENIZER))
    images = torch.rand(4, 3, 16, 16)
    reconstruction, probabilities, bits = module.train()(images, torch.Generator().manual_seed(0))
    assert set(bits.unique().tolist()) == {0.0, 1.0}
    assert ((bits > 0.5) != (probabilities > 0.5)).any()
    reconstruction.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
    thresholded = module.eval()(images)[2]
    assert torch.equal(thresholded, (probabilities > 0.5).float())


def test_all_terms_together(tokenizer_config):
    class Edges(nn.Module):
        def forward(self, images, reconstructions):
            return (images.diff(dim=-1) - reconstructions.diff(dim=-1)).abs().mean()

    config = tokenizer_config(
        entropy_weight=0.1, commitment_weight=0.1, adversarial_weight=0.5, adversarial_start=3, discriminator_width=8,
        discriminator_depth=1, micro_batches=2, precision="bf16", keep_steps=(2,),
    )  # fmt: skip
    train_tokenizer(config, perceptual=Edges())
    lines = logged(config.out)
    assert "adversarial" not in lines[1]
    assert {"perceptual", "entropy", "commitment", "adversarial", "adversarial_weight", "discriminator"} <= set(lines[2])
    assert "adversary" in checkpoint.load(config.out / "checkpoints")
    assert checkpoint.steps_in(config.out / "checkpoints") == [2, 3, 6]
    assert 0 <= lines[2]["adversarial_weight"] <= 0.5


def test_unreadable_images_are_listed_in_the_run(tokenizer_config, tmp_path):
    (tmp_path / "images").mkdir()
    for i in range(6):
        Image.new("RGB", (16, 16), (40 * i, 0, 0)).save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "images" / "3.png").write_bytes(b"broken")
    config = tokenizer_config(source=str(tmp_path / "images"), limit=None, validation=1)
    train_tokenizer(config)
    assert "3.png" in (config.out / "skipped.txt").read_text()


def test_perceptual_weights_missing(tokenizer_config, tmp_path):
    pytest.importorskip("torchvision")
    with pytest.raises(FileNotFoundError, match="--perceptual off"):
        train_tokenizer(tokenizer_config(perceptual=str(tmp_path / "vgg16.pth")))


def test_resuming_with_another_schedule_length_is_refused(tokenizer_config):
    config = tokenizer_config()
    train_tokenizer(config)
    with pytest.raises(ValueError, match="steps was 6 and is now 9"):  # the cosine would have been another
        train_tokenizer(replace(config, steps=9, resume=True))
