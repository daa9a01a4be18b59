"""Promises of training the compared systems: indices stored small, exact resume, losses below a constant guess, misfits named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bigr_features import BiGR, VQAutoencoder
from bigr_features.checkpoints import load_model, save_model
from bigr_features.functional.codes import code_format
from bigr_features.train import checkpoint
from bigr_features.train.code_cache import CodeCache, EncodeConfig, encode
from bigr_features.train.draws import draw
from bigr_features.train.generator import GeneratorLoss, train
from bigr_features.train.settings import TrainTokenizerConfig
from bigr_features.train.stored_codes import StoredIndices
from bigr_features.train.tokenizer import train_tokenizer

from .small import GENERATOR, TOKENIZER, VQ_TOKENIZER, logged

CHANGES = {
    "llamagen": {"code_dim": None, "tokens": "index", "head": "linear", "vocab_size": 32, "causal": True, "adaln": False},
    "cat_ar": {"head": "linear", "causal": True, "adaln": False},
    "cat_ar_split": {"head": "linear", "num_sub_codes": 2, "causal": True, "adaln": False},
    "cat_mask": {"head": "mlm", "adaln": False, "mask_levels": 10},
    "cat_mask_split": {"head": "mlm", "num_sub_codes": 2, "adaln": False},
    "bin_ar": {"causal": True},
}


@pytest.fixture(scope="module")
def vq_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vq")
    torch.manual_seed(0)
    save_model(VQAutoencoder(VQ_TOKENIZER), folder)
    return folder


@pytest.fixture(scope="module")
def indices_folder(vq_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("indices")
    encode(
        EncodeConfig(
            tokenizer=vq_folder, source="sample:digits", out=folder, limit=200, views="flip", device="cpu", precision="fp32", threads=1
        )
    )
    return folder


@pytest.fixture
def config_of(train_config, vq_folder, indices_folder):
    """Settings of a training of one of the systems."""

    def build(name: str, **changes):
        tokenizer = {"tokenizer": vq_folder, "codes": indices_folder} if name == "llamagen" else {}
        return train_config(model=GENERATOR.replace(**CHANGES[name]), **tokenizer, **changes)

    return build


def test_indices_are_stored_in_two_bytes_and_are_those_of_the_tokenizer(vq_folder, indices_folder):
    cache = CodeCache(indices_folder)
    assert cache.codes == StoredIndices(16, 32)
    rows = cache.read(np.arange(5))
    assert (rows.dtype, rows.shape) == (np.uint16, (5, 16))
    assert StoredIndices(16, 2**16 + 1).empty(1).dtype == np.uint32
    assert (cache.manifest["codebook_size"], "code_dim" in cache.manifest, "bits" in cache.manifest) == (32, False, False)
    from bigr_features.data import open_images
    from bigr_features.train.code_cache import to_images

    tokenizer, images = load_model(vq_folder), open_images("sample:digits", "train", size=16, in_chans=3, limit=200)
    pixels = to_images(images.read(np.arange(5))[0], "cpu")
    assert torch.equal(cache.codes.unpack(torch.from_numpy(rows)), tokenizer.encode(tokenizer.normalize(pixels)))
    assert not np.array_equal(cache.read(np.arange(5), np.ones(5, np.int64)), rows)


@pytest.mark.parametrize("name", CHANGES)
def test_a_resumed_training_ends_bitwise_equal(config_of, tmp_path, name):
    config = config_of(
        name, steps=6, checkpoint_every=3, ema_decay=0.9, micro_batches=2, sample_every=6, num_samples=2, sample_denoise_steps=1
    )
    assert config.model.residual_dropout > 0  # the global random state counts too
    train(replace(config, out=tmp_path / "whole"))
    train(replace(config, out=tmp_path / "part", steps=3, sample_every=0))
    train(replace(config, out=tmp_path / "part", resume=True))
    states = [checkpoint.load(tmp_path / run / "checkpoints") for run in ("whole", "part")]
    for part in ("model", "ema"):
        for key, value in states[0][part].items():
            assert torch.equal(states[1][part][key], value), f"{part}.{key}"
    assert [line["loss"] for line in logged(tmp_path / "part")] == [line["loss"] for line in logged(tmp_path / "whole")]
    assert set(BiGR(config.model).head.loss_names) <= set(logged(tmp_path / "whole", "validation")[0])
    assert list((tmp_path / "whole").rglob("*.png"))


@pytest.mark.parametrize("name", CHANGES)
def test_the_loss_of_training_is_the_models_own(name):
    torch.manual_seed(0)
    model = BiGR(GENERATOR.replace(**CHANGES[name])).eval()
    form = model.code_format
    codes = form.codes(torch.randint(form.vocab_size, (3, 16, form.num_sub_codes)))
    draws = draw(model, 3, torch.Generator().manual_seed(1))
    draws.dropped[:] = False
    labels = torch.tensor([0, 1, 2])
    expected = model.loss(codes, labels, **draws.loss_arguments(codes))
    terms = GeneratorLoss(model)(codes, labels, draws)
    torch.testing.assert_close(terms[0], expected.loss)
    assert (draws.mask is None) == model.config.causal


def constant_loss(model: BiGR, codes: torch.Tensor) -> float:
    """The least loss of a guess that is the same for every token."""
    if model.config.categorical:
        indices = code_format(model.config).indices(codes).flatten(0, 1)  # (M, S)
        counts = [torch.bincount(column, minlength=model.config.vocab_size) / len(column) for column in indices.T]
        return sum(-torch.special.xlogy(p, p).sum().item() for p in counts) / len(counts)
    source = torch.Generator().manual_seed(0)
    rows = codes.flatten(0, 1)
    timesteps = model.transcoder.draw_timesteps(len(rows), source)
    noisy = model.transcoder.corrupt(rows, timesteps, source)
    guesses = (torch.full_like(rows, c) for c in np.linspace(-3, 3, 25))
    return min(model.transcoder.loss_per_bit(guess, rows, timesteps, noisy)[0].mean().item() for guess in guesses)


@pytest.fixture(scope="module")
def learned_tokenizers(tmp_path_factory):
    """Tokenizers of both kinds after 100 steps: the codes of an untrained one have hardly anything that could be learned."""
    found = {}
    for kind, model in (("binary", TOKENIZER), ("vq", VQ_TOKENIZER)):
        found[kind] = train_tokenizer(
            TrainTokenizerConfig(
                source="sample:fashion_mnist", out=tmp_path_factory.mktemp(kind) / "run", model=model, steps=100, batch_size=64,
                validate_every=100, checkpoint_every=100, precision="fp32", device="cpu", threads=1, trackers=(),
            )
        )  # fmt: skip
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_after_300_steps_the_loss_is_below_that_of_a_constant_guess(config_of, learned_tokenizers, tmp_path, name):
    tokenizer = learned_tokenizers["vq" if name == "llamagen" else "binary"]
    config = config_of(name, steps=300, batch_size=64, checkpoint_every=300, validate_every=300, log_every=100, ema_decay=0.9)
    config, codes = replace(config, tokenizer=tokenizer), tmp_path / "codes"
    encode(EncodeConfig(tokenizer=tokenizer, source="sample:fashion_mnist", out=codes, device="cpu", precision="fp32", threads=1))
    model = config.model.replace(residual_dropout=0.0, ffn_dropout=0.0, width=64, init_std=0.06)
    train(replace(config, codes=codes, model=model, validation=200, learning_rate=1e-2, warmup_steps=20))
    cache = CodeCache(codes)
    constant = constant_loss(load_model(config.out / "model"), cache.codes.unpack(torch.from_numpy(cache.read(np.arange(len(cache))))))
    assert logged(config.out, "validation")[-1]["loss"] < constant


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llamagen", {"model": GENERATOR}, "the tokenizer gives one index a token, but the generator has tokens='bits'"),
        ("llamagen", {"model": GENERATOR.replace(**{**CHANGES["llamagen"], "vocab_size": 33})}, "codebook_size=32, .* vocab_size=33"),
        ("llamagen", {"model": GENERATOR.replace(**CHANGES["llamagen"], grid_size=3)}, "give --model.grid-size 4"),
        (
            "llamagen",
            {"codes": None, "source": "sample:digits", "sample_bits": True},
            "sample_bits draws Bernoulli bits, but this tokenizer",
        ),
        ("cat_ar", {"model": GENERATOR.replace(**CHANGES["llamagen"])}, "the tokenizer gives bits, but the generator has tokens='index'"),
        ("llamagen", {"bit_flips": 0.1}, "bit_flips=0.1, but this model takes indices"),
        ("cat_ar", {"timesteps_per_token": 2}, "timesteps_per_token=2, but head='linear' has no noise levels"),
    ],
)
def test_what_does_not_fit_is_named(config_of, name, changes, message):
    with pytest.raises(ValueError, match=message):
        train(replace(config_of(name), **changes))


def test_a_cache_of_another_kind_of_tokenizer_is_refused(config_of, codes_folder, indices_folder):
    with pytest.raises(ValueError, match="was made by another tokenizer"):
        train(replace(config_of("llamagen"), codes=codes_folder))
    with pytest.raises(ValueError, match="was made by another tokenizer"):
        train(replace(config_of("cat_ar"), codes=indices_folder))


def test_bits_cannot_be_drawn_of_indices(vq_folder, tmp_path):
    config = EncodeConfig(
        tokenizer=vq_folder, source="sample:digits", out=tmp_path / "codes", sample_bits=True, device="cpu", precision="fp32"
    )
    with pytest.raises(ValueError, match="sample_bits draws Bernoulli bits, but this tokenizer gives indices"):
        encode(config)
