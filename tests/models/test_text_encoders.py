"""Promises of frozen text encoders: loaded from a folder as `save_pretrained` wrote it, recorded, and refused when they are another."""

from __future__ import annotations

import logging
import shutil

import pytest
import torch

from bigr_features import BiGR
from bigr_features.models import text_encoders
from bigr_features.models.text_config import TextConfig
from bigr_features.models.text_encoders import load_text_encoder

from ..helpers import TINY, random_codes, randomized
from ..text import save_encoder

pytest.importorskip("transformers")
PROMPTS = ["a dark bag", "white shirt", ""]


@pytest.fixture(scope="module", params=["t5", "umt5", "clip", "siglip"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("encoders") / kind, kind)


def test_features_are_the_models_own_at_the_recorded_layer(folder, kind):
    encoder = load_text_encoder(folder)
    assert encoder.config.encoder == kind
    assert (encoder.config.width, encoder.config.layer) == (16, -2 if kind == "clip" else -1)
    found = encoder.encode(PROMPTS)
    batch = encoder.tokenizer(PROMPTS[0], return_tensors="pt", padding="max_length" if kind == "siglip" else False, max_length=10)
    given = {} if kind == "siglip" else {"attention_mask": batch["attention_mask"]}
    with torch.no_grad():
        states = encoder.model(input_ids=batch["input_ids"], output_hidden_states=True, **given)
    expected = states.last_hidden_state if kind != "clip" else states.hidden_states[-2]
    torch.testing.assert_close(found.tokens[0, 0, :4], expected[0, :4], rtol=1e-4, atol=1e-5)
    assert found.mask[:, 0].sum(1).tolist() == [4, 3, 0]  # words and the end; an empty prompt is the null caption
    assert found.null[:, 0].tolist() == [False, False, True]
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_a_caption_has_the_same_features_alone_and_in_a_batch(folder):
    encoder = load_text_encoder(folder)
    together = encoder.encode(PROMPTS, at_a_time=2)
    for i, prompt in enumerate(PROMPTS):
        alone = encoder.encode([prompt])
        mask = together.mask[i, 0]
        torch.testing.assert_close(alone.tokens[0, 0][alone.mask[0, 0]], together.tokens[i, 0][mask], rtol=1e-4, atol=1e-5)


def model_for(frozen, **changes) -> BiGR:
    names = ("encoder", "width", "length", "layer", "name", "fingerprint")
    text = TextConfig(**{**{name: getattr(frozen.config, name) for name in names}, **changes})
    return randomized(BiGR(TINY.replace(text=text))).eval()


def test_a_model_reads_prompts_by_the_encoder_that_it_names(folder):
    model = model_for(load_text_encoder(folder, length=8))
    codes = random_codes(model.config)
    x = model.condition(codes, text=["a dark bag", "white shirt"])
    y = model.condition(codes, text=["dark a bag", "white shirt"])
    assert (x[0] - y[0]).abs().max() > 1e-4
    torch.testing.assert_close(x[1], y[1])
    assert not any("shared" in key or "embed_tokens" in key for key in model.state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 24}, "width is 16 and was 24"),
        ({"layer": -2}, "layer is -1 and was -2"),
        ({"length": 5}, "length is 8 and was 5"),
        ({"fingerprint": "0" * 64}, "fingerprint is"),
        ({"encoder": "umt5"}, "encoder is 't5' and was 'umt5'"),
    ],
)
def test_another_encoder_is_refused_by_name_of_what_differs(tmp_path, changes, message):
    encoder = load_text_encoder(save_encoder(tmp_path / "t5"), length=8)
    with pytest.raises(ValueError, match=f"is not the one that the model was trained with.*{message}"):
        model_for(encoder, **changes).attach_text_encoder(encoder)


def test_other_weights_of_the_same_shape_are_another_encoder(tmp_path):
    one = load_text_encoder(save_encoder(tmp_path / "t5"))
    with torch.no_grad():
        for parameter in one.model.parameters():
            parameter.add_(0.01)
    one.model.save_pretrained(tmp_path / "moved")
    one.tokenizer.save_pretrained(tmp_path / "moved")
    moved = load_text_encoder(tmp_path / "moved")
    assert moved.config.fingerprint != one.config.fingerprint
    shutil.copytree(tmp_path / "t5", tmp_path / "copy")
    assert load_text_encoder(tmp_path / "copy").config.fingerprint == one.config.fingerprint


def test_long_captions_are_cut_and_that_is_said(tmp_path, caplog):
    encoder = load_text_encoder(save_encoder(tmp_path / "t5"), length=4)
    with caplog.at_level(logging.WARNING):
        found = encoder.encode(["a dark wide bag a boot", "bag"])
    assert found.length == 4
    assert "caption 0 has 7 tokens, and the model takes 4: cut" in caplog.text
    caplog.clear()
    encoder.encode(["bag " * 100_000])
    assert len(caplog.text) < 500


def test_folders_that_hold_no_encoder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        load_text_encoder(tmp_path / "none")
    whole = save_encoder(tmp_path / "t5")
    for missing, message in [
        ("config.json", "no config.json"),
        ("model.safetensors", "holds no weights"),
        ("tokenizer", "holds no tokenizer"),
    ]:
        part = tmp_path / f"without_{missing}"
        shutil.copytree(whole, part)
        for path in part.glob(f"{missing}*"):
            path.unlink()
        with pytest.raises(FileNotFoundError, match=message):
            load_text_encoder(part)
    with pytest.raises(ValueError, match=r"layer=-9, but .* has 2 layers; give -2..-1"):
        load_text_encoder(whole, layer=-9)
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "bert" / "model.safetensors").write_bytes(b"")
    (tmp_path / "bert" / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="is a bert model; text encoders are t5, umt5, clip, siglip"):
        load_text_encoder(tmp_path / "bert")


def test_a_name_is_looked_up_here_only_if_so_asked(monkeypatch):
    import transformers

    seen = {}

    def from_pretrained(source, **options):
        seen.update(source=source, **options)
        raise OSError("not here")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", from_pretrained)
    for asked, expected in ((None, False), (True, True), (False, False)):
        with pytest.raises(FileNotFoundError, match="no text encoder some/encoder was found"):
            load_text_encoder("some/encoder", local_files_only=asked)
        assert (seen["source"], seen["local_files_only"]) == ("some/encoder", expected)


def test_without_the_library_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'bigr-features\[text\]'"):
        text_encoders.load_text_encoder(tmp_path)


def test_a_model_that_does_not_know_its_encoder_says_so():
    model = BiGR(TINY.replace(text=TextConfig("t5", width=16, length=8)))
    with pytest.raises(ValueError, match="takes features of a t5 encoder of 16 channels and does not know which"):
        model.captions(["a bag"])
    own = BiGR(TINY.replace(text=TextConfig(width=16, num_heads=2, vocabulary=("a",))))
    with pytest.raises(ValueError, match="word-level encoder of its own"):
        own.attach_text_encoder(object())
