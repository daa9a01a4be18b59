"""Promises of the backbone beyond timm's: features are the paper's, the whole generator is at hand, and data is checked where it enters."""

from __future__ import annotations

import pytest
import torch

from bigr_features import BiGR, BinaryAutoencoder, GeneratorConfig, TokenizerConfig
from bigr_features.backbones.backbone import BiGRBackbone
from bigr_features.functional.positions import resample_positions

from ..helpers import BACKBONES, TINY, TINY_TOKENIZER, GoldenSet, backbone, pixels, randomized

each_model = pytest.mark.parametrize("name", BACKBONES)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_recorded_tokenizer_and_generator_make_the_recorded_features(golden, generator, tokenizer):
    """The two recorded models fit each other: 4 x 4 tokens of 8 bits. Pixels, through recorded bits, to the features of each layer."""
    golden_images = GoldenSet("ae")
    config = tokenizer.config
    for layer in range(golden.config.depth):
        model = BiGRBackbone(config, golden.config, feature_layer=layer).eval()
        model.tokenizer.load_state_dict(tokenizer.state_dict())
        model.generator.load_state_dict(generator.state_dict())
        codes = model.encode(golden_images["image"])
        golden_images.check("code_det", codes.transpose(1, 2).unflatten(2, (4, 4)))
        expected = generator.hidden_states(codes, golden["input.null_labels"])[layer]
        torch.testing.assert_close(model.forward_features(golden_images["image"]), expected)
        torch.testing.assert_close(model(golden_images["image"]), expected.mean(1))


@each_model
def test_features_are_the_mean_of_the_middle_layer_for_the_null_class_with_nothing_hidden(name):
    model = backbone(name)
    x = pixels(model)
    depth = model.generator.config.depth
    assert model.feature_layer == depth // 2 - 1
    hidden = model.generator.hidden_states(model.encode(x), labels=None, mask=None)
    torch.testing.assert_close(model(x), hidden[depth // 2 - 1].mean(1))


@each_model
@pytest.mark.parametrize("layer", [0, 2, -1, -2])
def test_the_feature_layer_may_be_chosen(name, layer):
    model = backbone(name, feature_layer=layer)
    x = pixels(model)
    assert model.feature_layer == layer % model.generator.config.depth
    torch.testing.assert_close(model.forward_features(x), model.generator.hidden_states(model.encode(x), layers=[layer])[0])


@pytest.mark.parametrize("depth", range(1, 8))
def test_the_default_layer_exists_at_every_depth(depth):
    model = backbone("tiny", depth=depth)
    assert model.feature_layer == max(depth // 2 - 1, 0)
    assert model(pixels(model)).isfinite().all()


@each_model
@pytest.mark.parametrize("layer", [8, -9, 100])
def test_a_feature_layer_out_of_range_is_refused(name, layer):
    with pytest.raises(ValueError, match=f"layer {layer} is out of range"):
        backbone(name, depth=8, feature_layer=layer)


@each_model
def test_gradient_passes_through_the_bits_to_the_pixels(name):
    model = backbone(name)
    x = pixels(model).requires_grad_()
    model(x).square().sum().backward()
    assert x.grad.abs().sum() > 0


@each_model
def test_the_parts_are_the_tokenizer_and_the_generator(name):
    model = backbone(name)
    assert isinstance(model.tokenizer, BinaryAutoencoder)
    assert isinstance(model.generator, BiGR)
    assert model.tokenizer.grid_size == model.generator.config.grid_size
    assert model.tokenizer.config.code_dim == model.generator.config.code_dim


@each_model
def test_images_go_to_codes_and_back(name):
    model = backbone(name)
    x, config = pixels(model), model.generator.config
    codes = model.encode(x)
    assert codes.shape == (2, config.num_tokens, config.code_dim)
    torch.testing.assert_close(codes, model.tokenizer.encode(x), rtol=0, atol=0)
    assert model.decode(codes).shape == x.shape
    first, again = (model.encode(x, sample=True, generator=seeded(1)) for _ in range(2))
    assert torch.equal(first, again)


@each_model
def test_the_loss_of_images_is_the_loss_of_their_codes_and_leaves_the_tokenizer_alone(name):
    model = backbone(name)
    x, labels = pixels(model), torch.tensor([0, 1])
    of_images = model.loss(x, labels, generator=seeded())
    of_codes = model.loss(model.encode(x).detach(), labels, generator=seeded())
    alone = model.generator.loss(model.encode(x).detach(), labels, generator=seeded())
    torch.testing.assert_close(of_images.loss, of_codes.loss, rtol=0, atol=0)
    torch.testing.assert_close(of_images.loss, alone.loss, rtol=0, atol=0)
    of_images.loss.backward()
    assert all(parameter.grad is None for parameter in model.tokenizer.parameters())
    assert model.generator.class_embedding.weight.grad.abs().sum() > 0


@each_model
def test_generated_images_are_decoded_codes_within_zero_and_one(name):
    model = backbone(name)
    labels, settings = torch.tensor([0, 1]), {"num_reveal_steps": 2, "num_denoise_steps": 2}
    images = model.generate(labels, **settings, generator=seeded())
    assert images.shape == pixels(model).shape
    assert (images.min(), images.max()) >= (0, 0)
    assert images.max() <= 1
    codes = model.generator.generate(labels, **settings, generator=seeded())
    torch.testing.assert_close(images, model.decode(codes).clamp(0, 1))
    assert not images.requires_grad


@each_model
def test_without_generative_parts_the_features_are_the_same_and_the_rest_says_what_to_do(name):
    whole, part = backbone(name), backbone(name, generative=False)
    part.load_state_dict(whole.state_dict())
    x = pixels(whole)
    torch.testing.assert_close(part(x), whole(x))
    torch.testing.assert_close(part.encode(x), whole.encode(x))
    assert len(part.generator.trunk.blocks) == part.feature_layer + 1
    kept = set(part.state_dict())
    assert kept < set(whole.state_dict())
    assert not any("decoder" in key or "transcoder" in key for key in kept)
    codes = whole.encode(x)
    for call in (lambda: part.decode(codes), lambda: part.loss(x), lambda: part.generate(torch.tensor([0]))):
        with pytest.raises(RuntimeError, match=r"generative=True"):
            call()


def test_codes_of_two_widths_cannot_be_combined():
    with pytest.raises(ValueError, match=r"the tokenizer has code_dim=5, the generator 6"):
        BiGRBackbone(TINY_TOKENIZER, TINY.replace(code_dim=6))


def test_official_files_are_named_for_what_they_are(golden, generator):
    from bigr_features.checkpoints import official_generator_state

    model = BiGRBackbone(TokenizerConfig(image_size=64, channels=32, embed_dim=32, num_res_blocks=1, code_dim=8), golden.config)
    with pytest.raises(ValueError, match=r"these are official weights \(one of the two files of a model\)"):
        model.load_state_dict(official_generator_state(generator))
    with pytest.raises(ValueError, match=r"official weights"):
        model.load_state_dict({"ae.encoder.blocks.0.weight": torch.zeros(1)})


@each_model
def test_values_are_checked_where_data_enters(name):
    model = backbone(name)
    x, labels = pixels(model), torch.tensor([0, 1])
    classes = model.generator.config.num_classes
    nan = x.clone()
    nan[1, 0, 0, 0] = torch.nan
    for call in (model.encode, lambda images: model.loss(images, labels)):
        with pytest.raises(ValueError, match=r"ImageNet-normalised"):
            call((x - 0.45) / 0.225)
        with pytest.raises(ValueError, match=r"divide by 255"):
            call(x * 255)
        with pytest.raises(ValueError, match=r"images \[1\] of the batch hold NaN"):
            call(nan)
        with pytest.raises(TypeError, match=r"dtype torch\.uint8"):
            call((x * 255).to(torch.uint8))
    with pytest.raises(ValueError, match=f"label {classes + 1} is out of range"):
        model.loss(x, torch.tensor([0, classes + 1]))
    with pytest.raises(ValueError, match=r"codes hold 0\.5; expected bits"):
        model.loss(model.encode(x).detach() / 2, labels)
    with pytest.raises(ValueError, match=r"codes have 3 bits but this model was built with code_dim="):
        model.decode(torch.zeros(1, model.generator.config.num_tokens, 3))


@pytest.mark.parametrize(("old", "new"), [(4, 8), (8, 4), (3, 5), (5, 5)])
def test_positions_are_resampled_smoothly(old, new):
    ramp = torch.linspace(0, 1, old)
    positions = torch.stack([ramp[:, None].expand(old, old), ramp.expand(old, old)], dim=-1).reshape(1, old * old, 2)
    grid = resample_positions(positions, new).reshape(new, new, 2)
    torch.testing.assert_close(grid[..., 0], grid[:, :1, 0].expand(new, new))
    torch.testing.assert_close(grid[..., 0], grid[..., 1].T)
    assert (grid[:, 0, 0].diff() > 0).all()
    if old == new:
        torch.testing.assert_close(grid.reshape(positions.shape), positions, rtol=0, atol=0)


def test_a_generator_of_another_trunk_is_a_backbone_too():
    tokenizer = TINY_TOKENIZER.replace(image_size=8)
    for changes in ({"causal": True}, {"adaln": False}, {"num_cond_tokens": 4}):
        config = GeneratorConfig(**{**TINY.to_dict(), "grid_size": tokenizer.grid_size, **changes})
        model = randomized(BiGRBackbone(tokenizer, config, num_classes=3)).eval()
        assert model(pixels(model)).shape == (2, 3)
        assert model.loss(pixels(model), torch.tensor([0, 1])).loss.isfinite()
