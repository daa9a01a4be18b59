"""Promises of the code cache: the tokenizer's own codes, packed, resumable, and never those of another tokenizer."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from bigr_features import BinaryAutoencoder
from bigr_features.checkpoints import fingerprint, load_model, save_model
from bigr_features.data import load_sample, open_images, side_for, views_of
from bigr_features.train.code_cache import CodeCache, EncodeConfig, encode, to_images

from .small import TOKENIZER


@pytest.fixture
def config(tokenizer_folder, tmp_path):
    return EncodeConfig(
        tokenizer=tokenizer_folder, source="sample:digits", out=tmp_path / "cache", limit=50, shard_size=20, batch_size=8,
        device="cpu", threads=1,
    )  # fmt: skip


@pytest.mark.parametrize("views", ["center", "flip", "ten_crop"])
def test_codes_are_those_of_the_tokenizer(config, views):
    cache = encode(replace(config, views=views))
    tokenizer = load_model(config.tokenizer)
    pixels = open_images("sample:digits", size=side_for(16, views), limit=50).read(np.arange(50))[0]
    crops = views_of(pixels, 16, views)
    items = np.array([49, 0, 20, 19, 20])
    for view in range(cache.num_views):
        expected = tokenizer.encode(to_images(crops[items, view], "cpu"))
        found = cache.read(items, np.full(5, view))
        assert (torch.from_numpy(found).float() != expected).float().mean() < 1e-3  # another batch may round a tie differently
    np.testing.assert_array_equal(cache.labels, load_sample("digits").train_labels[:50])
    assert np.load(config.out / "codes_00000.npy").shape == (20, cache.num_views, 16)  # 16 tokens of 8 bits are 16 bytes


def test_an_interrupted_cache_continues_by_shard(config):
    encode(config)
    whole = CodeCache(config.out).read(np.arange(50))
    manifest = json.loads((config.out / "manifest.json").read_text())
    (config.out / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if k != "shards"} | {"complete": False}))
    (config.out / "codes_00001.npy").unlink()
    untouched = (config.out / "codes_00000.npy").stat().st_mtime_ns
    with pytest.raises(ValueError, match="is unfinished; run the same"):
        CodeCache(config.out)
    np.testing.assert_array_equal(encode(config).read(np.arange(50)), whole)
    assert (config.out / "codes_00000.npy").stat().st_mtime_ns == untouched


def test_a_missing_shard_is_named(config):
    encode(config)
    (config.out / "codes_00002.npy").unlink()
    with pytest.raises(FileNotFoundError, match="codes_00002"):
        CodeCache(config.out)


def test_another_tokenizer_is_refused(config, tmp_path):
    cache = encode(config)
    torch.manual_seed(1)
    other = BinaryAutoencoder(TOKENIZER)
    save_model(other, tmp_path / "other")
    with pytest.raises(ValueError, match="made by another tokenizer"):
        cache.check_tokenizer(fingerprint(other))
    with pytest.raises(ValueError, match=r"tokenizer was .* and is now"):
        encode(replace(config, tokenizer=tmp_path / "other"))


def test_another_transform_is_refused(config):
    encode(config)
    with pytest.raises(ValueError, match="views was 'center' and is now 'flip'"):
        encode(replace(config, views="flip"))


def test_drawn_bits_repeat_and_differ_from_thresholded_ones(config, tmp_path):
    drawn = [encode(replace(config, sample_bits=True, out=tmp_path / name)).read(np.arange(50)) for name in ("a", "b")]
    np.testing.assert_array_equal(*drawn)
    assert (drawn[0] != encode(config).read(np.arange(50))).mean() > 0.05


def test_unreadable_images_are_left_out_and_listed(config, tmp_path):
    folder = tmp_path / "images"
    for label in "ab":
        (folder / label).mkdir(parents=True)
    for i, image in enumerate(load_sample("digits").train_images[:9]):
        Image.fromarray(image).save(folder / "ab"[i % 2] / f"{i}.png")
    (folder / "a" / "4.png").write_bytes(b"broken")
    cache = encode(replace(config, source=str(folder), limit=None))
    assert len(cache) == 8
    assert cache.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert "4.png" in (config.out / "skipped.txt").read_text()


def test_no_cache_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="bigr encode"):
        CodeCache(tmp_path)
