"""Likelihoods of an image under each class, against sums written out, for every system."""

import numpy as np
import pytest
import torch

from bigr_features.features.class_likelihoods import LikelihoodSettings, check_classes, class_log_likelihoods
from bigr_features.functional.schedules import reveal_counts
from tests.helpers import SYSTEM_CHANGES, random_codes, tiny_generator, tiny_system

SYSTEMS = list(SYSTEM_CHANGES)


def build(name: str):
    """A random generator and codes of five images."""
    model = tiny_system(name)
    return model, random_codes(model.config, 5)


CATEGORICAL = [name for name in SYSTEMS if name not in ("bigr", "bin_ar")]


@pytest.mark.parametrize("name", CATEGORICAL)
def test_likelihood_of_all_tokens_is_what_the_loss_says(name):
    model, codes = build(name)
    config = model.config
    ratio = {} if config.causal else {"mask_ratio": 1.0, "num_masks": 1}
    found = class_log_likelihoods(model, codes, progress=False, **ratio)
    assert found.shape == (5, 4, 1)
    mask = None if config.causal else torch.ones(codes.shape[:2], dtype=torch.bool)
    for label in range(4):
        labels = torch.full((5,), label)
        with torch.no_grad():
            log_probabilities = model.logits(codes, labels, mask).unflatten(1, (9, -1)).flatten(2, -2).log_softmax(-1)  # (5, 9, S, V)
            indices = model.code_format.indices(codes)  # (5, 9, S)
            expected = log_probabilities.gather(-1, indices[..., None]).sum((2, 3)).mean(1)
            np.testing.assert_allclose(found[:, label, 0], expected, rtol=1e-5)
            loss = model.loss(codes, labels, mask=mask, label_smoothing=0.0).cross_entropy * config.num_sub_codes
            assert -found[:, label].mean() == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["bigr", "bin_ar"])
def test_bits_are_scored_by_one_call_of_the_denoiser(name):
    """A head that finds every bit flipped with the same probability p: the likelihood counts the flips that noise made."""
    model, codes = build(name)
    p = 0.1
    with torch.no_grad():
        model.transcoder.denoiser.head.weight.zero_()
        model.transcoder.denoiser.head.bias.fill_(float(np.log(p / (1 - p))))
    levels = (1, model.config.num_timesteps // 2, model.config.num_timesteps)
    settings = {} if model.config.causal else {"mask_ratio": 0.5, "num_masks": 40}
    found = class_log_likelihoods(model, codes, timesteps=levels, progress=False, **settings)
    np.testing.assert_allclose(found, np.broadcast_to(found[:1, :1], found.shape), rtol=1e-5)  # the same noise for all
    share = (np.log(1 - p) - found[0, 0] / model.config.code_dim) / (np.log(1 - p) - np.log(p))
    bits = model.config.num_tokens * model.config.code_dim * (1 if model.config.causal else 20)
    expected = (1 - model.transcoder.alpha_bar.table[list(levels)].numpy()) / 2
    np.testing.assert_allclose(share, expected, atol=4 * 0.5 / bits**0.5)


@pytest.mark.parametrize("groups", [1, 3, 9])
@pytest.mark.parametrize("name", ["cat_mask", "cat_mask_split"])
def test_groups_follow_the_chain_rule(name, groups):
    """Each group of tokens given those before it: the sum over groups, written out, is the likelihood of the order."""
    model, codes = build(name)
    found = class_log_likelihoods(model, codes, mask_ratio=1.0, num_masks=1, num_groups=groups, seed=3, progress=False)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    sizes = [size for size in reveal_counts(9, groups) if size]
    expected, start = 0, 0
    labels = torch.full((5,), 2)
    for size in sizes:
        mask = torch.zeros(5, 9, dtype=torch.bool).index_fill_(1, order[start:], True)
        with torch.no_grad():
            log_probabilities = model.logits(codes, labels, mask).unflatten(1, (9, -1)).flatten(2, -2).log_softmax(-1)
        tokens = log_probabilities.gather(-1, model.code_format.indices(codes)[..., None]).sum((2, 3))  # (5, 9)
        expected = expected + tokens[:, order[start : start + size]].sum(1)
        start += size
    assert start == 9
    np.testing.assert_allclose(found[:, 2, 0], expected / 9, rtol=1e-5)


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("batch_size", [1, 2, 256])
def test_batches_and_neighbours_change_nothing(name, batch_size):
    model, codes = build(name)
    whole = class_log_likelihoods(model, codes, progress=False)
    parts = class_log_likelihoods(model, codes[:3], batch_size=batch_size, progress=False)
    np.testing.assert_allclose(parts, whole[:3], rtol=1e-5)
    some = class_log_likelihoods(model, codes, classes=[2, 0], progress=False)
    np.testing.assert_allclose(some, whole[:, [2, 0]], rtol=1e-5)


def test_a_generator_that_learned_its_classes_tells_them_apart():
    """Four classes by two bits of every token, learned in a moment."""
    model = tiny_generator(gate_init=1.0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    labels = torch.arange(64) % 4
    codes = random_codes(model.config, 64)
    codes[..., 0], codes[..., 1] = (labels % 2)[:, None].float(), (labels // 2)[:, None].float()
    draws = torch.Generator().manual_seed(0)
    for _ in range(150):
        optimizer.zero_grad()
        model.loss(codes, labels, generator=draws).loss.backward()
        optimizer.step()
    scores = class_log_likelihoods(model, codes, mask_ratio=1.0, num_masks=2, progress=False)[..., 0]
    assert (scores.argmax(1) == labels.numpy()).mean() > 0.95


def test_the_model_keeps_its_mode():
    model, codes = build("bigr")
    model.train()
    class_log_likelihoods(model, codes, progress=False)
    assert model.training


def refused(name, **settings):
    model, codes = build(name)
    class_log_likelihoods(model, codes, progress=False, **settings)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("bigr", {"mask_ratio": 0.0}, r"mask_ratio=0.0; expected a number in \(0, 1\]"),
        ("bigr", {"mask_ratio": 1.5}, "mask_ratio=1.5"),
        ("bigr", {"num_masks": 0}, "num_masks=0"),
        ("bigr", {"timesteps": ()}, "timesteps are empty"),
        ("bigr", {"timesteps": (1000,)}, r"timestep 1000 is out of range; give noise levels in 1.."),
        ("cat_mask", {"timesteps": (3,)}, "head='mlm' has none"),
        ("bigr", {"num_groups": 0}, "num_groups=0; expected 1 to 8"),
        ("bigr", {"mask_ratio": 0.5, "num_groups": 6}, "num_groups=6; expected 1 to 5, the tokens that mask_ratio=0.5 hides"),
        ("cat_ar", {"num_groups": 2}, "this one is causal"),
        ("cat_ar", {"mask_ratio": 0.5}, "this one is causal"),
        ("bin_ar", {"num_masks": 2}, "this one is causal"),
        ("bigr", {"classes": [4]}, "label 4 is no class of this generator, trained with 4"),
        ("bigr", {"batch_size": 0}, "batch_size=0"),
    ],
)
def test_wrong_settings(name, settings, message):
    with pytest.raises(ValueError, match=message):
        refused(name, **settings)


def test_a_generator_without_labels_is_refused():
    model = tiny_generator(class_dropout=1.0)
    with pytest.raises(ValueError, match="trained without labels"):
        check_classes(model)


def test_codes_of_another_kind_are_refused():
    model, codes = build("bigr")
    with pytest.raises(ValueError, match="5"):
        class_log_likelihoods(model, codes[..., :4], progress=False)
    assert LikelihoodSettings.of(model).timesteps == (model.config.num_timesteps // 2,)
