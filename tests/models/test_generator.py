"""Promises of the generator: recorded conditions, losses and gradients, and a loss over hidden tokens alone."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from bigr_features import BiGR, GeneratorConfig
from bigr_features.checkpoints import official_generator_state
from bigr_features.functional.masking import lowest

from ..helpers import TINY, loss_settings, random_codes, tiny_generator

LABELS = torch.tensor([1, 3])


def half_mask(config, batch: int = 2) -> torch.Tensor:
    return lowest(torch.rand(batch, config.num_tokens, generator=torch.Generator().manual_seed(5)), config.num_tokens // 2)


@pytest.mark.golden("trunk.*")
def test_condition_is_the_recorded_one(golden, generator):
    codes, mask = golden["input.codes"], golden["input.token_mask"]
    golden.check("trunk.conditioning", generator.condition(codes, golden["input.labels_mixed"], mask))
    golden.check("trunk.conditioning_allmasked", generator.condition(codes, golden["input.labels"], torch.ones_like(mask)))


@pytest.mark.golden("train.*.loss", "train.*.bce_loss", "train.*.grad.*")
def test_training_loss_and_every_gradient_norm_are_the_recorded_ones(golden, generator):
    norms = json.loads((golden.folder / "train_grad_norms.json").read_text())
    codes, labels = golden["input.codes"], golden["input.labels_mixed"]
    for name, variant in golden.runs("train_variants").items():
        model = copy.deepcopy(generator)
        model.transcoder.config = golden.config.replace(**loss_settings(variant))
        terms = model.loss(
            codes,
            labels,
            mask=golden[f"train.{name}.mask"],
            timesteps=golden["train.t"].reshape(codes.shape[:2]),
            noisy_codes=golden[f"train.{name}.x_t_in"].reshape(codes.shape),
        )
        golden.check(f"train.{name}.loss", terms.loss.reshape(1))
        golden.check(f"train.{name}.bce_loss", terms.bce.reshape(1))

        terms.loss.backward()
        gradients = official_gradients(model)
        golden.check(f"train.{name}.grad.mask_tok", gradients["mask_tok"])
        golden.check(f"train.{name}.grad.cls_embedding", gradients["cls_embedding.embedding_table.weight"])
        golden.check(f"train.{name}.grad.tok_embeddings.weight", gradients["tok_embeddings.weight"])
        ours = {key: gradient.norm().item() for key, gradient in gradients.items()}
        assert ours == pytest.approx(norms["grad_norms"][name], rel=1e-5)
        total = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
        assert total.item() == pytest.approx(norms["total"][name], rel=1e-5)


def official_gradients(model: BiGR) -> dict[str, torch.Tensor]:
    """Gradients under the names of the public code, each parameter once."""
    gradients = copy.deepcopy(model)
    for parameter, original in zip(gradients.parameters(), model.parameters(), strict=True):
        parameter.data = original.grad
    return {key: value for key, value in official_generator_state(gradients).items() if not key.startswith("diffusion_processor.")}


@pytest.mark.parametrize("aux_weight", [0.0, 0.1])
@pytest.mark.parametrize("hidden", [1, 4, 9])
def test_loss_is_the_mean_over_hidden_tokens_of_the_loss_of_all_tokens(aux_weight, hidden):
    model = tiny_generator(aux_weight=aux_weight)
    config, codes = model.config, random_codes(TINY, batch=3)
    labels = torch.tensor([0, 4, 2])
    source = torch.Generator().manual_seed(hidden)
    mask = lowest(torch.rand(3, config.num_tokens, generator=source), hidden)
    timesteps = torch.randint(1, config.num_timesteps + 1, mask.shape, generator=source)
    noisy = model.transcoder.corrupt(codes.flatten(0, 1), timesteps.flatten(), source)
    terms = model.loss(codes, labels, mask=mask, timesteps=timesteps, noisy_codes=noisy.reshape(codes.shape))

    condition = model.condition(codes, labels, mask).flatten(0, 1)
    logits = model.transcoder.denoiser(noisy, timesteps.flatten(), condition)
    bce, auxiliary = model.transcoder.loss_per_bit(logits, codes.flatten(0, 1), timesteps.flatten(), noisy)
    rows = mask.flatten()
    torch.testing.assert_close(terms.bce, bce[rows].mean())
    if aux_weight:
        torch.testing.assert_close(terms.loss, bce[rows].mean() + aux_weight * auxiliary[rows].mean())


def test_transcoder_runs_on_hidden_tokens_only():
    model, seen = tiny_generator(), []
    model.transcoder.denoiser.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    mask = half_mask(TINY)
    model.loss(random_codes(TINY), LABELS, mask=mask)
    assert seen == [(int(mask.sum()), TINY.code_dim)]


def test_images_may_hide_different_numbers_of_tokens():
    model, codes = tiny_generator(), random_codes(TINY)
    mask = torch.zeros(2, TINY.num_tokens, dtype=torch.bool)
    mask[0, :1], mask[1, 2:] = True, True
    timesteps = torch.full(mask.shape, 5)
    noisy = 1 - codes
    both = model.loss(codes, LABELS, mask=mask, timesteps=timesteps, noisy_codes=noisy).loss
    each = [
        model.loss(
            codes[i : i + 1],
            LABELS[i : i + 1],
            mask=mask[i : i + 1],
            timesteps=timesteps[i : i + 1],
            noisy_codes=noisy[i : i + 1],
        ).loss
        for i in range(2)
    ]
    torch.testing.assert_close(both, (each[0] * 1 + each[1] * 7) / 8)


@pytest.mark.parametrize(
    "changes", [{}, {"adaln": False}, {"num_cond_tokens": 3}, {"input_positions": True}, {"predict_flip": False, "aux_weight": 0.1}]
)
@pytest.mark.parametrize("causal", [False, True])
def test_gradient_of_the_loss_reaches_every_parameter(changes, causal):
    model = tiny_generator(causal=causal, **changes).train()
    model.loss(
        random_codes(TINY), LABELS, mask=None if causal else half_mask(TINY), generator=torch.Generator().manual_seed(0)
    ).loss.backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert without == set()
    assert causal == (model.embedding.mask_embedding is None)  # a causal trunk hides nothing


@pytest.mark.parametrize("adaln", [True, False])
@pytest.mark.parametrize("num_cond_tokens", [1, 2, 5])
def test_several_condition_tokens_work_with_and_without_adaln(adaln, num_cond_tokens):
    model = tiny_generator(adaln=adaln, num_cond_tokens=num_cond_tokens)
    codes = random_codes(TINY)
    condition = model.condition(codes, LABELS, half_mask(TINY))
    assert condition.shape == (2, TINY.num_tokens, TINY.width)
    assert not torch.allclose(condition, model.condition(codes, LABELS.flip(0), half_mask(TINY)))
    assert model.loss(codes, LABELS).loss.isfinite()
    drawn = model.generate(LABELS, num_reveal_steps=3, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == codes.shape


@pytest.mark.parametrize("class_dropout", [0.0, 0.1])
def test_the_null_class_always_exists(class_dropout):
    model = tiny_generator(class_dropout=class_dropout)
    assert model.class_embedding.num_embeddings == TINY.num_classes + 1
    assert model.null_class == TINY.num_classes
    codes = random_codes(TINY)
    null = model.condition(codes)
    torch.testing.assert_close(null, model.condition(codes, torch.full((2,), TINY.num_classes)))
    assert not torch.allclose(null, model.condition(codes, LABELS))
    assert model.train().loss(codes, LABELS).loss.isfinite()


@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_class_dropping_replaces_labels_by_the_null_class_at_its_rate(probability):
    model = tiny_generator(class_dropout=probability)
    labels = torch.zeros(20_000, dtype=torch.int64)
    dropped = model.drop_labels(labels, torch.Generator().manual_seed(0))
    assert set(dropped.tolist()) <= {0, TINY.num_classes}
    assert abs((dropped == TINY.num_classes).float().mean() - probability) < 0.02  # 6 standard errors


def test_eval_mode_drops_no_class():
    model = tiny_generator(class_dropout=0.9)
    codes, mask = random_codes(TINY), half_mask(TINY)
    draws = {"mask": mask, "timesteps": torch.full(mask.shape, 4), "noisy_codes": 1 - codes}
    first = model.loss(codes, LABELS, **draws).loss
    torch.testing.assert_close(model.loss(codes, LABELS, **draws).loss, first, rtol=0, atol=0)
    assert not torch.allclose(first, model.loss(codes, None, **draws).loss)


def test_draws_of_the_loss_follow_the_generator():
    model = tiny_generator(residual_dropout=0.0, ffn_dropout=0.0).train()
    codes = random_codes(TINY, batch=4)
    labels = torch.tensor([0, 1, 2, 3])
    first, again, other = (model.loss(codes, labels, generator=torch.Generator().manual_seed(seed)).loss for seed in (1, 1, 2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert first != other


def test_several_noise_levels_a_token_give_the_mean_over_single_ones():
    model, codes, mask = tiny_generator(aux_weight=0.3), random_codes(TINY), half_mask(TINY)
    source = torch.Generator().manual_seed(0)
    timesteps = torch.randint(1, 17, (*mask.shape, 3), generator=source)
    noisy = torch.randint(2, (*mask.shape, 3, TINY.code_dim), generator=source).float()
    several = model.loss(codes, LABELS, mask=mask, timesteps=timesteps, noisy_codes=noisy)
    single = [model.loss(codes, LABELS, mask=mask, timesteps=timesteps[..., i], noisy_codes=noisy[:, :, i]) for i in range(3)]
    for name in ("loss", "bce", "bit_accuracy"):
        torch.testing.assert_close(getattr(several, name), torch.stack([getattr(one, name) for one in single]).mean())
    drawn = model.loss(codes, LABELS, mask=mask, timesteps=timesteps, generator=source)  # noise is drawn for each level
    assert drawn.loss.isfinite()


def test_a_known_number_of_hidden_tokens_changes_nothing():
    model, codes = tiny_generator().train(), random_codes(TINY)
    mask = torch.zeros(2, 9, dtype=torch.bool)
    mask[0, [1, 4, 8]] = mask[1, [0, 2, 3]] = True
    first, second = (
        model.eval().loss(codes, LABELS, mask=mask, generator=torch.Generator().manual_seed(1), **given).loss
        for given in ({}, {"num_hidden": 3, "check_values": False})
    )
    assert torch.equal(first, second)


def test_labels_that_are_dropped_become_the_null_class_in_any_mode():
    model, codes = tiny_generator(residual_dropout=0.0, ffn_dropout=0.0, class_dropout=0.9), random_codes(TINY)
    draws = {"mask": half_mask(TINY), "timesteps": torch.full((2, 9), 4), "noisy_codes": 1 - codes}
    mixed = torch.tensor([LABELS[0], TINY.num_classes])
    expected = model.loss(codes, mixed, **draws).loss
    for mode in (True, False):
        given = model.train(mode).loss(codes, LABELS, **draws, dropped=torch.tensor([False, True])).loss
        torch.testing.assert_close(given, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timesteps": torch.ones(2, 8, dtype=torch.int64)}, r"timesteps have shape \(2, 8\).*or \(2, 9, 'R'\)"),
        ({"timesteps": torch.ones(2, 9, 0, dtype=torch.int64)}, r"timesteps have shape \(2, 9, 0\)"),
        ({"timesteps": torch.ones(2, 9)}, "dtype torch.float32; expected integers"),
        ({"timesteps": torch.full((2, 9, 2), 17)}, "timestep 17 is out of range; expected 1..16"),
        ({"noisy_codes": torch.zeros(2, 9, 3, 5)}, r"noisy_codes have shape \(2, 9, 3, 5\); expected \(2, 9, 2, 5\)"),
        ({"noisy_codes": torch.zeros(2, 9, 5)}, r"noisy_codes have shape \(2, 9, 5\); expected \(2, 9, 2, 5\)"),
        ({"noisy_codes": torch.full((2, 9, 2, 5), 0.5)}, "codes hold 0.5"),
    ],
)
def test_draws_that_do_not_fit_are_named(changes, message):
    draws = {"timesteps": torch.ones(2, 9, 2, dtype=torch.int64), "noisy_codes": torch.zeros(2, 9, 2, 5)}
    with pytest.raises(ValueError, match=message):
        tiny_generator().loss(random_codes(TINY), LABELS, mask=half_mask(TINY), **{**draws, **changes})


def test_drawn_mask_hides_the_same_number_in_each_image_at_different_places():
    model, source = tiny_generator(grid_size=8), torch.Generator().manual_seed(0)
    masks = [model.draw_mask(6, 64, source, "cpu") for _ in range(20)]
    for mask in masks:
        assert mask.dtype == torch.bool
        assert mask.sum(1).unique().numel() == 1
    assert len({int(mask[0].sum()) for mask in masks}) > 5
    assert any(not torch.equal(mask[0], mask[1]) for mask in masks)


def test_mixed_labels_are_the_weighted_embeddings():
    model = tiny_generator()
    table = model.class_embedding.weight
    labels, weights = torch.tensor([[0, 2], [3, 4]]), torch.tensor([0.3, 0.7])
    expected = torch.stack([0.3 * table[0] + 0.7 * table[2], 0.3 * table[3] + 0.7 * table[4]])[:, None]
    torch.testing.assert_close(model.class_vector(labels, weights), expected)
    torch.testing.assert_close(model.class_vector(labels, weights.repeat(2, 1)), expected)
    codes = random_codes(TINY)
    certain = model.condition(codes, labels, label_weights=torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(certain, model.condition(codes, labels[:, 0]))


def test_feature_path_is_the_hidden_state_of_the_null_class():
    model, codes = tiny_generator(num_cond_tokens=2), random_codes(TINY)
    for layer, hidden in enumerate(model.hidden_states(codes)):
        torch.testing.assert_close(model.features(codes, layer), hidden)


def test_codes_may_come_in_any_dtype():
    model, codes = tiny_generator(), random_codes(TINY)
    expected = model.condition(codes, LABELS)
    for dtype in (torch.uint8, torch.bool, torch.int64, torch.float64):
        torch.testing.assert_close(model.condition(codes.to(dtype), LABELS), expected, rtol=0, atol=0)


@pytest.mark.parametrize(("init_std", "position_init_std", "gate_init"), [(0.02, 0.02, 0.0), (0.08, 0.3, 0.5)])
def test_initialisation_is_the_official_one_with_the_given_spread(init_std, position_init_std, gate_init):
    """Zeros where the public code has them, so that an untrained model gives logits of exactly 0."""
    given = dict(init_std=init_std, position_init_std=position_init_std, gate_init=gate_init)
    model = BiGR(TINY.replace(width=128, denoiser_width=96, input_positions=True, **given))
    official = GeneratorConfig()
    assert (official.init_std, official.position_init_std, official.gate_init) == (0.02, 0.02, 0.0)
    assert model.trunk.modulation.proj.weight.abs().max() == 0
    for module in model.modules():
        if isinstance(module, nn.RMSNorm):
            assert (module.weight == 1).all()
        if isinstance(module, nn.Linear) and module.bias is not None:
            assert (module.bias == 0).all()
    assert model.trunk.blocks[0].attention.qkv.weight.std().item() == pytest.approx(init_std, rel=0.1)
    assert model.transcoder.denoiser.blocks[0].fc1.weight.std().item() == pytest.approx(init_std, rel=0.1)
    assert model.class_embedding.weight.std().item() == pytest.approx(0.02, rel=0.2)
    offsets = model.trunk.blocks[1].modulation_offset[0, 0]  # shift, scale, gate of attention, then of the feed-forward
    assert offsets.std(dim=1).tolist() == pytest.approx([128**-0.5] * 6, rel=0.3)
    assert offsets.mean(dim=1).tolist() == pytest.approx([0, 0, gate_init, 0, 0, gate_init], abs=0.05)
    for positions in (model.position_embedding, model.input_position_embedding):
        assert positions.std().item() == pytest.approx(position_init_std, rel=0.2)
    assert model.embedding.mask_embedding.std().item() == pytest.approx(1.0, rel=0.3)
    codes = random_codes(TINY)
    condition = model.condition(codes, LABELS).flatten(0, 1)
    assert (model.transcoder.denoiser(codes.flatten(0, 1), torch.ones(len(condition), dtype=torch.int64), condition) == 0).all()


def test_input_positions_are_added_to_every_token_and_nothing_else_changes():
    plain, model, codes = tiny_generator(), tiny_generator(input_positions=True), random_codes(TINY)
    positions = model.input_position_embedding
    assert positions.shape == (1, TINY.num_tokens, TINY.width)
    missing = model.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing == ["input_position_embedding"]
    mask = half_mask(TINY)
    expected, vector = plain.embed(codes, LABELS, mask)
    expected[:, TINY.num_cond_tokens :] += positions  # the condition token has no place
    torch.testing.assert_close(model.embed(codes, LABELS, mask), (expected, vector), rtol=0, atol=0)
    torch.nn.init.zeros_(positions)
    torch.testing.assert_close(model.hidden_states(codes, LABELS, mask), plain.hidden_states(codes, LABELS, mask), rtol=0, atol=0)


@pytest.mark.parametrize("input_positions", [False, True])
def test_dropping_the_generative_parts_leaves_the_features_unchanged(input_positions):
    model, codes = tiny_generator(input_positions=input_positions), random_codes(TINY)
    expected = model.hidden_states(codes, layers=[1])[0]
    model.drop_generative_parts(keep_blocks=2)
    torch.testing.assert_close(model.features(codes, 1), expected, rtol=0, atol=0)
    assert len(model.trunk.blocks) == 2
    assert not model.generative
    for call in ("loss", "condition", "generate"):
        with pytest.raises(RuntimeError, match=rf"{call}\(\) needs the generative parts.*generative=True"):
            getattr(model, call)(codes)


def test_a_mask_that_hides_nothing_is_refused():
    with pytest.raises(ValueError, match="the mask hides no token"):
        tiny_generator().loss(random_codes(TINY), LABELS, mask=torch.zeros(2, TINY.num_tokens, dtype=torch.bool))


def test_a_mask_for_a_causal_trunk_is_refused():
    with pytest.raises(ValueError, match="a mask was given, but a causal generator predicts every token"):
        tiny_generator(causal=True).loss(random_codes(TINY), LABELS, mask=half_mask(TINY))


@pytest.mark.parametrize("call", ["loss", "condition", "hidden_states"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"codes": torch.zeros(2, 9, 7)}, "codes have 7 bits but this model was built with code_dim=5"),
        ({"codes": torch.zeros(2, 8, 5)}, r"codes have shape \(2, 8, 5\); expected \(batch, 9, 5\)"),
        ({"codes": torch.zeros(0, 9, 5)}, r"codes have shape \(0, 9, 5\)"),
        ({"labels": torch.tensor([1])}, r"labels have shape \(1,\) but codes hold 2 images"),
        ({"labels": torch.zeros(2, 2, dtype=torch.int64)}, r"labels have shape \(2, 2\)"),
        (
            {"mask": torch.ones(2, 8, dtype=torch.bool)},
            r"mask has shape \(2, 8\) and dtype torch.bool; expected bool .*\(2, 9\)",
        ),
        ({"mask": torch.ones(2, 9)}, "dtype torch.float32; expected bool"),
    ],
)
def test_shapes_that_do_not_fit_are_named(call, given, message):
    arguments = {"codes": random_codes(TINY), "labels": LABELS, "mask": half_mask(TINY), **given}
    with pytest.raises(ValueError, match=message):
        getattr(tiny_generator(), call)(**arguments)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"codes": torch.full((2, 9, 5), 0.5)}, "codes hold 0.5; expected bits"),
        ({"labels": torch.tensor([0, 5])}, r"label 5 is out of range; expected 0\.\.3, or 4 for the null class"),
        ({"labels": torch.tensor([-1, 0])}, "label -1 is out of range"),
        ({"timesteps": torch.zeros(2, 9, dtype=torch.int64)}, r"timestep 0 is out of range; expected 1\.\.16"),
        ({"timesteps": torch.full((2, 9), 17)}, "timestep 17 is out of range"),
        ({"timesteps": torch.ones(2, dtype=torch.int64)}, r"timesteps have shape \(2,\)"),
        ({"noisy_codes": torch.zeros(2, 9, 4)}, "codes have 4 bits"),
        ({"noisy_codes": torch.full((2, 9, 5), 0.5)}, "codes hold 0.5; expected bits"),
    ],
)
def test_values_that_do_not_fit_the_loss_are_named(given, message):
    arguments = {"codes": random_codes(TINY), "labels": LABELS, **given}
    with pytest.raises(ValueError, match=message):
        tiny_generator().loss(**arguments)


def test_float_labels_are_refused():
    with pytest.raises(TypeError, match=r"labels have dtype torch\.float32"):
        tiny_generator().loss(random_codes(TINY), LABELS.float())
