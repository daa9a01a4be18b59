"""Promises of generator training: the model's own loss, any split of the batch, and errors instead of wrong runs."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn

from bigr_features import BiGR, BinaryAutoencoder, GeneratorConfig
from bigr_features.checkpoints import load_model, save_model
from bigr_features.data import load_sample
from bigr_features.storage.json_files import plain
from bigr_features.train import checkpoint
from bigr_features.train.code_cache import EncodeConfig, encode
from bigr_features.train.draws import draw
from bigr_features.train.generator import GeneratorLoss, train
from bigr_features.train.monitor import NonFiniteLoss
from bigr_features.train.run import from_dict, read_config

from .small import GENERATOR, TOKENIZER, logged


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = BiGR(replace(GENERATOR, residual_dropout=0.0, ffn_dropout=0.0))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return torch.randint(2, (8, 16, 8)).float(), torch.randint(10, (8,))


# -------------------------------------------------------------------------------------------------------------------- the loss


@pytest.mark.parametrize("causal", [False, True])
def test_the_loss_is_the_models_own(model, batch, causal):
    """`BiGR.loss`, which equals the recorded reference loss and gradients, gives the same value and gradients for the same draws."""
    if causal:
        state = {name: value for name, value in model.state_dict().items() if name != "embedding.mask_embedding"}
        model = BiGR(replace(model.config, causal=True))
        model.load_state_dict(state)
    codes, labels = batch
    draws = draw(model, len(codes), torch.Generator().manual_seed(2))
    draws.dropped[:] = False
    timesteps, flips = draws.timesteps.squeeze(2), draws.flips.squeeze(2)
    terms = model.eval().loss(codes, labels, mask=draws.mask, timesteps=timesteps, noisy_codes=(codes.bool() ^ flips).float())
    terms.loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    loss, bce, accuracy = GeneratorLoss(model)(codes, labels, draws)
    loss.backward()
    torch.testing.assert_close((loss, bce, accuracy), (terms.loss, terms.bce, terms.bit_accuracy))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected.get(name), msg=name)


def test_noise_is_that_of_the_forward_process(model):
    draws = draw(model, 4000, torch.Generator().manual_seed(0))
    keep = model.transcoder.alpha_bar.table
    for t in (1, 8, 16):
        flips = draws.flips[(draws.timesteps == t) & draws.mask[..., None]].float()
        expected = (1 - keep[t].item()) / 2
        assert flips.mean().item() == pytest.approx(expected, abs=4 * 0.5 / flips.numel() ** 0.5)
    assert sorted(draws.timesteps.unique().tolist()) == list(range(1, 17))
    assert draws.dropped.float().mean().item() == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("timesteps_per_token", [1, 3])
def test_parts_of_a_batch_have_the_draws_of_the_whole(model, batch, timesteps_per_token):
    codes, labels = batch
    draws = draw(model, 8, torch.Generator().manual_seed(0), timesteps_per_token)
    whole = GeneratorLoss(model)(codes, labels, draws)
    halves = [GeneratorLoss(model)(codes[part], labels[part], draws.part(part)) for part in (slice(0, 4), slice(4, 8))]
    for value, first, second in zip(whole, *halves, strict=True):
        torch.testing.assert_close(value, (first + second) / 2)


def test_several_timesteps_a_token_give_the_mean_over_single_ones(model, batch):
    codes, labels = batch
    draws = draw(model, 8, torch.Generator().manual_seed(0), timesteps_per_token=3)
    each = [replace(draws, timesteps=draws.timesteps[:, :, i : i + 1], flips=draws.flips[:, :, i : i + 1]) for i in range(3)]
    assert not torch.equal(each[0].timesteps, each[1].timesteps)
    whole, *singles = (torch.stack(GeneratorLoss(model)(codes, labels, one)) for one in (draws, *each))
    torch.testing.assert_close(whole, torch.stack(singles).mean(0))


def test_flipped_bits_are_seen_and_never_predicted(model, batch):
    codes, labels = batch
    draws = draw(model, 8, torch.Generator().manual_seed(0), bit_flips=0.2)
    share = draws.seen_flips.float().mean().item()
    assert share == pytest.approx(0.2, abs=4 * 0.4 / draws.seen_flips.numel() ** 0.5)
    arguments = draws.loss_arguments(codes)
    assert torch.equal(arguments["seen_codes"] != codes, draws.seen_flips)
    noisy = GeneratorLoss(model)(codes, labels, draws)
    assert not torch.equal(noisy[0], GeneratorLoss(model)(codes, labels, replace(draws, seen_flips=None))[0])
    everywhere = replace(draws, mask=torch.ones_like(draws.mask), num_hidden=draws.mask.shape[1])  # nothing is seen, so nothing is flipped
    plain = replace(everywhere, seen_flips=None)
    torch.testing.assert_close(GeneratorLoss(model)(codes, labels, everywhere), GeneratorLoss(model)(codes, labels, plain))


def test_masks_of_mage_hide_at_least_half(model):
    generator = torch.Generator().manual_seed(0)
    counts = [draw(model, 2, generator, mask_distribution="truncated_normal").num_hidden for _ in range(50)]
    assert min(counts) >= model.config.num_tokens / 2


def test_dropped_labels_become_the_null_class(model, batch):
    codes, labels = batch
    draws = draw(model, 8, torch.Generator().manual_seed(0))
    draws.dropped[:] = True
    with_labels, without = GeneratorLoss(model)(codes, labels, draws), GeneratorLoss(model)(codes, None, draws)
    torch.testing.assert_close(with_labels, without)


# -------------------------------------------------------------------------------------------------------------------- the loop


def test_overfits_64_images(train_config, tmp_path):
    """Each image has a class of its own, so that even wholly hidden images are determined."""
    torch.manual_seed(0)
    coarse = replace(TOKENIZER, channel_multipliers=(1, 1, 1, 1))
    save_model(BinaryAutoencoder(coarse), tmp_path / "tokenizer")
    for i, image in enumerate(load_sample("digits").train_images[:64]):
        (tmp_path / "images" / f"{i:02d}").mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "images" / f"{i:02d}" / "image.png")
    encode(EncodeConfig(tmp_path / "tokenizer", str(tmp_path / "images"), tmp_path / "codes", device="cpu", precision="fp32", threads=1))
    size = GeneratorConfig(
        code_dim=8, depth=2, width=64, num_heads=4, grid_size=2, num_classes=64, ffn_multiple_of=16, denoiser_depth=1,
        class_dropout=0.0, residual_dropout=0.0, ffn_dropout=0.0,
    )  # fmt: skip
    config = train_config(
        tokenizer=tmp_path / "tokenizer", codes=tmp_path / "codes", model=size, steps=1000, batch_size=64, validation=0,
        learning_rate=1e-2, warmup_steps=50, schedule="cosine", weight_decay=0.0, log_every=100, checkpoint_every=1000,
    )  # fmt: skip
    train(config)
    assert logged(config.out)[-1]["bit_accuracy"] > 0.99


def test_a_run_folder_can_be_read(train_config):
    config = train_config(sample_every=6, num_samples=10, sample_reveal_steps=2, sample_denoise_steps=2, trackers=("tensorboard",))
    result = train(config)
    names = {path.name for path in config.out.iterdir()}
    assert names == {"config.json", "environment.json", "log.jsonl", "tensorboard", "samples", "checkpoints", "tokenizer", "model"}
    assert [line["step"] for line in logged(config.out)] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in logged(config.out, "validation")] == [3, 6]
    assert Image.open(config.out / "samples" / "step_00000006.png").size > (10 * 96, 96)
    model = load_model(result)
    averaged = checkpoint.load(config.out / "checkpoints")["ema"]
    assert all(torch.equal(value, averaged[key]) for key, value in model.state_dict().items())
    assert read_config(type(config), config.out) == config


def test_accumulated_gradients_give_the_same_training(train_config, tmp_path):
    size = replace(GENERATOR, residual_dropout=0.0, ffn_dropout=0.0)
    losses = []
    for pieces in (1, 4):
        config = train_config(model=size, micro_batches=pieces, out=tmp_path / str(pieces))
        train(config)
        losses.append([line["loss"] for line in logged(config.out)])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{"precision": "bf16"}, {"grad_checkpointing": True}, {"precision": "bf16", "grad_checkpointing": True}],
    ids=["bf16", "checkpointing", "both"],
)
def test_cheaper_ways_give_nearly_the_same_losses(train_config, tmp_path, changes):
    losses = []
    for name, settings in (("plain", {}), ("cheap", changes)):
        config = train_config(out=tmp_path / name, **settings)
        train(config)
        losses.append([line["loss"] for line in logged(config.out)])
    assert losses[0] == pytest.approx(losses[1], abs=2e-3 if "precision" in changes else 1e-6)
    state = checkpoint.load(config.out / "checkpoints")
    assert all(value.dtype == torch.float32 for value in state["model"].values())


@pytest.mark.skipif(shutil.which("c++") is None and shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_training_gives_the_same_losses(train_config, tmp_path):
    size = replace(GENERATOR, depth=1, residual_dropout=0.0, ffn_dropout=0.0)
    losses = []
    for compiled in (False, True):
        config = train_config(model=size, steps=3, compile=compiled, out=tmp_path / str(compiled))
        train(config)
        losses.append([line["loss"] for line in logged(config.out)])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    load_model(config.out / "model")  # the names of the weights are those of an eager model


def test_training_starts_from_given_weights(train_config, tmp_path):
    first = train(train_config(model=replace(GENERATOR, class_dropout=0.1)))
    size = replace(GENERATOR, class_dropout=0.5)
    second = train_config(model=size, weights=first, out=tmp_path / "second", steps=1, learning_rate=0.0)
    result = load_model(train(second))
    assert result.config.class_dropout == 0.5
    assert all(torch.equal(value, load_model(first).state_dict()[key]) for key, value in result.state_dict().items())

    other = load_model(first)
    other.class_embedding.weight.data += 1
    save_model(other, tmp_path / "other")
    with pytest.raises(ValueError, match="fingerprint of the first weights"):
        train(replace(second, weights=tmp_path / "other", resume=True))
    with pytest.raises(ValueError, match=r"embedding.proj.weight is \[32, 8\] there and \[64, 8\] here"):
        train(train_config(weights=first, model=replace(GENERATOR, width=64), out=tmp_path / "wide"))


def test_images_on_the_fly_are_trained_on_as_their_codes_would_be(train_config, tmp_path, tokenizer_folder):
    encode(
        EncodeConfig(tokenizer=tokenizer_folder, source="sample:digits", out=tmp_path / "all", device="cpu", precision="fp32", threads=1)
    )
    cached, live = train_config(codes=tmp_path / "all"), train_config(codes=None, source="sample:digits", flip=False, out=tmp_path / "live")
    train(cached)
    train(live)
    assert [line["loss"] for line in logged(cached.out)] == pytest.approx([line["loss"] for line in logged(live.out)], abs=5e-3)


def test_training_without_labels(train_config):
    config = train_config(unconditional=True, sample_every=6, num_samples=4, sample_reveal_steps=2, sample_denoise_steps=2)
    result = load_model(train(config)).class_embedding.weight
    torch.manual_seed(config.seed)
    before = BiGR(config.model).class_embedding.weight
    torch.testing.assert_close(result[:10], before[:10], atol=1e-5, rtol=0)  # weight decay alone
    assert (result[10] - before[10]).abs().max() > 1e-4


# ------------------------------------------------------------------------------------------------------------------- wrong input


def test_training_stops_where_the_loss_is_not_finite(train_config, monkeypatch):
    count = 0
    true = GeneratorLoss.forward

    def forward(self, *args):
        nonlocal count
        count += self.training
        loss, *rest = true(self, *args)
        return (loss * float("nan") if count == 5 and self.training else loss), *rest

    monkeypatch.setattr(GeneratorLoss, "forward", forward)
    config = train_config(steps=12, log_every=10)
    with pytest.raises(NonFiniteLoss, match=r"not finite at step 5; .* the last good checkpoint is that of step 3"):
        train(config)
    assert checkpoint.steps_in(config.out / "checkpoints") == [3]
    assert all(value.isfinite().all() for value in checkpoint.load(config.out / "checkpoints")["model"].values())


def test_a_run_is_not_overwritten(train_config):
    train(train_config())
    with pytest.raises(FileExistsError, match="--resume"):
        train(train_config())


def test_resuming_with_other_settings_shows_them(train_config):
    config = train_config()
    train(config)
    other = replace(config, resume=True, learning_rate=0.5, model=replace(config.model, class_dropout=0.2))
    with pytest.raises(ValueError, match=r"learning_rate was 0.001 and is now 0.5; model.class_dropout was 0.1 and is now 0.2"):
        train(other)
    train(replace(config, resume=True, steps=8, log_every=2))
    assert checkpoint.steps_in(config.out / "checkpoints")[-1] == 8


def test_settings_come_back_from_json(train_config):
    config = train_config(keep_steps=(1, 2))
    assert from_dict(type(config), plain(config)) == config
    with pytest.raises(ValueError, match="has no setting lr"):
        from_dict(type(config), plain(config) | {"lr": 1})


def test_settings_that_came_later_have_their_defaults(train_config, monkeypatch):
    config = train_config()
    train(config)
    state = checkpoint.load(config.out / "checkpoints")
    state["settings"] = state["settings"].replace('"grad_checkpointing": false, ', "")
    assert "grad_checkpointing" not in state["settings"]
    checkpoint.save(config.out / "checkpoints", state)
    train(replace(config, resume=True))


def test_labels_missing_proposes_unconditional(train_config, tokenizer_folder, tmp_path):
    (tmp_path / "flat").mkdir()
    for i in range(4):
        Image.new("RGB", (16, 16), (60 * i, 0, 0)).save(tmp_path / "flat" / f"{i}.png")
    with pytest.raises(ValueError, match="--unconditional"):
        train(train_config(codes=None, source=str(tmp_path / "flat"), validation=0))
    train(train_config(codes=None, source=str(tmp_path / "flat"), validation=1, unconditional=True))


def test_one_image(train_config, tmp_path):
    (tmp_path / "one").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "one" / "a.png")
    with pytest.raises(ValueError, match="lower `validation`"):
        train(train_config(codes=None, source=str(tmp_path / "one"), unconditional=True, validation=1))
    train(train_config(codes=None, source=str(tmp_path / "one"), unconditional=True, validation=0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes": None}, "give either --codes"),
        ({"source": "sample:digits"}, "give either --codes"),
        ({"batch_size": 10, "micro_batches": 4}, "give a multiple of 4"),
        ({"model": replace(GENERATOR, code_dim=16)}, "give --model.grid-size 4 --model.code-dim 8"),
        ({"model": replace(GENERATOR, num_classes=5)}, "give --model.num-classes 10"),
        ({"precision": "fp16"}, "precision='fp16' is unknown; choose one of auto, fp32, bf16"),
        ({"schedule": "linear"}, "schedule 'linear' is unknown"),
        ({"fsdp": True}, "shards over several processes"),
        ({"timesteps_per_token": 0}, "timesteps_per_token=0; expected 1 or more"),
        ({"mask_distribution": "uniform"}, "no mask distribution 'uniform'; choose one of cosine, truncated_normal"),
        ({"mask_distribution": "truncated_normal", "model": replace(GENERATOR, causal=True)}, "a causal model hides nothing"),
        ({"bit_flips": 0.5}, r"bit_flips=0.5; expected a probability in \[0, 0.5\)"),
        ({"validation": 200}, "leaves none to train on"),
    ],
)
def test_settings_that_cannot_work(train_config, changes, message):
    with pytest.raises(ValueError, match=message):
        train(train_config(**changes))


def test_codes_of_another_tokenizer_are_refused(train_config, tmp_path):
    torch.manual_seed(5)
    save_model(BinaryAutoencoder(TOKENIZER), tmp_path / "other")
    with pytest.raises(ValueError, match="made by another tokenizer"):
        train(train_config(tokenizer=tmp_path / "other"))
    save_model(BiGR(GENERATOR), tmp_path / "generator")
    with pytest.raises(ValueError, match="not a tokenizer"):
        train(train_config(tokenizer=tmp_path / "generator"))


def test_full_disk_leaves_a_run_that_can_be_resumed(train_config, monkeypatch):
    config = train_config()
    saves = 0
    true = torch.save

    def save(content, file):
        nonlocal saves
        saves += 1
        if saves == 2:
            raise OSError(28, "No space left on device")
        true(content, file)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OSError, match=r"checkpoint of step 6 cannot be written.*No space left.*step 3"):
        train(config)
    result = load_model(train(replace(config, resume=True)))
    assert all(value.isfinite().all() for value in result.state_dict().values())
