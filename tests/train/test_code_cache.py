"""Promises of the code cache: the tokenizer's own codes, packed, resumable, and never those of another tokenizer."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bigr_features import BinaryAutoencoder
from bigr_features.checkpoints import fingerprint, load_model, save_model
from bigr_features.data import load_sample, open_images, side_for, views_of
from bigr_features.data.limits import drawn
from bigr_features.functional.packing import unpack_bits
from bigr_features.train.code_cache import CodeCache, EncodeConfig, encode, to_images
from bigr_features.train.run import read_config

from ..processes import command
from .small import TOKENIZER


@pytest.fixture
def config(tokenizer_folder, tmp_path):
    return EncodeConfig(
        tokenizer=tokenizer_folder, source="sample:digits", out=tmp_path / "cache", limit=50, shard_size=20, batch_size=8,
        device="cpu", precision="fp32", threads=1,
    )  # fmt: skip


@pytest.mark.parametrize("views", ["center", "flip", "ten_crop", "augmented"])
def test_codes_are_those_of_the_tokenizer(config, views):
    cache = encode(replace(config, views=views))
    tokenizer = load_model(config.tokenizer)
    images = open_images("sample:digits", size=side_for(16, views), limit=50)
    pixels = images.read(np.arange(50))[0]
    crops = views_of(pixels, 16, views)
    items = np.array([49, 0, 20, 19, 20])
    for view in range(cache.num_views):
        expected = tokenizer.encode(to_images(crops[items, view], "cpu"))
        found = unpack_bits(cache.read(items, np.full(5, view)), 16, 8)
        assert (torch.from_numpy(found).float() != expected).float().mean() < 1e-3  # another batch may round a tie differently
    mixed = np.arange(5) % cache.num_views
    singles = np.stack([cache.read(items[i : i + 1], mixed[i : i + 1])[0] for i in range(5)])
    np.testing.assert_array_equal(cache.read(items, mixed), singles)
    labels = load_sample("digits").train_labels
    np.testing.assert_array_equal(cache.labels, labels[drawn(labels, len(labels), 50)])
    for view in range(cache.num_views):
        assert np.load(config.out / f"view{view}_00000.npy").shape == (20, 16)  # 16 tokens of 8 bits are 16 bytes
    cache.verify()


def test_an_interrupted_cache_continues_by_shard(config):
    encode(config)
    whole = CodeCache(config.out).read(np.arange(50))
    manifest = json.loads((config.out / "manifest.json").read_text())
    (config.out / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if k != "shards"} | {"complete": False}))
    (config.out / "view0_00001.npy").unlink()
    untouched = (config.out / "view0_00000.npy").stat().st_mtime_ns
    with pytest.raises(ValueError, match=r"code cache .* is unfinished .*run the same `bigr encode` command"):
        CodeCache(config.out)
    np.testing.assert_array_equal(encode(config).read(np.arange(50)), whole)
    assert (config.out / "view0_00000.npy").stat().st_mtime_ns == untouched


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_shard_is_named(config, damage):
    encode(config)
    path = config.out / "view0_00002.npy"
    path.unlink() if damage == "missing" else path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises((FileNotFoundError, ValueError), match=f"view0_00002.npy is {damage}.*same `bigr encode` command"):
        CodeCache(config.out)
    encode(config).verify()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_ranks_write_their_own_shards_and_the_last_one_joins(config, tmp_path, monkeypatch, order):
    """Without meeting each other: each rank runs alone, in any order."""
    alone = encode(replace(config, out=tmp_path / "alone"))
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in order:
        monkeypatch.setenv("RANK", str(rank))
        cache = encode(config)
        assert (cache is None) == (rank != order[-1])
        mine = {f"shard_{shard:05d}.json" for shard in range(rank, 3, 3)}
        assert mine <= {path.name for path in config.out.iterdir()}
    assert cache.manifest == alone.manifest
    assert cache.identity() == alone.identity()
    np.testing.assert_array_equal(cache.read(np.arange(50)), alone.read(np.arange(50)))
    assert read_config(EncodeConfig, config.out).source == config.source


def test_no_rank_waits_for_another(config):
    """A barrier would never be passed here: the other process of the two does not exist."""
    done = command(
        *("encode", "--tokenizer", config.tokenizer, "--source", config.source, "--out", config.out, "--limit", 50),
        *("--shard-size", 20, "--device", "cpu", "--threads", 1, "--precision", config.precision),
        environment={"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in sorted(config.out.glob("shard_*"))] == ["shard_00001.json"]
    assert encode(config) is not None


def test_an_old_cache_is_refused_with_the_command_that_makes_it_anew(config):
    config.out.mkdir()
    old = {"format": 1, "tokenizer": "abc", "views": "center", "num_tokens": 16, "code_dim": 8, "complete": True, "shards": [50]}
    (config.out / "manifest.json").write_text(json.dumps(old))
    for opened in (lambda: CodeCache(config.out), lambda: encode(config)):
        with pytest.raises(ValueError, match=r"has format 1; this version reads format 2. Delete .* and run `bigr encode` again"):
            opened()


def test_a_feature_store_is_no_code_cache(config):
    config.out.mkdir()
    (config.out / "manifest.json").write_text('{"kind": "bigr_features feature store", "format": 1}')
    with pytest.raises(ValueError, match="not the manifest of a code cache"):
        CodeCache(config.out)


def test_another_tokenizer_is_refused(config, tmp_path):
    cache = encode(config)
    torch.manual_seed(1)
    other = BinaryAutoencoder(TOKENIZER)
    save_model(other, tmp_path / "other")
    with pytest.raises(ValueError, match="made by another tokenizer"):
        cache.check_tokenizer(fingerprint(other))
    with pytest.raises(ValueError, match=r"code cache with other settings: tokenizer was .* and is now"):
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
    assert [item["position"] for item in cache.skipped] == [None]  # found when the images were opened


def test_images_that_are_read_later_are_left_out_too(config, tmp_path, monkeypatch):
    """In shards of their own, one of which holds no readable image at all."""
    folder = tmp_path / "images"
    for i, image in enumerate(load_sample("digits").train_images[:9]):
        (folder / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "ab"[i % 2] / f"{i}.png")
    names = sorted(folder.glob("*/*.png"))
    for broken in (3, 4, 8):
        names[broken].write_bytes(b"broken")
    lazily = partial(open_images, memory_limit=0)
    monkeypatch.setattr("bigr_features.train.code_cache.open_images", lazily)
    cache = encode(replace(config, source=str(folder), limit=None, shard_size=4, batch_size=3))
    assert cache.positions.tolist() == [0, 1, 2, 5, 6, 7]
    assert [item["position"] for item in cache.skipped] == [3, 4, 8]
    assert [Path(item["name"]).name for item in cache.skipped] == [names[i].name for i in (3, 4, 8)]
    assert len((config.out / "skipped.txt").read_text().splitlines()) == 3


def test_no_cache_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="bigr encode"):
        CodeCache(tmp_path)
