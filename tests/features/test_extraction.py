"""Promises of extraction: nothing lost or doubled however it is interrupted or spread, and one meaning of every feature."""

from __future__ import annotations

import copy
import io
import json
import os
import random
import shutil
import socket
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from bigr_features import extract_features
from bigr_features.data import load_sample
from bigr_features.data.limits import drawn
from bigr_features.data.sources import open_items
from bigr_features.features import precision as precision_of_stores
from bigr_features.features.extraction import ExtractionSettings, extract_to_store, ranks_of_environment
from bigr_features.features.inputs import image_transform, model_inputs, preprocessing_of
from bigr_features.features.readout import item_generator
from bigr_features.features.store import FeatureStore
from bigr_features.functional import precision
from bigr_features.functional.compiling import COMPILERS
from bigr_features.functional.masking import lowest

from ..processes import kill_when, start

DIGITS = ExtractionSettings(source="sample:digits", limit=50, shard_size=20, batch_size=8, precision="fp32")


def tiny_bigr(**changes):
    torch.manual_seed(0)
    return timm.create_model("bigr_nano", num_classes=0, depth=3, width=32, num_heads=2, **changes)


@pytest.fixture(scope="module")
def bigr():
    return tiny_bigr()


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, patch_size=8, depth=3, embed_dim=48)


@pytest.fixture(scope="module")
def store(bigr, tmp_path_factory):
    settings = replace(DIGITS, bits=True, pooling=("mean", "cls", "max", "concat"))
    return extract_to_store(bigr, tmp_path_factory.mktemp("store"), settings, progress=False)


@pytest.fixture(scope="module")
def inputs(bigr):
    return model_inputs(first_drawn("images", 50), bigr)


def first_drawn(what: str, limit: int) -> np.ndarray:
    """Images or labels of the digits that a limit leaves."""
    sample = load_sample("digits")
    labels = np.asarray(sample.train_labels)
    return getattr(sample, f"train_{what}")[drawn(labels, len(labels), limit)]


def same_files(one: Path, other: Path) -> list[str]:
    """Names of the files of two stores, after asserting that they are equal byte for byte."""
    names = [sorted(path.name for path in folder.iterdir() if not path.name.startswith(".manifest")) for folder in (one, other)]
    assert names[0] == names[1]
    differing = [name for name in names[0] if (one / name).read_bytes() != (other / name).read_bytes()]
    assert not differing
    return names[0]


def test_one_pass_gives_the_hidden_states_of_every_layer(bigr, store, inputs):
    with torch.no_grad():
        codes = bigr.eval().encode(inputs)
        streams = bigr.generator.hidden_states(codes, return_prefix=True)
    for layer, x in enumerate(streams):
        cond, tokens = x[:, 0], x[:, 1:]
        expected = {"mean": tokens.mean(1), "max": tokens.amax(1), "cls": cond, "concat": torch.cat([cond, tokens.mean(1)], 1)}
        for pooling, value in expected.items():
            found = torch.from_numpy(np.array(store.features(f"block{layer}_{pooling}")))
            torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(store.features("bits")[:], codes.flatten(1).numpy())
    np.testing.assert_array_equal(store.labels, first_drawn("labels", 50))
    assert store.class_names == list("0123456789")


def test_arrays_and_store_hold_the_same(bigr, store, inputs):
    found = extract_features(bigr, inputs, layers=[-1, 0], pooling=["mean", "max"], bits=True, batch_size=7, progress=False)
    assert list(found) == ["block2_mean", "block2_max", "block0_mean", "block0_max", "bits"]
    for name, rows in found.items():
        np.testing.assert_allclose(rows, store.features(name)[:], rtol=1e-4, atol=1e-5)


def test_no_block_runs_after_the_last_layer_asked_for(bigr, vit, inputs):
    for model, blocks in ((bigr, bigr.generator.trunk.blocks), (vit, vit.blocks)):
        ran = []
        hooks = [block.register_forward_hook(lambda *_, i=i, ran=ran: ran.append(i)) for i, block in enumerate(blocks)]
        extract_features(model, inputs[:2], layers=[1, 0], progress=False)
        for hook in hooks:
            hook.remove()
        assert ran == [0, 1]


def test_a_timm_vit_is_read_layer_by_layer(vit):
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = extract_features(vit, images, layers=[2, 0], pooling=("mean", "cls", "max", "concat"), batch_size=2, progress=False)
    assert next(iter(found)) == "block2_mean"  # in the order asked for, whatever the order of timm
    streams = {}
    hooks = [block.register_forward_hook(lambda *a, i=i: streams.update({i: a[2]})) for i, block in enumerate(vit.blocks)]
    with torch.no_grad():
        vit.eval()(images)
    for hook in hooks:
        hook.remove()
    for layer in (0, 2):
        cls, tokens = streams[layer][:, 0], streams[layer][:, 1:]
        expected = {"mean": tokens.mean(1), "cls": cls, "max": tokens.amax(1), "concat": torch.cat([cls, tokens.mean(1)], 1)}
        for pooling, value in expected.items():
            torch.testing.assert_close(torch.from_numpy(found[f"block{layer}_{pooling}"]), value, rtol=1e-4, atol=1e-5)


def test_a_resnet_is_read_by_feature_maps(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=0)
    settings = replace(DIGITS, limit=6, image_size=64, pooling=("mean", "max"))
    store = extract_to_store(model, tmp_path / "s", settings, name="resnet10t", progress=False)
    assert store.names == [f"block{i}_{pooling}" for i in range(5) for pooling in ("mean", "max")]
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model) | {"input_size": (3, 64, 64)})
    images = torch.stack([transform(Image.fromarray(image).convert("RGB")) for image in first_drawn("images", 6)])
    with torch.no_grad():
        _, maps = model.eval().forward_intermediates(images)
    for layer, grid in enumerate(maps):
        torch.testing.assert_close(
            torch.from_numpy(np.array(store.features(f"block{layer}_mean"))), grid.mean((2, 3)), rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(torch.from_numpy(np.array(store.features(f"block{layer}_max"))), grid.amax((2, 3)), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="pooling='cls' needs a class token"):
        extract_features(model, images, pooling="cls", progress=False)
    with pytest.raises(ValueError, match="bits, mask_ratio can be asked of BiGR models only, not of ResNet"):
        extract_features(model, images, bits=True, mask_ratio=0.5, progress=False)
    with pytest.raises(ValueError, match="a class condition can be given to BiGR models only"):
        extract_features(model, images, labels=1, progress=False)


def test_images_of_any_size_go_through_the_models_own_transform(vit, tmp_path):
    sizes = [(40, 70), (100, 33), (32, 32)]
    draw = np.random.default_rng(0)
    for i, size in enumerate(sizes):
        Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    settings = ExtractionSettings(source=str(tmp_path), layers=(-1,), precision="fp32")
    store = extract_to_store(vit, tmp_path / "out", settings, progress=False)
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=vit) | {"input_size": (3, 32, 32)})
    images = torch.stack([transform(Image.open(tmp_path / f"{i}.png")) for i in range(3)])
    np.testing.assert_allclose(store.features("block2_mean")[:], extract_features(vit, images, progress=False)[2], rtol=1e-4, atol=1e-5)
    assert store.manifest["preprocessing"] == json.loads(json.dumps(preprocessing_of(vit)))


def test_the_class_condition(bigr, inputs, tmp_path):
    labels = first_drawn("labels", 50)
    given = extract_to_store(bigr, tmp_path / "given", replace(DIGITS, condition="label"), progress=False)
    three = extract_to_store(bigr, tmp_path / "three", replace(DIGITS, condition="3"), progress=False)
    with torch.no_grad():
        codes = bigr.eval().encode(inputs)
        expected = bigr.generator.hidden_states(codes, torch.from_numpy(labels))
    for layer in range(3):
        np.testing.assert_allclose(given.features(f"block{layer}_mean")[:], expected[layer].mean(1), rtol=1e-4, atol=1e-5)
    plain = extract_features(bigr, inputs, progress=False)[2]
    assert not np.allclose(given.features("block2_mean")[:], plain, atol=1e-4)
    again = extract_features(bigr, inputs, labels=3, progress=False)[2]
    np.testing.assert_allclose(three.features("block2_mean")[:], again, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(three.features("block2_mean")[labels == 3], given.features("block2_mean")[labels == 3], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="condition is 'label' there and '3' here"):
        given.check_compatible(three)


def test_masks_and_sampled_bits_belong_to_the_item_and_not_to_the_batch(bigr, store, inputs, tmp_path):
    axes = dict(mask_ratio=0.4, sample_bits=True, seed=5)
    settings = replace(DIGITS, bits=True, **axes)
    one = extract_to_store(bigr, tmp_path / "one", settings, progress=False)
    other = extract_to_store(bigr, tmp_path / "other", replace(settings, batch_size=3, shard_size=7), progress=False)
    np.testing.assert_array_equal(one.features("bits")[:], other.features("bits")[:])
    np.testing.assert_allclose(one.features("block2_mean")[:], other.features("block2_mean")[:], rtol=1e-4, atol=1e-5)

    seeds = np.array([int(item[:16], 16) for item in one.ids], dtype=np.uint64)
    with torch.no_grad():
        probability = bigr.eval().tokenizer.bit_probabilities(inputs)
        codes = torch.stack([torch.bernoulli(p, generator=item_generator(5, s, 0)) for p, s in zip(probability, seeds, strict=True)])
        mask = lowest(torch.stack([torch.rand(64, generator=item_generator(5, s, 1)) for s in seeds]), round(0.4 * 64))
        expected = bigr.generator.hidden_states(codes, mask=mask, layers=[2])[0].mean(1)
    np.testing.assert_array_equal(one.features("bits")[:], codes.flatten(1).numpy())
    np.testing.assert_allclose(one.features("block2_mean")[:], expected, rtol=1e-4, atol=1e-5)
    assert not np.array_equal(one.features("bits")[:], store.features("bits")[:])

    arrays = extract_features(bigr, inputs, layers=2, item_seeds=seeds, batch_size=9, progress=False, **axes)[2]
    np.testing.assert_allclose(arrays, expected, rtol=1e-4, atol=1e-5)
    reseeded = extract_features(bigr, inputs, layers=2, item_seeds=seeds, progress=False, **axes | {"seed": 6})[2]
    assert not np.allclose(reseeded, arrays, atol=1e-4)


def test_bf16_is_close_to_fp32(vit, tmp_path):
    stores = [extract_to_store(vit, tmp_path / dtype, replace(DIGITS, precision=dtype), progress=False) for dtype in ("fp32", "bf16")]
    full, half = (store.features("block2_mean")[:] for store in stores)
    assert half.dtype == np.float32
    assert not np.array_equal(full, half)
    cosine = (full * half).sum(1) / np.linalg.norm(full, axis=1) / np.linalg.norm(half, axis=1)
    assert cosine.min() > 0.999
    with pytest.raises(ValueError, match="dtype is 'fp32' there and 'bf16' here"):
        stores[0].check_compatible(stores[1])


@pytest.mark.skipif(all(shutil.which(name) is None for name in COMPILERS), reason="torch.compile needs a C++ compiler")
def test_compiled_blocks_give_the_same_features(bigr, store, tmp_path):
    compiled = extract_to_store(bigr, tmp_path, replace(DIGITS, compile=True, limit=24), progress=False)
    for name in compiled.names:
        rows = dict(zip(store.ids, store.features(name)[:], strict=True))
        expected = np.stack([rows[item] for item in compiled.ids])
        np.testing.assert_allclose(compiled.features(name)[:], expected, rtol=0, atol=1e-5)
    assert all(block._compiled_call_impl is None for block in bigr.generator.trunk.blocks)


@pytest.mark.parametrize(
    ("ratio", "changes", "expected"),
    [
        (0.5, {}, "bf16"),
        (60.0, {}, "fp32"),
        (0.5, {"bits": True}, "fp32"),
    ],
    ids=["bf16 is faster", "bf16 is slower", "bits"],
)
def test_auto_takes_the_faster_precision_that_gives_the_same_and_a_store_keeps_it(bigr, tmp_path, monkeypatch, ratio, changes, expected):
    settings = replace(DIGITS, precision="auto", **changes)
    monkeypatch.setattr(precision, "bf16_time_ratio", lambda *shape: ratio)
    store = extract_to_store(bigr, tmp_path / "auto", settings, progress=False)
    assert store.manifest["dtype"] == store.manifest["precision"]["precision"] == expected
    if expected == "bf16":
        assert store.manifest["precision"]["bf16_over_fp32_time"] == ratio
        assert 0.999 <= store.manifest["precision"]["cosine_to_fp32"] < 1
    named = extract_to_store(bigr, tmp_path / "named", replace(settings, precision=expected), progress=False)
    np.testing.assert_array_equal(store.features("block2_mean")[:], named.features("block2_mean")[:])

    begun = tmp_path / "begun"
    shutil.copytree(tmp_path / "auto", begun)
    removed = list(begun.glob("*00001*"))
    assert removed
    for path in removed:
        path.unlink()
    manifest = json.loads((begun / "manifest.json").read_text())
    (begun / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    monkeypatch.setattr(precision, "bf16_time_ratio", lambda *shape: 60.0 if expected == "bf16" else 0.5)
    again = extract_to_store(bigr, begun, settings, progress=False)
    assert again.manifest["precision"] == store.manifest["precision"]
    np.testing.assert_array_equal(store.features("block2_mean")[:], again.features("block2_mean")[:])


def test_features_that_bf16_changes_are_made_in_fp32(bigr, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(precision, "bf16_time_ratio", lambda *shape: 0.5)
    monkeypatch.setattr(precision_of_stores, "LEAST_COSINE", 1.0)
    with caplog.at_level("WARNING"):
        store = extract_to_store(bigr, tmp_path, replace(DIGITS, precision="auto"), progress=False)
    assert store.manifest["dtype"] == "fp32"
    assert "taking fp32" in caplog.text


# ------------------------------------------------------------------------------------------- interrupted, and spread over processes


def work(job: dict) -> None:
    """An extraction in a process of its own; its batches take a while."""
    torch.set_num_threads(1)
    model = tiny_bigr()
    model.tokenizer.encoder.register_forward_hook(lambda *_: time.sleep(job["pause"]))
    extract_to_store(model, job["out"], job["settings"], rank=job.get("rank", 0), world_size=job.get("world", 1), progress=False)


def test_killed_ten_times_and_resumed_gives_the_same_bytes(bigr, tmp_path):
    axes = dict(bits=True, mask_ratio=0.3, sample_bits=True)
    settings = ExtractionSettings(source="sample:fashion_mnist", limit=160, shard_size=5, batch_size=2, **axes, precision="fp32")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    extract_to_store(bigr, whole, settings, progress=False)
    job = {"out": killed, "settings": settings, "pause": 0.015}
    draw, kills = random.Random(0), 0

    def shards() -> int:
        return len(list(killed.glob("shard_*.json")))

    for kill in range(10):
        before, more, later = shards(), draw.randint(0, 2), time.monotonic() + draw.uniform(0.2, 0.6)
        process = start(work, job)
        if kill % 2:  # while files of a shard are being written
            kills += kill_when(process, lambda: shards() >= before + more and any(killed.glob(".b*_*")))  # noqa: B023
        else:
            kills += kill_when(process, lambda: shards() >= before + more and time.monotonic() > later)  # noqa: B023
    assert kills == 10
    assert 0 < shards() < 32
    process = start(work, job | {"pause": 0})
    process.join(120)
    assert process.exitcode == 0
    names = same_files(killed, whole)
    assert len([name for name in names if name.startswith(("block", "bits", "ids", "labels"))]) == 32 * 6


def test_two_ranks_at_once_equal_one(bigr, tmp_path):
    settings = ExtractionSettings(source="sample:fashion_mnist", limit=50, shard_size=6, batch_size=4, precision="fp32")
    extract_to_store(bigr, tmp_path / "one", settings, progress=False)
    jobs = [{"out": tmp_path / "two", "settings": settings, "pause": 0.01, "rank": rank, "world": 2} for rank in range(2)]
    processes = [start(work, job) for job in jobs]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    same_files(tmp_path / "one", tmp_path / "two")


def test_workers_that_read_ahead_change_nothing(bigr, tmp_path):
    extract_to_store(bigr, tmp_path / "one", DIGITS, progress=False)
    extract_to_store(bigr, tmp_path / "two", replace(DIGITS, num_workers=2), progress=False)
    same_files(tmp_path / "one", tmp_path / "two")


def test_ray_workers_equal_one_process(bigr, tmp_path):
    pytest.importorskip("ray.data")
    from bigr_features.features.extraction_ray import extract_with_ray

    extract_to_store(bigr, tmp_path / "one", DIGITS, progress=False)
    store = extract_with_ray(bigr, tmp_path / "ray", DIGITS, workers=2, progress=False)
    assert len(store) == 50
    same_files(tmp_path / "one", tmp_path / "ray")


def test_a_run_of_another_model_or_source_is_refused(bigr, vit, tmp_path):
    extract_to_store(bigr, tmp_path / "s", DIGITS, progress=False)
    assert extract_to_store(bigr, tmp_path / "s", replace(DIGITS, num_workers=0), progress=False) is not None
    before = (tmp_path / "s" / "manifest.json").read_bytes()
    with pytest.raises(ValueError, match=r"model was 'bigr_nano.* and is now 'vit_tiny.*weights_sha256 was .*preprocessing.mean was"):
        extract_to_store(vit, tmp_path / "s", DIGITS, progress=False)
    with pytest.raises(ValueError, match="listing_sha256 was"):
        extract_to_store(bigr, tmp_path / "s", replace(DIGITS, split="test"), progress=False)
    with pytest.raises(ValueError, match=r"layers was \[0, 1, 2\] and is now \[1\]"):
        extract_to_store(bigr, tmp_path / "s", replace(DIGITS, layers=(1,)), progress=False)
    other = tiny_bigr()
    with torch.no_grad():
        other.generator.class_embedding.weight[0, 0] += 1
    with pytest.raises(ValueError, match="with other settings: weights_sha256 was"):
        extract_to_store(other, tmp_path / "s", DIGITS, progress=False)
    assert (tmp_path / "s" / "manifest.json").read_bytes() == before


# ----------------------------------------------------------------------------------------------------------------- broken images


def encoded(kind: str, **options) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind, **options)
    return buffer.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size."""
    content = bytearray(encoded("PNG"))
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def broken_files() -> dict[str, bytes]:
    """Broken images of many kinds, by file name."""
    kinds = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tiff": "TIFF", "ppm": "PPM"}
    files = {f"truncated.{suffix}": encoded(kind)[: len(encoded(kind)) // 2] for suffix, kind in kinds.items()}
    flipped = bytearray(encoded("PNG"))
    flipped[60] ^= 255
    return files | {
        "zero_bytes.png": b"",
        "zero_bytes.jpg": b"",
        "text.png": b"this is no picture\n",
        "page.jpg": b"<!doctype html><title>404</title>",
        "wrong_magic.png": b"\x00\x00" + encoded("PNG")[2:],
        "random.jpeg": random.Random(0).randbytes(500),
        "only_the_start.jpg": b"\xff\xd8",
        "only_the_header.webp": b"RIFF\x10\x00\x00\x00WEBP",
        "archive.png": b"PK\x03\x04" + bytes(100),
        "packed.png": zlib.compress(encoded("PNG")),
        "bomb.png": png_of_size(60_000, 60_000),
        "no_width.png": png_of_size(0, 48),
        "damaged_pixels.png": bytes(flipped),
        "zeros.bmp": bytes(2000),
    }


def test_broken_images_are_listed_and_none_is_lost_or_doubled(bigr, tmp_path, caplog):
    source = tmp_path / "source"
    broken, good = [], []
    for folder in ("cat", "dog"):
        (source / folder).mkdir(parents=True)
    for name, content in broken_files().items():
        path = source / ("cat" if len(broken) % 2 else "dog") / name
        path.write_bytes(content)
        broken.append(path)
    folder, link, loop, pipe, closed = (source / "dog" / f"{name}.png" for name in ("folder", "link", "loop", "pipe", "closed"))
    folder.mkdir()
    link.symlink_to(source / "nothing.png")
    loop.symlink_to(loop)
    os.mkfifo(pipe)
    broken += [folder, link, loop, pipe]
    if os.geteuid():
        closed.write_bytes(encoded("PNG"))
        closed.chmod(0)
        broken.append(closed)
    for i in range(14):
        path = source / ("cat" if i % 2 else "dog") / f"{'abcdefghijklmnopqrstuvwxyz'[2 * (i // 2)]}{i}.png"
        Image.fromarray(np.full((40, 40, 3), 10 * min(i, 11), np.uint8)).save(path)  # the last three show the same
        good.append(path)
    assert len(broken) >= 20

    settings = ExtractionSettings(source=str(source), batch_size=3, shard_size=4, precision="fp32")
    store = extract_to_store(bigr, tmp_path / "out", settings, progress=False)
    assert [item["name"] for item in store.skipped] == sorted(map(str, broken), key=lambda name: Path(name))
    assert store.sources.tolist() == [str(path) for path in sorted(good)]
    assert all(item["reason"] and " at 0x" not in item["reason"] for item in store.skipped)
    assert sum(caplog.text.count(f"skipped {path}:") for path in broken) == len(broken)
    reasons = {Path(item["name"]).name: item["reason"] for item in store.skipped}
    assert "DecompressionBomb" in reasons["bomb.png"]
    assert "folder" in reasons["folder.png"]
    assert "does not exist" in reasons["link.png"]
    assert store.labels.tolist() == [0 if path.parent.name == "cat" else 1 for path in sorted(good)]
    assert sorted(len(item) for item in store.ids) == [32] * 12 + [34] * 2
    assert len(set(store.ids)) == 14

    alone = tmp_path / "alone"
    for path in good:
        (alone / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, alone / path.parent.name)
    clean = extract_to_store(bigr, tmp_path / "clean", replace(settings, source=str(alone)), progress=False)
    assert clean.ids.tolist() == store.ids.tolist()
    np.testing.assert_allclose(clean.features("block2_mean")[:], store.features("block2_mean")[:], rtol=1e-4, atol=1e-5)


def test_a_socket_and_a_folder_with_the_name_of_an_image(tmp_path):
    (tmp_path / "class.png").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "class.png" / "a.png")
    with socket.socket(socket.AF_UNIX) as server:
        where = os.getcwd()
        os.chdir(tmp_path)  # the path of a socket must be short
        try:
            server.bind("class.png/s.png")
        finally:
            os.chdir(where)
        items = open_items(str(tmp_path), "train")
    assert [Path(items.name(i)).name for i in range(len(items))] == ["a.png", "s.png"]
    assert items.class_names == ("class.png",)


def test_linked_class_folders_are_read_and_loops_end(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "source")
    assert len(open_items(str(tmp_path / "source"), "train")) == 1


def test_only_broken_images_are_an_error(bigr, tmp_path):
    (tmp_path / "source").mkdir()
    for i in range(3):
        (tmp_path / "source" / f"{i}.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"none of the 3 images can be read; the first is .*0\.png: UnidentifiedImageError"):
        extract_to_store(bigr, tmp_path / "out", ExtractionSettings(source=str(tmp_path / "source")), progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(layers=(3,)), "layer 3 is out of range"),
        (dict(layers=()), "layers is empty"),
        (dict(pooling=("median",)), "pooling='median' is unknown"),
        (dict(pooling=("mean", "mean")), "given twice"),
        (dict(pooling=()), "no pooling was given"),
        (dict(mask_ratio=1.0), "mask_ratio=1.0"),
        (dict(mask_ratio=0.001), "mask_ratio=0.001 hides none or all of 64 tokens"),
        (dict(condition="cat"), "condition='cat'; give null, label, or a class index"),
        (dict(condition="99999"), "label 99999 is out of range"),
        (dict(precision="fp8"), "precision='fp8'"),
        (dict(precision="int8", compile=True), "compile does not go with int8"),
        (dict(image_size=64), "built for 32 x 32"),
        (dict(batch_size=0), "batch_size=0"),
        (dict(shard_size=0), "shard_size=0"),
        (dict(limit=0), "limit=0"),
        (dict(split="valid"), "no split 'valid'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_wrong_settings_are_named_before_anything_is_written(bigr, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        extract_to_store(bigr, tmp_path / "out", replace(DIGITS, **change), progress=False)
    assert not (tmp_path / "out").exists()


def test_bits_alone_need_no_layer(bigr, store, tmp_path):
    alone = extract_to_store(bigr, tmp_path, replace(DIGITS, layers=(), bits=True), progress=False)
    assert alone.names == ["bits"]
    np.testing.assert_array_equal(alone.features("bits")[:], store.features("bits")[:])


def test_a_model_without_generative_parts_has_no_mask(tmp_path):
    with pytest.raises(ValueError, match="generative=True"):
        extract_to_store(tiny_bigr(generative=False), tmp_path / "out", replace(DIGITS, mask_ratio=0.5), progress=False)


def test_gray_models_take_gray_images(tmp_path):
    torch.manual_seed(0)
    gray = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, patch_size=8, depth=1, embed_dim=48, in_chans=1)
    store = extract_to_store(gray, tmp_path / "out", replace(DIGITS, limit=3), progress=False)
    assert store.manifest["preprocessing"]["mode"] == "L"
    found = extract_features(gray, model_inputs(first_drawn("images", 3), gray), progress=False)[0]
    np.testing.assert_allclose(store.features("block0_mean")[:], found, rtol=1e-4, atol=1e-5)


def test_ranks_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert ranks_of_environment() == (2, 4)
    monkeypatch.setenv("RANK", "two")
    with pytest.raises(ValueError, match="RANK and WORLD_SIZE"):
        ranks_of_environment()


class TestStoresOfOlderVersions:
    """They name their preprocessing by the text of a transform: read as they are, compared with their like, never continued."""

    @pytest.fixture
    def older(self, store, tmp_path):
        def make(text="Compose( Resize(32) )"):
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            shutil.copytree(store.folder, folder)
            manifest = json.loads((folder / "manifest.json").read_text())
            manifest = {key: value for key, value in manifest.items() if key != "preprocessing"} | {"transform": text, "mode": "RGB"}
            (folder / "manifest.json").write_text(json.dumps(manifest))
            return folder

        return make

    def test_reading_and_comparing(self, store, older):
        first, second, other = (FeatureStore(older(text)) for text in ("a", "a", "b"))
        np.testing.assert_array_equal(first.features("block1_mean")[:], store.features("block1_mean")[:])
        first.check_compatible(second)
        assert first.fingerprint == second.fingerprint != other.fingerprint
        with pytest.raises(ValueError, match="preprocessing is 'b' there and 'a' here"):
            other.check_compatible(first)
        with pytest.raises(ValueError, match=r"preprocessing is \{.* there and 'a' here"):
            store.check_compatible(first)

    def test_continuing_is_refused(self, bigr, older):
        folder = older()
        before = sorted(path.name for path in folder.iterdir())
        settings = replace(DIGITS, bits=True, pooling=("mean", "cls", "max", "concat"))
        with pytest.raises(ValueError, match="begun by an older version, which recorded its preprocessing as text"):
            extract_to_store(bigr, folder, settings, progress=False)
        assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    "change",
    [{"crop_pct": 0.5}, {"crop_mode": "squash"}, {"interpolation": "nearest"}, {"mean": (0.1, 0.1, 0.1)}, {"std": (0.1, 0.2, 0.3)}],
)
def test_every_part_of_the_preprocessing_tells_stores_apart(vit, change, tmp_path):
    settings, model = replace(DIGITS, limit=8, layers=(0,)), copy.deepcopy(vit)
    store = extract_to_store(vit, tmp_path / "one", settings, progress=False)
    model.pretrained_cfg = {**model.pretrained_cfg, **change}
    other = extract_to_store(model, tmp_path / "out", settings, progress=False)
    (name,) = change
    with pytest.raises(ValueError, match=rf"preprocessing\.{name} is .* there and .* here"):
        store.check_compatible(other)


def test_preprocessing_survives_json_and_makes_the_transform(vit):
    for model, size in ((vit, None), (tiny_bigr(), 32), (tiny_bigr(in_chans=1), None)):
        found = preprocessing_of(model, size)
        assert json.loads(json.dumps(found)) == found
        assert set(found) == {"input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode", "mode"}
        transform, mode = image_transform(model, size)
        assert mode == found["mode"] == ("L" if found["input_size"][0] == 1 else "RGB")
        assert list(transform(Image.new(mode, (50, 40))).shape) == found["input_size"]
