"""Promises of synthetic captions: every word is true by its rule on real images, and combinations that are held out are never named."""

from __future__ import annotations

import numpy as np
import pytest

from bigr_features.data import captions as rules
from bigr_features.data import load_sample, open_images
from bigr_features.functional.words import split_words


@pytest.fixture(scope="module")
def real():
    images = open_images("sample:fashion_mnist", "test", size=32, in_chans=1)
    return images.read(np.arange(len(images)))[0][..., 0], images.labels


def flat(value: float, rows: int = 32, columns: int = 32) -> np.ndarray:
    image = np.zeros((1, 32, 32))
    image[0, :rows, :columns] = value
    return image


def test_measures_are_what_they_say_of_pictures_by_hand():
    found = rules.measures(flat(0.5, 16, 8))
    assert found["brightness"] == pytest.approx([0.5])
    assert found["breadth"] == pytest.approx([8 / 32])
    assert found["height"] == pytest.approx([16 / 32])
    assert found["contrast"] == pytest.approx([0], abs=1e-12)
    halves = flat(0.4)
    halves[0, :, ::2] = 0.8
    assert rules.measures(halves)["contrast"] == pytest.approx([0.2])
    faint = rules.measures(flat(0.1))  # nothing is visible
    assert all(np.isfinite(values).all() for values in faint.values())


def test_measures_do_not_depend_on_type_and_channels(real):
    images = real[0][:20]
    expected = rules.measures(images)
    for other in (images / 255.0, np.repeat(images[..., None], 3, -1), (images / 255.0).astype(np.float32)):
        for name, values in rules.measures(other).items():
            np.testing.assert_allclose(values, expected[name], rtol=0, atol=1e-6)


def test_thresholds_are_quantiles_of_the_training_images(real):
    images = open_images("sample:fashion_mnist", "train", size=32, in_chans=1)
    found = rules.thresholds_of(images.read(np.arange(len(images)))[0][..., 0], images.labels)
    for name, values in found.items():  # of 400 images a class, where the stored ones are of 6,000
        spread = np.ptp(np.asarray(rules.THRESHOLDS[name]), axis=1)
        assert (np.abs(values - np.asarray(rules.THRESHOLDS[name])) < 0.35 * spread[:, None]).all(), name


@pytest.mark.parametrize("word", rules.RULES)
def test_every_word_is_true_of_about_a_third_of_the_real_images_it_can_be_said_of(real, word):
    images, labels = real
    said = np.isin(labels, rules.CLASSES[rules.RULES[word].measure])
    for label in np.unique(labels[said]):
        share = rules.holds(word, images[labels == label], labels[labels == label]).mean()
        assert 0.12 < share < 0.5, (word, label, share)


def test_opposites_are_never_true_of_one_image(real):
    images, labels = real
    for measure, (low, high) in rules.PAIRS.items():
        said = np.isin(labels, rules.CLASSES[measure])
        both = rules.holds(low, images[said], labels[said]) & rules.holds(high, images[said], labels[said])
        assert not both.any()


def test_dark_images_are_darker_and_wide_ones_wider(real):
    images, labels = real
    shirts = labels == rules.SHIRT
    dark, light = (rules.holds(word, images[shirts], labels[shirts]) for word in ("dark", "light"))
    assert images[shirts][dark].mean() < images[shirts][light].mean()
    bags = labels == rules.BAG
    narrow, wide = (rules.holds(word, images[bags], labels[bags]) for word in ("narrow", "wide"))
    columns = (images[bags] > 51).any(1).sum(1)
    assert columns[narrow].mean() < columns[wide].mean()


def test_each_word_of_a_caption_is_true_of_its_image(real):
    images, labels = real
    images, labels = images[::10], labels[::10]
    texts = rules.captions(images, labels, per_image=4)
    true = rules.attributes(images, labels)
    seen = set()
    for label, own, words in zip(labels, texts, true, strict=True):
        for text in own:
            said = split_words(text)
            assert len(said) <= 12
            assert {word for word in said if word in rules.RULES} <= set(words)
            assert any(f" {noun} " in f" {' '.join(said)} " for noun in rules.NOUNS[label]), text
            assert set(said) <= set(rules.vocabulary())
            seen |= set(said)
    assert seen >= set(rules.RULES)


def test_held_out_combinations_are_never_named_together_and_their_words_are_alone(real):
    images, labels = real
    texts = rules.captions(images, labels, per_image=6)
    true = rules.attributes(images, labels)
    for kind, one, other in rules.HELD_OUT:
        having = [i for i in range(len(labels)) if labels[i] == kind and one in true[i] and other in true[i]]
        assert having, (kind, one, other)
        named = [split_words(text) for i in having for text in texts[i]]
        assert not any(one in words and other in words for words in named)
        assert any(one in words for words in named)
        assert any(other in words for words in named)
    assert rules.is_held_out(rules.BAG, ("light", "wide"))
    assert not rules.is_held_out(rules.BAG, ("light", "narrow"))


def test_captions_depend_on_image_number_and_seed_only(real):
    images, labels = real
    assert rules.captions(images[:30], labels[:30], 2, seed=1) == rules.captions(images[:60], labels[:60], 2, seed=1)[:30]
    assert rules.captions(images[:30], labels[:30], 2, seed=1) != rules.captions(images[:30], labels[:30], 2, seed=2)


def test_articles_fit():
    random = np.random.default_rng(0)
    for _ in range(60):
        assert "a ankle" not in (text := rules.caption(rules.BOOT, (), random)) or "a picture" in text
        assert not rules.caption(rules.TROUSERS, ("dark",), random).startswith("a dark")


def test_what_has_no_rule_is_named():
    sample = load_sample("fashion_mnist")
    images, labels = sample.test_images[:2], np.array([rules.BOOT, rules.BOOT])
    with pytest.raises(ValueError, match="no rule for 'red'; there are rules for dark"):
        rules.holds("red", images, labels)
    with pytest.raises(ValueError, match="'wide' is not said of class 9"):
        rules.holds("wide", images, labels)
    with pytest.raises(ValueError, match="label 12 is out of range"):
        rules.caption(12, (), np.random.default_rng(0))
    with pytest.raises(ValueError, match="per_image=0"):
        rules.captions(images, labels, per_image=0)
