"""Promises of the VQ tokenizer: recorded indices, images, losses and gradients; nearest codes; what goes in is checked."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bigr_features import VQAutoencoder
from bigr_features.checkpoints import load_llamagen_tokenizer
from bigr_features.checkpoints.llamagen_tokenizer import official_names
from bigr_features.evaluate.reconstruction import code_counts, code_usage
from bigr_features.models import vq_autoencoder
from bigr_features.models.vq_autoencoder import VectorQuantizer, entropy_term

from ..helpers import TINY_VQ, GoldenSet, randomized, tiny_vq

RECORD = GoldenSet("systems/llamagen_vq")
NORMS = json.loads((RECORD.folder / "train_grad_norms.json").read_text())


def images(batch: int = 2, size: int = 16, seed: int = 0) -> Tensor:
    return 2 * torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed)) - 1


def as_maps(tokens: Tensor, height: int) -> Tensor:
    """(B, N, D) to (B, D, height, N / height), as the public code keeps them."""
    return tokens.transpose(1, 2).unflatten(2, (height, -1))


def as_tokens(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)


@pytest.mark.golden("encoder_out", "quant_conv_out", "indices", "quantized", "codebook_entry", "image_from_*")
def test_every_stage_is_the_recorded_one(golden_vq, vq_tokenizer):
    golden, image = golden_vq, golden_vq["image"]
    golden.check("encoder_out", vq_tokenizer.encoder(image))
    golden.check("quant_conv_out", as_maps(vq_tokenizer.latents(image), 8))
    indices = vq_tokenizer.encode(image)
    golden.check("indices", indices.view(-1, 8, 8))
    golden.check("quantized", as_maps(vq_tokenizer.quantize(image).latents, 8))
    golden.check("codebook_entry", as_maps(vq_tokenizer.quantizer.embed(indices), 8))
    golden.check("image_from_indices", vq_tokenizer.decode(indices))
    golden.check("image_from_random", vq_tokenizer.decode(golden["indices_random"].flatten(1)))


@pytest.mark.golden("encoder.mean.*", "decoder.mean.*")
@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_every_block_is_the_recorded_one(golden_vq, vq_tokenizer, side):
    means, network = [], getattr(vq_tokenizer, side)
    hooks = [block.register_forward_hook(lambda *call: means.append(call[-1].mean((2, 3)))) for block in network.blocks[:-3]]
    vq_tokenizer(golden_vq["image"])
    for hook in hooks:
        hook.remove()
    names = sorted(golden_vq.matching([f"{side}.mean.*"]))
    for name, mean in zip(names, means, strict=True):
        golden_vq.check(name, mean)
    golden_vq.checked |= golden_vq.matching(["encoder.mean.*", "decoder.mean.*"]) - set(names)  # the other side's turn


@pytest.mark.golden("quantizer.l2.*", "quantizer.plain.*")
def test_the_quantiser_is_the_recorded_one_with_and_without_normalisation(golden_vq, vq_tokenizer):
    for name, l2_norm in (("l2", True), ("plain", False)):
        quantizer = VectorQuantizer(64, 8, l2_norm=l2_norm)
        quantizer.load_state_dict(vq_tokenizer.quantizer.state_dict())
        result = quantizer(as_tokens(golden_vq["quantizer.z"]))
        golden_vq.check(f"quantizer.{name}.indices", result.indices.view(2, 3, 5))
        golden_vq.check(f"quantizer.{name}.z_q", as_maps(result.latents, 3))


@pytest.mark.golden("train.*")
def test_losses_usage_and_gradients_are_the_recorded_ones(golden_vq):
    golden = golden_vq
    for variant, settings in golden.runs("train_variants").items():
        changes = {"entropy_weight": settings["entropy_loss_ratio"], "commitment_weight": settings["commit_loss_beta"]}
        model = load_llamagen_tokenizer(golden.folder / "official_checkpoint.pt", golden.config.replace(**changes)).train()
        result = model.quantize(golden["image"])
        image = model.decode_latents(result.latents)
        golden.check("train.image", image)
        reconstruction = F.mse_loss(image, golden["image"])
        total = reconstruction + result.codebook_loss + result.commitment_loss + result.entropy_loss
        for name, value in (
            ("reconstruction_loss", reconstruction),
            ("codebook_loss", result.codebook_loss),
            ("commitment_loss", result.commitment_loss),
            ("entropy_loss", result.entropy_loss),
            ("total", total),
        ):
            golden.check(f"train.{variant}.{name}", value.reshape(1))
        ring = torch.cat([torch.zeros(65536 - result.indices.numel(), dtype=torch.int64), result.indices.flatten()])
        golden.check(f"train.{variant}.codebook_usage", code_usage(code_counts(ring, 64)).reshape(1))
        total.backward()
        check_gradients(golden, variant, model)


def check_gradients(golden: GoldenSet, variant: str, model: VQAutoencoder) -> None:
    """Whole gradients where they are recorded, norms of all of them."""
    names, recorded = official_names(model), dict(NORMS["grad_norms"][variant])
    tolerance = max(1e-5, 8 * NORMS["max_rel_f32_vs_f64"][variant])
    for ours, parameter in model.named_parameters():
        official = names[ours]
        if f"train.{variant}.grad.{official}" in golden.tensors:
            golden.check(f"train.{variant}.grad.{official}", parameter.grad)
        norm, expected = parameter.grad.double().norm().item(), recorded.pop(official)
        if official in NORMS["zero_up_to_rounding"][variant]:
            assert norm <= 1e-5 * NORMS["total"][variant], official
        else:
            assert norm == pytest.approx(expected, rel=tolerance), official
    assert recorded == {}


@given(st.integers(1, 3), st.integers(1, 7), st.integers(1, 40), st.integers(1, 6), st.booleans())
def test_the_nearest_code_is_found_whatever_the_sizes(batch, tokens, size, dim, l2_norm):
    torch.manual_seed(batch + 10 * tokens + 100 * size + dim)
    quantizer = VectorQuantizer(size, dim, l2_norm=l2_norm)
    torch.nn.init.normal_(quantizer.embedding)
    latents = torch.randn(batch, tokens, dim)
    found = quantizer.look_up(latents)
    near, codes = (F.normalize(x, dim=-1) if l2_norm else x for x in (latents, quantizer.embedding.detach()))
    distances = torch.cdist(near.double(), codes.double()[None])
    assert found.shape == (batch, tokens)
    torch.testing.assert_close(distances.gather(-1, found[..., None])[..., 0], distances.min(-1).values, rtol=0, atol=1e-5)


def test_few_distances_at_a_time_change_nothing(monkeypatch):
    torch.manual_seed(0)
    quantizer = VectorQuantizer(50, 4, entropy_weight=0.1)
    torch.nn.init.normal_(quantizer.embedding)
    results = []
    for at_once in (2**26, 130, 1):
        monkeypatch.setattr(vq_autoencoder, "_AT_ONCE", at_once)
        latents = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
        result = quantizer(latents)
        quantizer.zero_grad()
        (result.entropy_loss + result.codebook_loss).backward()
        results.append((result.indices, result.entropy_loss, latents.grad, quantizer.embedding.grad.clone()))
    for other in results[1:]:
        for one, first in zip(other, results[0], strict=True):
            torch.testing.assert_close(one, first)


def test_entropy_term_by_hand():
    codebook = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    sure_and_even = entropy_term(codebook[None], codebook)  # each token has its code: no doubt, both codes used
    torch.testing.assert_close(sure_and_even, torch.tensor(0.5).log(), rtol=0, atol=1e-4)
    undecided = entropy_term(torch.tensor([[[0.0, 1.0], [0.0, -1.0]]]), codebook)  # all doubt, even use
    torch.testing.assert_close(undecided, torch.tensor(0.0), rtol=0, atol=1e-4)
    one_sided = entropy_term(codebook[None, [0, 0]], codebook)
    torch.testing.assert_close(one_sided, torch.tensor(0.0), rtol=0, atol=1e-4)


def test_straight_through_gradient_and_what_each_loss_pulls():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(6, 3, l2_norm=False, commitment_weight=0.5)
    torch.nn.init.normal_(quantizer.embedding)
    latents = torch.randn(1, 4, 3, requires_grad=True)
    weight = torch.randn(1, 4, 3)
    (quantizer(latents).latents * weight).sum().backward()
    torch.testing.assert_close(latents.grad, weight)
    assert quantizer.embedding.grad is None
    quantizer(latents).codebook_loss.backward()
    torch.testing.assert_close(latents.grad, weight)  # pulls codes only
    assert quantizer.embedding.grad.abs().sum() > 0
    quantizer.zero_grad()
    result = quantizer(latents)
    result.commitment_loss.backward()
    assert quantizer.embedding.grad is None or quantizer.embedding.grad.abs().sum() == 0
    torch.testing.assert_close(result.commitment_loss, 0.5 * result.codebook_loss)


def test_usage_and_perplexity_of_a_batch():
    quantizer = VectorQuantizer(4, 2)
    quantizer.embedding.data = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    result = quantizer(quantizer.embedding.detach()[None, [0, 0, 2, 2]])
    assert result.indices.tolist() == [[0, 0, 2, 2]]
    assert (result.usage.item(), result.perplexity.item()) == (0.5, pytest.approx(2.0))
    assert result.codebook_loss.item() == result.commitment_loss.item() == result.entropy_loss.item() == 0.0


def test_gradient_of_the_objective_reaches_every_parameter():
    model = tiny_vq().train()
    result = model.quantize(images())
    loss = (model.decode_latents(result.latents) - images()).square().mean() + result.codebook_loss + result.commitment_loss
    loss.backward()
    assert {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0} == set()


def test_train_and_eval_mode_are_the_same():
    model = tiny_vq()
    quiet = model(images())
    torch.testing.assert_close(model.train()(images()), quiet, rtol=0, atol=0)
    torch.testing.assert_close(model.decode(model.encode(images())), quiet, rtol=0, atol=1e-4)  # products are rounded by kind of processor


def test_indices_run_row_by_row():
    model = tiny_vq()
    indices = torch.zeros(2, 64, dtype=torch.int64)
    indices[1, 8 * 2 + 5] = 7  # row 2, column 5
    blank, marked = model.decode(indices)
    row, column = divmod(int((marked - blank).abs().sum(0).flatten().argmax()), 16)
    assert abs(row - 4.5) < 4
    assert abs(column - 10.5) < 4


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("changes", [{}, {"l2_norm": False}, {"num_res_blocks": 2, "in_chans": 1}, {"codebook_size": 1}])
def test_other_shapes_of_network_round_trip(levels, changes):
    config = TINY_VQ.replace(channel_multipliers=(1, 2, 1)[:levels], **changes)
    model = randomized(VQAutoencoder(config))
    pixels = images()[:, : config.in_chans]
    indices = model.encode(pixels)
    assert indices.shape == (2, config.grid_size**2)
    assert indices.dtype == torch.int64
    assert model.decode(indices).shape == model(pixels).shape == pixels.shape


@pytest.mark.parametrize("size", [8, 24])
def test_another_image_size_is_another_grid_with_the_same_weights(size):
    model = tiny_vq()
    model.set_image_size(size)
    indices = model.encode(images(size=size))
    assert indices.shape == (2, (size // 2) ** 2)
    assert model.decode(indices).shape == (2, 3, size, size)
    with pytest.raises(ValueError, match="image size 17 is not a multiple of 2"):
        model.set_image_size(17)


def test_pixels_are_mapped_to_the_range_and_back():
    model, pixels = tiny_vq(), torch.rand(2, 3, 16, 16)
    assert model.pixel_range == (-1.0, 1.0)
    torch.testing.assert_close(model.normalize(pixels), 2 * pixels - 1)
    torch.testing.assert_close(model.denormalize(model.normalize(pixels)), pixels)


def test_look_up_can_be_traced_and_run_on_another_batch():
    model = tiny_vq()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace_module(model, {"look_up": images(2)})
    assert torch.equal(traced.look_up(images(5, seed=1)), model.encode(images(5, seed=1)))


def test_half_precision_looks_up_in_float32():
    half = tiny_vq().bfloat16()
    result = half.quantize(images().bfloat16())
    assert result.codebook_loss.dtype == torch.float32
    assert half.decode(half.encode(images().bfloat16())).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert tiny_vq().quantize(images()).codebook_loss.dtype == torch.float32


def test_without_its_decoder_the_tokenizer_still_encodes():
    model = tiny_vq()
    indices = model.encode(images())
    model.drop_decoder()
    assert torch.equal(model.encode(images()), indices)
    with pytest.raises(RuntimeError, match=r"decoding needs the decoder.*generative=True"):
        model.decode(indices)


@pytest.mark.parametrize("call", ["encode", "quantize"])
@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), TypeError, r"dtype torch.uint8; expected floats in \[-1, 1\]"),
        (torch.zeros(0, 3, 16, 16), ValueError, "the batch of images is empty"),
        (torch.zeros(2, 1, 16, 16), ValueError, "images have 1 channels; the model expects 3"),
        (torch.zeros(2, 3, 16, 18), ValueError, "images are 16 x 18; the model expects 16 x 16"),
    ],
)
def test_images_of_another_shape_or_dtype_are_refused(call, wrong, error, message):
    with pytest.raises(error, match=message):
        getattr(tiny_vq(), call)(wrong)


def test_pixels_are_checked_where_data_enters():
    model, nan = tiny_vq(), images()
    nan[1, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"pixels lie in \[0\.\d+, 255\]; expected \[-1, 1\]\. They look like 0\.\.255"):
        model.encode((images() + 1) * 127.5)
    with pytest.raises(ValueError, match=r"expected \[-1, 1\]\. They look ImageNet-normalised"):
        model.encode(images() * 2.1)
    with pytest.raises(ValueError, match=r"images \[1\] of the batch hold NaN"):
        model.encode(nan)
    with pytest.warns(UserWarning, match=r"no pixel of 2 images is negative.*takes \[-1, 1\].*normalize\(\)"):
        model.encode((images() + 1) / 2)


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        (torch.full((2, 64), 12), ValueError, r"index 12 is out of range; this tokenizer has codes 0\.\.11"),
        (torch.full((2, 64), -1), ValueError, "index -1 is out of range"),
        (torch.zeros(2, 63, dtype=torch.int64), ValueError, r"indices have shape \(2, 63\); expected \(batch, 64\)"),
        (torch.zeros(0, 64, dtype=torch.int64), ValueError, r"indices have shape \(0, 64\)"),
        (torch.zeros(2, 8, 8, dtype=torch.int64), ValueError, r"indices have shape \(2, 8, 8\)"),
        (torch.zeros(2, 64), TypeError, r"indices have dtype torch\.float32; expected integers"),
        (torch.zeros(2, 64, 5), TypeError, r"Bits \(B, N, K\) belong to a binary tokenizer"),
        (torch.zeros(2, 64, dtype=torch.bool), TypeError, r"indices have dtype torch\.bool"),
    ],
)
def test_indices_that_name_no_code_are_refused(indices, error, message):
    with pytest.raises(error, match=message):
        tiny_vq().decode(indices)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_indices_of_any_integer_dtype_are_taken(dtype):
    model = tiny_vq()
    indices = model.encode(images())
    torch.testing.assert_close(model.decode(indices.to(dtype)), model.decode(indices), rtol=0, atol=0)


def test_a_codebook_larger_than_memory_is_refused_before_it_is_filled():
    with pytest.raises(ValueError, match=r"a codebook of 1,000,000,000,000 x 8 numbers takes 29,802 GiB, but this machine has"):
        VQAutoencoder(TINY_VQ.replace(codebook_size=10**12, codebook_dim=8))
    VQAutoencoder(TINY_VQ.replace(codebook_size=10**9), device="meta")  # nothing is allocated
