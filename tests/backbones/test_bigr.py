"""Promises of the timm entries about weights in two parts: official files, from the Hub or a folder, and folders of training."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch

import bigr_features  # noqa: F401  (registers the models)
from bigr_features.backbones.bigr import checkpoint_filter_fn
from bigr_features.backbones.parts import OFFICIAL_HUB_ID, OFFICIAL_TOKENIZERS
from bigr_features.checkpoints import load_official_generator, save_model

from ..helpers import GoldenSet, assert_same_weights, backbone, pixels

GEN_A, AE = GoldenSet("gen_a"), GoldenSet("ae")
GENERATOR_FILE, TOKENIZER_FILE = GEN_A.folder / "official_checkpoint.pt", AE.folder / "official_bae.th"
# The recorded models in the place of an official architecture. Attention sits on the deepest level at 256 pixels as at 64.
RECORDED = {
    "img_size": 64,
    "channels": 32,
    "channel_multipliers": (1, 1, 2, 2, 2),
    "num_res_blocks": 1,
    "embed_dim": 64,
    "code_dim": 8,
    "depth": 4,
    "width": 64,
    "num_heads": 4,
    "generator_num_classes": 10,
    "denoiser_width": 48,
    "denoiser_depth": 2,
    "residual_dropout": 0.0,
    "ffn_dropout": 0.0,
}


def assert_recorded(model, tokenizer) -> None:
    assert_same_weights(model.generator, load_official_generator(GENERATOR_FILE, GEN_A.config))
    assert_same_weights(model.tokenizer, tokenizer)
    AE.check("code_det", model.encode(AE["image"]).transpose(1, 2).unflatten(2, (4, 4)))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with the two files of an official model."""
    shutil.copy(GENERATOR_FILE, tmp_path / "generator.pt")
    shutil.copy(TOKENIZER_FILE, tmp_path / "tokenizer.th")
    return tmp_path


def test_two_local_files_make_one_model(folder, tokenizer):
    overlay = {"file": str(folder / "generator.pt")}
    assert_recorded(timm.create_model("bigr_l", pretrained=True, pretrained_cfg_overlay=overlay, **RECORDED).eval(), tokenizer)


@pytest.mark.parametrize("changes", [{"generative": False}, {"num_classes": 3}, {"in_chans": 1}, {"features_only": True}])
def test_official_weights_fit_every_form_of_the_model(folder, changes):
    overlay = {"file": str(folder / "generator.pt")}
    model = timm.create_model("bigr_l", pretrained=True, pretrained_cfg_overlay=overlay, **RECORDED, **changes).eval()
    whole = timm.create_model("bigr_l", pretrained=True, pretrained_cfg_overlay=overlay, **RECORDED).eval()
    x = pixels(whole)
    if "features_only" in changes:
        for ours, expected in zip(model(x), whole.forward_intermediates(x, indices=3, intermediates_only=True), strict=True):
            torch.testing.assert_close(ours, expected)
    elif "in_chans" in changes:
        grey = x.mean(1, keepdim=True)
        torch.testing.assert_close(
            model.tokenizer.bit_probabilities(grey), whole.tokenizer.bit_probabilities(grey.expand_as(x)), rtol=1e-4, atol=1e-4
        )
    else:
        torch.testing.assert_close(model.forward_features(x), whole.forward_features(x))


def test_a_local_copy_of_the_folders_on_the_hub_is_one_model(tmp_path, tokenizer):
    cfg = timm.get_pretrained_cfg("bigr_l")
    for source, name in ((GENERATOR_FILE, cfg.hf_hub_filename), (TOKENIZER_FILE, OFFICIAL_TOKENIZERS[cfg.hf_hub_filename])):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, tmp_path / name)
    overlay = {"file": str(tmp_path / cfg.hf_hub_filename)}
    assert_recorded(timm.create_model("bigr_l", pretrained=True, pretrained_cfg_overlay=overlay, **RECORDED).eval(), tokenizer)


def test_official_weights_come_from_the_hub_as_two_files(monkeypatch, tokenizer):
    asked = []

    def download(repo_id, filename, **_):
        asked.append((repo_id, filename))
        return str(GENERATOR_FILE if filename.endswith(".pt") else TOKENIZER_FILE)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    model = timm.create_model("bigr_l.d24_in1k", pretrained=True, **RECORDED).eval()
    assert_recorded(model, tokenizer)
    assert asked == [(OFFICIAL_HUB_ID, "gpt/bigr_L_d24.pt"), (OFFICIAL_HUB_ID, "bae/bae_d24/binaryae_ema_1000000.th")]


def test_every_official_configuration_names_both_of_its_files():
    for arch in ("bigr_l", "bigr_xl", "bigr_xxl", "bigr_xxl_d32", "bigr_l_512"):
        cfg = timm.get_pretrained_cfg(arch)
        assert cfg.hf_hub_id == OFFICIAL_HUB_ID
        assert cfg.hf_hub_filename in OFFICIAL_TOKENIZERS


def test_a_missing_tokenizer_file_is_named(folder):
    (folder / "tokenizer.th").unlink()
    with pytest.raises(FileNotFoundError, match=r"official model, which is two files; its tokenizer \(.*\) was not found"):
        timm.create_model("bigr_l", pretrained=True, pretrained_cfg_overlay={"file": str(folder / "generator.pt")}, **RECORDED)


def test_two_tokenizer_files_are_not_guessed_between(folder):
    shutil.copy(TOKENIZER_FILE, folder / "another.th")
    with pytest.raises(FileNotFoundError, match=r"Several \.th files are there: another\.th, tokenizer\.th"):
        timm.create_model("bigr_l", pretrained=True, pretrained_cfg_overlay={"file": str(folder / "generator.pt")}, **RECORDED)


def test_official_weights_of_another_size_name_the_keys_and_shapes(folder):
    overlay = {"file": str(folder / "generator.pt")}
    with pytest.raises(ValueError, match=r"generator\.embedding\.mask_embedding is \[1, 64\] there and \[1, 32\] here"):
        timm.create_model("bigr_l", pretrained=True, pretrained_cfg_overlay=overlay, **{**RECORDED, "width": 32})
    with pytest.raises(ValueError, match=r"trunk\.blocks\.4\."):
        timm.create_model("bigr_l", pretrained=True, pretrained_cfg_overlay=overlay, **{**RECORDED, "depth": 5})


def test_a_pickle_that_would_execute_code_is_refused_as_pretrained_weights(tmp_path):
    class Attack:
        def __reduce__(self):
            return Path.touch, (tmp_path / "marker",)

    torch.save({"ema": Attack()}, tmp_path / "evil.pt")
    for given in (
        {"pretrained": True, "pretrained_cfg_overlay": {"file": str(tmp_path / "evil.pt")}},
        {"checkpoint_path": str(tmp_path / "evil.pt")},
    ):
        with pytest.raises(Exception, match=r"(?i)refused|weights.only|unsupported"):
            timm.create_model("bigr_l", **RECORDED, **given)
        assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("path", [GENERATOR_FILE, TOKENIZER_FILE], ids=["generator", "tokenizer"])
def test_one_official_file_alone_is_not_a_checkpoint(path):
    with pytest.raises((ValueError, RuntimeError), match=r"official weights"):
        timm.create_model("bigr_l", **RECORDED, checkpoint_path=str(path))


@pytest.mark.parametrize("side", [2, 6])
def test_pretrained_weights_fit_another_image_size(folder, side):
    overlay = {"file": str(folder / "generator.pt")}
    model = timm.create_model("bigr_l", pretrained=True, pretrained_cfg_overlay=overlay, **{**RECORDED, "img_size": 16 * side}).eval()
    x = pixels(model)
    assert model.forward_features(x).shape == (2, side * side, 64)
    assert model.generate(torch.tensor([0, 1]), num_reveal_steps=2, num_denoise_steps=2).shape == x.shape


def test_the_filter_leaves_a_fitting_state_dict_alone():
    model = backbone("tiny", num_classes=3)
    filtered = checkpoint_filter_fn(model.state_dict(), model)
    assert filtered.keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(filtered[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("named", [".", "model"])
def test_a_run_folder_of_training_is_a_pretrained_source(tmp_path, named):
    torch.manual_seed(1)
    trained = timm.create_model("bigr_nano", depth=2).eval()
    save_model(trained.generator, tmp_path / "model")
    save_model(trained.tokenizer, tmp_path / "tokenizer")
    overlay = {"file": str(tmp_path / named)}
    loaded = timm.create_model("bigr_nano", depth=2, pretrained=True, pretrained_cfg_overlay=overlay).eval()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(images), trained(images))
    assert "state_dict" not in loaded.pretrained_cfg


def test_a_run_folder_without_its_tokenizer_says_so(tmp_path):
    save_model(timm.create_model("bigr_nano", depth=2).generator, tmp_path / "model")
    with pytest.raises(FileNotFoundError, match=r"tokenizer holds no model .it has no config\.json"):
        timm.create_model("bigr_nano", depth=2, pretrained=True, pretrained_cfg_overlay={"file": str(tmp_path)})
