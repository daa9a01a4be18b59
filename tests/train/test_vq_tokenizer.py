"""Promises of VQ tokenizer training: it learns, watches its codebook, resumes exactly, and takes no setting that is about bits."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from bigr_features import TokenizerConfig, VQAutoencoder, VQTokenizerConfig
from bigr_features.checkpoints import load_model
from bigr_features.data import open_images
from bigr_features.storage.json_files import plain
from bigr_features.train import checkpoint
from bigr_features.train.codebook import CodebookWatch
from bigr_features.train.ema import EMA
from bigr_features.train.run import from_dict, read_config
from bigr_features.train.sampler import hold_out
from bigr_features.train.settings import TrainTokenizerConfig
from bigr_features.train.tokenizer import Autoencode, train_tokenizer

from .small import TOKENIZER, VQ_TOKENIZER, logged


@pytest.fixture
def vq_config(tokenizer_config):
    """Settings of a VQ tokenizer training, with what a test changes."""
    return lambda **changes: tokenizer_config(**{"model": VQ_TOKENIZER, **changes})


def test_it_learns_and_says_how_its_codes_are_used(vq_config):
    config = vq_config(steps=40, batch_size=16, learning_rate=3e-3, validate_every=40, checkpoint_every=40, dead_after=10)
    result = load_model(train_tokenizer(config))
    assert isinstance(result, VQAutoencoder)
    assert result.config == VQ_TOKENIZER
    lines = logged(config.out)
    assert sum(line["loss"] for line in lines[-5:]) < 0.5 * sum(line["loss"] for line in lines[:5])
    assert {"reconstruction", "codebook", "commitment", "codebook_usage", "perplexity"} <= set(lines[0])
    assert "entropy" not in lines[0]
    for line in lines:
        assert line["loss"] == pytest.approx(line["reconstruction"] + line["codebook"] + line["commitment"], abs=1e-4)
    values = logged(config.out, "validation")[-1]
    assert values["psnr"] > 9
    share = chosen_codes(result, config)
    assert values["codebook_usage"] == (share > 0).float().mean().item()
    assert values["perplexity"] == pytest.approx(torch.special.entr(share).sum().exp().item(), rel=1e-4)
    assert values["perplexity"] > 2
    averaged = checkpoint.load(config.out / "checkpoints")["ema"]
    assert all(torch.equal(value, averaged[key]) for key, value in result.state_dict().items())


def chosen_codes(model: VQAutoencoder, config) -> torch.Tensor:
    """How often each code is chosen, as shares (V,), over the images that a training holds out."""
    images = open_images(config.source, config.split, size=model.image_size, in_chans=model.in_chans, limit=config.limit)
    _, held_out = hold_out(len(images), config.validation, config.seed)
    pixels = torch.from_numpy(images.read(held_out)[0]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        codes = model.eval().encode(model.normalize(pixels))
    return torch.bincount(codes.flatten(), minlength=model.config.codebook_size).float() / codes.numel()


def test_pixels_of_the_training_stay_in_zero_to_one():
    torch.manual_seed(0)
    model = VQAutoencoder(VQ_TOKENIZER)
    images = torch.rand(2, 3, 16, 16)
    reconstruction, quantized = Autoencode(model)(images)
    torch.testing.assert_close(reconstruction, (model(2 * images - 1) + 1) / 2)
    assert torch.equal(quantized.indices, model.encode(2 * images - 1))


def test_all_terms_together(vq_config):
    class Edges(nn.Module):
        def forward(self, images, reconstructions):
            return (images.diff(dim=-1) - reconstructions.diff(dim=-1)).abs().mean()

    config = vq_config(
        model=VQ_TOKENIZER.replace(entropy_weight=0.1), codebook_weight=0.5, adversarial_weight=0.5, adversarial_start=3,
        discriminator_width=8, discriminator_depth=1, micro_batches=2, precision="bf16",
    )  # fmt: skip
    train_tokenizer(config, perceptual=Edges())
    line = logged(config.out)[2]
    assert {"perceptual", "codebook", "commitment", "entropy", "adversarial", "adversarial_weight", "discriminator"} <= set(line)
    whole = line["reconstruction"] + line["perceptual"] + 0.5 * line["codebook"] + line["commitment"] + line["entropy"]
    assert line["loss"] == pytest.approx(whole + line["adversarial_weight"] * line["adversarial"], abs=2e-3)


def test_a_resumed_run_ends_bitwise_equal(vq_config, tmp_path):
    """Also when codes move in it, and when it stops between two of these moments."""
    whole = vq_config(
        steps=8, schedule="constant", checkpoint_every=4, validate_every=4, dead_after=3, reseed_dead_codes=True, micro_batches=2,
        ema_decay=0.9, model=VQ_TOKENIZER.replace(codebook_size=300), out=tmp_path / "whole",
    )  # fmt: skip
    train_tokenizer(whole)
    parts = replace(whole, out=tmp_path / "parts", steps=4)
    train_tokenizer(parts)
    train_tokenizer(replace(parts, steps=8, resume=True))
    found, expected = (checkpoint.load(tmp_path / name / "checkpoints") for name in ("parts", "whole"))
    assert found["best"] == expected["best"]
    for name in ("model", "ema", "codes"):
        for key, value in expected[name].items():
            assert torch.equal(found[name][key], value) if isinstance(value, torch.Tensor) else found[name][key] == value, (name, key)
    for key, value in expected["optimizer"]["state"].items():
        assert all(torch.equal(found["optimizer"]["state"][key][part], value[part]) for part in value), key
    columns = ("step", "loss", "codebook_usage", "perplexity")
    assert [[line[c] for c in columns] for line in logged(parts.out)] == [[line[c] for c in columns] for line in logged(whole.out)]


def watch(**changes) -> tuple[CodebookWatch, VQAutoencoder]:
    torch.manual_seed(0)
    model = VQAutoencoder(VQ_TOKENIZER.replace(codebook_size=8))
    config = TrainTokenizerConfig(source="", out="", model=model.config, batch_size=2, **changes)
    return CodebookWatch(model, config, Accelerator(cpu=True)), model


def test_dead_codes_are_those_of_no_recent_batch(caplog):
    codebook, _ = watch(dead_after=3)
    for step, indices in enumerate([[0, 1, 2, 3], [0, 1], [0, 4], [0, 0]], start=1):
        codebook.count(step, torch.tensor([indices]))
        assert step >= 3 or not codebook.dead(step).any()
    assert codebook.dead(4).nonzero().flatten().tolist() == [2, 3, 5, 6, 7]
    with caplog.at_level(logging.WARNING):
        values = codebook.report(4)
        codebook.report(5)
    assert values["codebook_usage"] == 3 / 8
    share = torch.tensor([5, 2, 1, 1, 1]) / 10
    assert values["perplexity"] == pytest.approx((-(share * share.log()).sum()).exp().item())
    (record,) = caplog.records  # once, not at every report
    assert "5 of 8 codes (62%) are dead, the last 3 batches (96 tokens) did not choose them" in record.getMessage()
    assert "--reseed-dead-codes" in record.getMessage()


def test_too_few_tokens_to_use_all_codes_are_no_reason_to_warn(caplog):
    codebook, _ = watch(dead_after=2)  # 2 batches of 2 images of 16 tokens, for 8 codes
    for step in (1, 2):
        codebook.count(step, torch.zeros(2, 16, dtype=torch.int64))
    with caplog.at_level(logging.WARNING):
        assert codebook.report(2)["codebook_usage"] == 1 / 8
    assert not caplog.records


@pytest.mark.parametrize("dead", [[3, 5], list(range(1, 8)), []])
def test_dead_codes_move_onto_latents_and_nothing_else_does(dead):
    codebook, model = watch(dead_after=2)
    optimizer, ema = torch.optim.AdamW(model.parameters()), EMA(model)
    model(2 * torch.rand(2, 3, 16, 16) - 1).square().mean().backward()
    model.quantizer.embedding.grad = torch.ones(8, 4)
    optimizer.step()
    before, averages = model.quantizer.embedding.detach().clone(), [average.clone() for average in ema.average]
    alive = [code for code in range(8) if code not in dead]
    codebook.count(1, torch.arange(8)[None])
    codebook.count(3, torch.tensor([alive]))
    images = torch.rand(1, 3, 16, 16)
    assert codebook.reseed(3, images, optimizer, ema, torch.Generator().manual_seed(0)) == len(dead)
    after = model.quantizer.embedding.detach()
    assert torch.equal(after[alive], before[alive])
    latents = torch.nn.functional.normalize(model.latents(2 * images - 1)[0], dim=-1)
    nearest = torch.cdist(after[dead], latents.detach())
    assert nearest.min(1).values.le(1e-5).all() if dead else True
    assert len(set(nearest.argmin(1).tolist())) == len(dead)  # each onto another token
    for value in (optimizer.state[model.quantizer.embedding][name] for name in ("exp_avg", "exp_avg_sq")):
        assert (value[dead] == 0).all()
        assert (value[alive] != 0).all()
    index = next(i for i, parameter in enumerate(model.parameters()) if parameter is model.quantizer.embedding)
    assert torch.equal(ema.average[index][dead], after[dead])
    assert torch.equal(ema.average[index][alive], averages[index][alive])
    assert not codebook.dead(3).any()


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (VQ_TOKENIZER, {"entropy_weight": 0.1}, r"entropy_weight=0\.1, but it is about bits.*--model\.entropy-weight"),
        (VQ_TOKENIZER, {"commitment_weight": 0.1}, r"commitment_weight=0\.1, but it is about bits.*--model\.commitment-weight"),
        (VQ_TOKENIZER, {"dead_after": 0}, "dead_after=0; expected 1 batch or more"),
        (TOKENIZER, {"reseed_dead_codes": True}, "reseed_dead_codes=True, but bits have no codebook"),
    ],
)
def test_settings_of_the_other_kind_are_refused(tokenizer_config, kind, changes, message):
    config = tokenizer_config(model=kind, **changes)
    with pytest.raises(ValueError, match=message):
        train_tokenizer(config)
    assert not config.out.exists()


@pytest.mark.parametrize("kind", [TOKENIZER, VQ_TOKENIZER])
def test_settings_give_back_the_kind_of_tokenizer(tokenizer_config, tmp_path, kind):
    config = tokenizer_config(model=kind, limit=20, validation=4, steps=1)
    assert from_dict(TrainTokenizerConfig, json.loads(json.dumps(plain(config)))) == config
    train_tokenizer(config)
    assert read_config(TrainTokenizerConfig, config.out).model == kind
    assert type(kind) in (TokenizerConfig, VQTokenizerConfig)


def test_a_run_of_the_other_kind_is_not_resumed(tokenizer_config):
    config = tokenizer_config(limit=20, validation=4, steps=1)
    train_tokenizer(config)
    with pytest.raises(ValueError, match=r"cannot be resumed with other settings.*model\.codebook_size was None and is now 32"):
        train_tokenizer(replace(config, model=VQ_TOKENIZER, resume=True))


def test_settings_of_runs_from_before_their_names_changed_are_read(tokenizer_config):
    config = tokenizer_config(entropy_weight=0.1, commitment_weight=0.2)
    former = plain(config)
    former["usage_weight"], former["indecision_weight"] = former.pop("entropy_weight"), former.pop("commitment_weight")
    assert from_dict(TrainTokenizerConfig, former) == config
