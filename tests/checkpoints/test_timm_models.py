"""Promises of `load_weights`: what a timm training wrote fits a feature extractor, and what does not fit is named with its shapes."""

from __future__ import annotations

import pytest
import timm
import torch

from bigr_features import checkpoints

VIT = dict(img_size=32, patch_size=16, depth=1, embed_dim=48, num_heads=3)
FAMILIES = {  # a head, an fc, a classifier, a head.fc, two heads
    "vit_tiny_patch16_224": ("head", VIT),
    "test_resnet": ("fc", {}),
    "test_efficientnet": ("classifier", {}),
    "test_convnext": ("head.fc", {}),
    "deit_tiny_distilled_patch16_224": ("head_dist", VIT),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_classifier_that_the_model_lacks_is_left_out_and_said(tmp_path, caplog, name):
    head, arguments = FAMILIES[name]
    trained = timm.create_model(name, num_classes=7, **arguments)
    torch.save({"epoch": 3, "arch": name, "state_dict": trained.state_dict(), "optimizer": {}}, tmp_path / "last.pth.tar")
    model = timm.create_model(name, num_classes=0, **arguments)
    left = checkpoints.load_weights(model, tmp_path / "last.pth.tar")
    assert {f"{head}.weight", f"{head}.bias"} <= set(left)
    assert "left out the classifier of" in caplog.text
    state = trained.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("entry", [*checkpoints.files.ENTRIES, None])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_entries_and_prefixes_of_training_programs_are_understood(tmp_path, entry, prefix):
    trained = timm.create_model("vit_tiny_patch16_224", num_classes=0, **VIT)
    state = {prefix + key: value for key, value in trained.state_dict().items()}
    torch.save(state if entry is None else {"epoch": 1, entry: state}, tmp_path / "w.pt")
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **VIT)
    assert checkpoints.load_weights(model, tmp_path / "w.pt") == []
    assert checkpoints.fingerprint(model) == checkpoints.fingerprint(trained)


def test_averaged_weights_are_preferred():
    first, second = {"a": torch.zeros(1)}, {"a": torch.ones(1)}
    assert checkpoints.weights_of({"state_dict": first, "state_dict_ema": second}, "w.pt")["a"] == 1


def test_a_classifier_that_fits_is_kept_and_one_of_other_classes_is_named(tmp_path):
    trained = timm.create_model("vit_tiny_patch16_224", num_classes=7, **VIT)
    torch.save(trained.state_dict(), tmp_path / "w.pt")
    same = timm.create_model("vit_tiny_patch16_224", num_classes=7, **VIT)
    assert checkpoints.load_weights(same, tmp_path / "w.pt") == []
    assert torch.equal(same.head.weight, trained.head.weight)
    other = timm.create_model("vit_tiny_patch16_224", num_classes=5, **VIT)
    with pytest.raises(ValueError, match=r"a classifier of 7 classes .*num_classes=5; create it with num_classes=7, or"):
        checkpoints.load_weights(other, tmp_path / "w.pt")


def test_other_differences_are_named_with_both_shapes(tmp_path):
    torch.save(timm.create_model("vit_tiny_patch16_224", num_classes=3, **VIT).state_dict(), tmp_path / "w.pt")
    wider = timm.create_model("vit_tiny_patch16_224", num_classes=0, **{**VIT, "embed_dim": 96})
    with pytest.raises(ValueError, match=r"cls_token is \[1, 1, 48\] there and \[1, 1, 96\] here"):
        checkpoints.load_weights(wider, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"it lacks .*it has cls_token"):
        checkpoints.load_weights(timm.create_model("test_resnet", num_classes=0), tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 1, "net": {"a": torch.zeros(1)}}, "no weights under state_dict_ema.*it holds epoch, net"),
        ({}, "it holds nothing"),
        ({"state_dict": {"a": 3}}, "a is a int, but a tensor of weights is expected"),
    ],
)
def test_content_without_weights_is_named(content, message):
    with pytest.raises(ValueError, match=message):
        checkpoints.weights_of(content, "w.pt")


@pytest.mark.parametrize("num_classes", [0, 4, 7])
def test_a_fine_tuned_bigr_file_loads_with_and_without_its_classifier(tmp_path, num_classes):
    small = {"depth": 1, "width": 32, "num_heads": 2}
    trained = timm.create_model("bigr_nano", num_classes=7, **small)
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "w.bin")
    overlay = {"file": str(tmp_path / "w.bin")}
    model = timm.create_model("bigr_nano", pretrained=True, pretrained_cfg_overlay=overlay, num_classes=num_classes, **small)
    assert checkpoints.fingerprint(model.generator) == checkpoints.fingerprint(trained.generator)
    if num_classes:
        assert (model.head.weight.shape == trained.head.weight.shape and torch.equal(model.head.weight, trained.head.weight)) == (
            num_classes == 7
        )
