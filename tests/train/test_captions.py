"""Promises of training on captions: both kinds of encoder from a listing, caches, resuming, and a trunk of classes that goes on."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch

from bigr_features import BiGR
from bigr_features.checkpoints import load_model, save_model
from bigr_features.models.text_config import TextConfig
from bigr_features.models.text_encoders import load_text_encoder
from bigr_features.train.caption_cache import CaptionCache
from bigr_features.train.captions import TrainingCaptions
from bigr_features.train.continuing import start_from, teach_classes
from bigr_features.train.export import export
from bigr_features.train.generator import train
from bigr_features.train.sampler import SampledBatch
from bigr_features.train.settings import ExportConfig

from ..text import captioned_images, save_encoder
from .small import GENERATOR, logged

WORD_MODEL = GENERATOR.replace(text=TextConfig(width=16, length=12, num_heads=2))


@pytest.fixture(scope="module")
def listing(tmp_path_factory):
    return captioned_images(tmp_path_factory.mktemp("images") / "set")


@pytest.fixture
def text_config(train_config, listing):
    def build(**changes):
        return train_config(**{"codes": None, "source": str(listing), "validation": 8, "batch_size": 8, "text": "words", **changes})

    return build


def test_words_are_trained_from_a_listing_and_the_weights_know_their_vocabulary(text_config):
    path = train(text_config(model=WORD_MODEL, sample_every=6, num_samples=4, sample_reveal_steps=2, sample_denoise_steps=2,
                             sample_prompts=("a dark bag", "sandal")))  # fmt: skip
    model = load_model(path)
    assert model.config.text.own
    assert {"bag", "dark", "sandal"} <= set(model.config.text.vocabulary)
    assert model.config.num_classes == 0
    codes = model.generate(text=["a dark bag"], seeds=[0], num_reveal_steps=2, num_denoise_steps=2)
    assert codes.shape == (1, 16, 8)
    assert [line["step"] for line in logged(path.parent, "validation")] == [3, 6]
    assert (path.parent / "samples" / "step_00000006.png").is_file()


def test_the_same_preset_without_a_text_setting_is_trained_on_captions(text_config):
    path = train(text_config(text=None, model=WORD_MODEL, steps=2))
    assert load_model(path).config.text.vocabulary


@pytest.mark.parametrize("kind", ["t5", "clip"])
def test_a_frozen_encoder_of_a_folder_is_read_once_and_recorded(text_config, tmp_path, kind):
    pytest.importorskip("transformers")
    folder = save_encoder(tmp_path / kind, kind)
    path = train(text_config(text=str(folder), model=GENERATOR, steps=2))
    model = load_model(path)
    text = model.config.text
    assert (text.encoder, text.width, text.layer) == (kind, 16, {"t5": -1, "clip": -2}[kind])
    assert not any("encoder" in key for key in model.state_dict() if key.startswith("text."))
    assert len(list((path.parent / "captions").glob("features_*.safetensors"))) == 1
    codes = model.generate(text=["a dark bag"], seeds=[0], num_reveal_steps=2, num_denoise_steps=2)  # the folder is found again
    assert codes.shape == (1, 16, 8)
    other = load_text_encoder(save_encoder(tmp_path / "other", kind, width=24))
    with pytest.raises(ValueError, match=r"not the one that the model was trained with.*width is 24 and was 16"):
        model.attach_text_encoder(other)


def test_a_resumed_run_equals_one_that_was_not_stopped(text_config, tmp_path):
    whole = load_model(train(text_config(model=WORD_MODEL, out=tmp_path / "whole")))
    train(text_config(model=WORD_MODEL, out=tmp_path / "parts", steps=3, schedule="constant"))
    parts = load_model(train(text_config(model=WORD_MODEL, out=tmp_path / "parts", resume=True)))
    for key, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[key]), key


def test_a_trunk_of_classes_goes_on_with_captions_from_where_it_is(text_config, tmp_path):
    torch.manual_seed(0)
    classes = BiGR(GENERATOR).eval()
    save_model(classes, tmp_path / "classes")
    path = train(text_config(weights=tmp_path / "classes", model=replace(WORD_MODEL, class_dropout=0.0), steps=1, learning_rate=0.0))
    model = load_model(path)
    assert model.config.text.zero_init
    codes = torch.randint(2, (2, 16, 8)).float()
    torch.testing.assert_close(model.class_vector(), classes.class_vector(), rtol=0, atol=0)
    given = model.conditioned(model.captions(["a dark bag", "dress"]))
    torch.testing.assert_close(given.vector, classes.class_vector().expand(2, 1, -1), rtol=0, atol=0)
    zero = BiGR(model.config.replace(text=model.config.text.replace(rotation="zero"))).eval()
    zero.load_state_dict(model.state_dict())
    torch.testing.assert_close(zero.condition(codes), classes.condition(codes), rtol=1e-5, atol=1e-5)


def test_captions_of_a_cache_belong_to_its_images_by_number(text_config, tokenizer_folder, listing, tmp_path, caplog):
    from bigr_features.train.code_cache import encode
    from bigr_features.train.settings import EncodeConfig

    encode(EncodeConfig(tokenizer=tokenizer_folder, source=str(listing), out=tmp_path / "codes", device="cpu", threads=1))
    cached = {"source": None, "codes": tmp_path / "codes", "model": WORD_MODEL, "steps": 1}
    with pytest.raises(ValueError, match="a cache holds no captions; give --captions"):
        train(text_config(**cached))
    few = captioned_images(tmp_path / "few", 10)
    with pytest.raises(ValueError, match=r"has 10 images, but the cache .* has 40"):
        train(text_config(**cached, captions=str(few)))
    assert train(text_config(**cached, captions=str(listing))).is_dir()
    assert "is not what was encoded" not in caplog.text


def test_each_step_draws_a_caption_of_the_image_itself():
    captions = TrainingCaptions([("bag",), ("boot", "dark boot", "a boot"), ("dress", "gown")], seed=0)
    captions.read_by(TextConfig(width=8, num_heads=2, length=3, vocabulary=("a", "bag", "boot", "dark", "dress", "gown")), None, None)
    seen = [set(), set(), set()]
    words = captions.text.vocabulary
    for step in range(40):
        batch = captions.batch(SampledBatch(step, np.array([2, 0, 1])))
        again = captions.batch(SampledBatch(step, np.array([2, 0, 1])))
        assert torch.equal(batch.tokens, again.tokens)
        for item, ids in zip([2, 0, 1], batch.tokens[:, 0].tolist(), strict=True):
            seen[item].add(" ".join(words[i - 2] for i in ids if i))
    assert seen == [{"bag"}, {"boot", "dark boot", "a boot"}, {"dress", "gown"}]


def test_the_caption_cache_holds_each_caption_once_in_fp16_and_refuses_others(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    from safetensors import safe_open

    monkeypatch.setattr("bigr_features.train.caption_cache.PER_FILE", 2)
    encoder = load_text_encoder(save_encoder(tmp_path / "t5"))
    texts = ["a dark bag", "light boot", "white shirt black background"]
    cache = CaptionCache(tmp_path / "cache", texts, encoder)
    expected = encoder.encode(texts)
    for row in range(3):
        found = cache.read(np.array([row]))
        assert torch.equal(found.mask[0, 0, : expected.length], expected.mask[row, 0])
        mask = expected.mask[row, 0]
        torch.testing.assert_close(found.tokens[0, 0][found.mask[0, 0]].float(), expected.tokens[row, 0][mask], rtol=1e-3, atol=1e-3)
    with safe_open(tmp_path / "cache" / "features_00000.safetensors", "pt") as file:
        assert file.get_tensor("tokens").dtype == torch.float16
    first = (tmp_path / "cache" / "features_00000.safetensors").stat().st_mtime_ns
    (tmp_path / "cache" / "features_00001.safetensors").unlink()  # as an interruption leaves it
    CaptionCache(tmp_path / "cache", texts, encoder)
    assert (tmp_path / "cache" / "features_00000.safetensors").stat().st_mtime_ns == first
    with pytest.raises(ValueError, match="is of other captions or another encoder: captions_sha256"):
        CaptionCache(tmp_path / "cache", [*texts[:2], "other"], encoder)
    assert json.loads((tmp_path / "cache" / "manifest.json").read_text())["layer"] == -1


def test_what_cannot_be_trained_is_named(text_config, listing, tmp_path):
    with pytest.raises(ValueError, match="no column 'story' of captions; its columns are file_name, caption"):
        train(text_config(caption_column="story"))
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        train(text_config(text=str(tmp_path / "nowhere")))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        train(text_config(text=str(tmp_path / "empty")))
    with pytest.raises(ValueError, match="unconditional trains without labels, but captions"):
        text_config(unconditional=True)
    pytest.importorskip("transformers")
    folder = save_encoder(tmp_path / "t5")
    wide = GENERATOR.replace(text=TextConfig("t5", width=32, length=8))
    with pytest.raises(ValueError, match=r"gives features of 16 channels, but the model has text.width=32; give --model.text.width 16"):
        train(text_config(text=str(folder), model=wide))
    with pytest.raises(ValueError, match="takes features of a t5 encoder; give its folder or name"):
        train(text_config(text=None, model=wide))


def test_captions_are_taught_the_classes_of_a_trunk_before_it_goes_on():
    torch.manual_seed(0)
    classes = BiGR(GENERATOR).eval()
    with torch.no_grad():
        classes.class_embedding.weight.normal_()
    names = ("bag", "boot", "coat")
    text = TextConfig(width=16, num_heads=2, length=3, vocabulary=("a", *names), zero_init=True)
    model = BiGR(GENERATOR.replace(text=text))
    start_from(classes, model, "classes")
    labels = np.arange(30) % 3
    captions = TrainingCaptions([(names[label], f"a {names[label]}") for label in labels], seed=0)
    captions.read_by(text, None, None)
    trunk = {key: value.clone() for key, value in model.state_dict().items() if not key.startswith("text.")}
    assert teach_classes(classes, model, captions, labels, np.arange(30), seed=0) > 0.95
    given = model.eval().conditioned(model.captions(["a boot", "coat"]))
    expected = classes.class_embedding.weight[[1, 2]]
    assert (given.vector[:, 0] - expected).abs().mean() < 0.2 * expected.abs().mean()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in trunk.items())
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())


def test_weights_of_a_model_of_captions_do_not_start_one_of_classes():
    described = BiGR(GENERATOR.replace(text=TextConfig(width=16, num_heads=2, vocabulary=("a",))))
    with pytest.raises(ValueError, match="was trained on captions; train with --text"):
        start_from(described, BiGR(GENERATOR), "there")


def test_a_run_on_captions_is_exported_for_the_hub_with_its_vocabulary(text_config, tmp_path):
    train(text_config(model=GENERATOR, steps=1))
    export(ExportConfig(run=tmp_path / "run", out=tmp_path / "hub", hub=True, dtype="float32"))
    model = timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True).eval()
    trained = load_model(tmp_path / "run" / "model")
    assert model.generator.config.text == trained.config.text
    settings = {"seeds": [0], "num_reveal_steps": 2, "num_denoise_steps": 2}
    assert torch.equal(model.generator.generate(text="a dark bag", **settings), trained.generate(text="a dark bag", **settings))
