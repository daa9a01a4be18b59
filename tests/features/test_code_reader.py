"""Promises of features from cached codes: those of the images, in the same store, without images; only of the cache's own tokenizer."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch

from bigr_features.checkpoints import save_model
from bigr_features.cli import main
from bigr_features.features.extraction import ExtractionSettings, extract_to_store
from bigr_features.features.store import FeatureStore
from bigr_features.train.code_cache import encode
from bigr_features.train.settings import EncodeConfig

IMAGES = ExtractionSettings(source="sample:digits", limit=30, shard_size=12, batch_size=5, precision="fp32", pooling=("mean", "cls"))
SMALL = {"bigr_nano": dict(depth=2, width=32, num_heads=2), "llamagen_nano": dict(depth=2, width=32, num_heads=2)}


def tiny(name: str = "bigr_nano"):
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=0, **SMALL[name]).eval()


@pytest.fixture(scope="module", params=list(SMALL))
def made(request, tmp_path_factory):
    """A model, a cache of its tokenizer's codes, and the tokenizer's folder."""
    folder, model = tmp_path_factory.mktemp(request.param), tiny(request.param)
    save_model(model.tokenizer, folder / "tokenizer")
    shared = dict(source="sample:digits", limit=30, views="flip", device="cpu", precision="fp32", threads=1)
    encode(EncodeConfig(tokenizer=folder / "tokenizer", out=folder / "codes", shard_size=7, batch_size=4, **shared))
    return model, folder / "codes", folder / "tokenizer"


def of_codes(settings: ExtractionSettings, codes, **changes) -> ExtractionSettings:
    return replace(settings, source=None, codes=codes, **changes)


def test_features_of_codes_are_those_of_the_images(made, tmp_path):
    model, codes, _ = made
    bits = model.tokenizer.tokens == "bits"
    settings = replace(IMAGES, bits=bits, condition="label")
    expected = extract_to_store(model, tmp_path / "images", settings, progress=False)
    runs = []
    hook = model.tokenizer.register_forward_pre_hook(lambda *_: runs.append(1))
    encoder = next(model.tokenizer.children()).register_forward_pre_hook(lambda *_: runs.append(1))
    found = extract_to_store(model, tmp_path / "codes", of_codes(settings, codes), progress=False)
    hook.remove()
    encoder.remove()
    assert not runs  # the tokenizer has nothing to do
    assert found.names == expected.names
    for name in found.names:
        np.testing.assert_allclose(found.features(name)[:], expected.features(name)[:], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.class_names == expected.class_names
    assert found.sources.tolist() == [f"sample:digits[{i}]" for i in range(30)]
    assert len(set(found.ids)) == 30
    with pytest.raises(ValueError, match="preprocessing"):  # codes are made of other crops than pixels
        found.check_compatible(expected)


def test_resumed_and_spread_over_ranks_it_gives_the_same_bytes(made, tmp_path):
    model, codes, _ = made
    settings = of_codes(IMAGES, codes, limit=25)
    extract_to_store(model, tmp_path / "one", settings, progress=False)
    assert extract_to_store(model, tmp_path / "two", settings, rank=1, world_size=2, progress=False) is None
    extract_to_store(model, tmp_path / "two", replace(settings, num_workers=1), rank=0, world_size=2, progress=False)
    shutil.copytree(tmp_path / "one", tmp_path / "again")
    for path in [tmp_path / "again" / "shard_00001.json", *(tmp_path / "again").glob("block0*00001.npy")]:
        path.unlink()
    extract_to_store(model, tmp_path / "again", settings, progress=False)
    names = sorted(path.name for path in (tmp_path / "one").iterdir() if not path.name.startswith("."))
    for other in ("two", "again"):
        assert names == sorted(path.name for path in (tmp_path / other).iterdir() if not path.name.startswith("."))
        assert not [name for name in names if (tmp_path / "one" / name).read_bytes() != (tmp_path / other / name).read_bytes()]
    assert len(FeatureStore(tmp_path / "two")) == 25


def test_another_tokenizer_another_model_and_two_sources_are_refused(made, tmp_path):
    model, codes, _ = made
    torch.manual_seed(1)
    other = timm.create_model("bigr_nano", num_classes=0, **SMALL["bigr_nano"])
    with pytest.raises(ValueError, match="was made by another tokenizer"):
        extract_to_store(other, tmp_path / "x", of_codes(IMAGES, codes), progress=False)
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, patch_size=8, depth=1, embed_dim=48)
    with pytest.raises(ValueError, match="VisionTransformer reads images"):
        extract_to_store(vit, tmp_path / "x", of_codes(IMAGES, codes), progress=False)
    with pytest.raises(ValueError, match="both were given"):
        extract_to_store(model, tmp_path / "x", replace(IMAGES, codes=codes), progress=False)
    with pytest.raises(ValueError, match="neither was given"):
        extract_to_store(model, tmp_path / "x", replace(IMAGES, source=None), progress=False)
    with pytest.raises(ValueError, match="sample_bits and image_size are settled"):
        extract_to_store(model, tmp_path / "x", of_codes(IMAGES, codes, image_size=32), progress=False)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("made", ["bigr_nano"], indirect=True)
def test_the_command(made, tmp_path, capsys):
    _, codes, _ = made
    args = ["extract", "--codes", str(codes), "--out", str(tmp_path / "store"), "--device", "cpu", "--threads", "1"]
    small = [f"{name}={value}" for name, value in SMALL["bigr_nano"].items()]
    main([*args, "--model", "bigr_nano", "--random", "--model-args", *small, "--layers", "1"])
    assert "store: 30 items with block1_mean; 0 skipped" in capsys.readouterr().out
    assert FeatureStore(tmp_path / "store").manifest["preprocessing"]["codes"]["views"] == "flip"
    with pytest.raises(SystemExit, match="give --source, the images; or --codes"):
        main(args)
    with pytest.raises(SystemExit, match="--split test has no effect without --source"):
        main([*args, "--model", "bigr_nano", "--split", "test"])
