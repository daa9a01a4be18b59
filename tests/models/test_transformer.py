"""Promises of the trunk: recorded hidden states, and what attention may and may not see."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bigr_features.models.transformer import Attention, Trunk

from ..helpers import TINY, random_codes, randomized, tiny_generator


@pytest.mark.golden("full_image.*")
def test_every_layer_of_a_full_image_is_the_recorded_one(golden, generator):
    codes = golden["input.codes"]
    for condition, labels in {"label": golden["input.labels"], "null": None}.items():
        hidden = torch.stack(generator.hidden_states(codes, labels))
        golden.check(f"full_image.hidden.{condition}", hidden)
        golden.check(f"full_image.mean.{condition}", hidden.mean(2))


def test_no_labels_and_the_null_labels_are_the_same_condition(golden, generator):
    codes = golden["input.codes"]
    for ours, given in zip(generator.hidden_states(codes), generator.hidden_states(codes, golden["input.null_labels"]), strict=True):
        torch.testing.assert_close(ours, given, rtol=0, atol=1e-5)


@pytest.mark.parametrize("adaln", [True, False])
def test_one_pass_over_several_layers_equals_a_pass_for_each(adaln):
    model = tiny_generator(adaln=adaln, depth=4)
    codes, labels = random_codes(model.config), torch.tensor([1, 3])
    together = model.hidden_states(codes, labels)
    assert len(together) == 4
    for layer in range(4):
        (alone,) = model.hidden_states(codes, labels, layers=[layer])
        torch.testing.assert_close(alone, together[layer], rtol=0, atol=0)
        (negative,) = model.hidden_states(codes, labels, layers=[layer - 4])
        torch.testing.assert_close(negative, together[layer], rtol=0, atol=0)
    for layers in ([3, 0, 2], [1, 1], [-1, 0, 3]):
        for layer, hidden in zip(layers, model.hidden_states(codes, labels, layers=layers), strict=True):
            torch.testing.assert_close(hidden, together[layer], rtol=0, atol=0)


def test_a_pass_stops_at_the_last_layer_asked_for(monkeypatch):
    model = tiny_generator(depth=4)
    ran = []
    for i, block in enumerate(model.trunk.blocks):
        block.register_forward_hook(lambda *_, i=i: ran.append(i))
    model.hidden_states(random_codes(model.config), layers=[1, 0])
    assert ran == [0, 1]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("num_cond_tokens", [1, 3])
def test_condition_tokens_come_first_when_kept(causal, num_cond_tokens):
    model = tiny_generator(causal=causal, num_cond_tokens=num_cond_tokens)
    codes = random_codes(model.config)
    for whole, tokens in zip(model.hidden_states(codes, return_prefix=True), model.hidden_states(codes), strict=True):
        assert whole.shape[1] == num_cond_tokens + model.config.num_tokens
        torch.testing.assert_close(whole[:, num_cond_tokens:], tokens, rtol=0, atol=0)


@pytest.mark.parametrize("layer", [3, 7, -4])
def test_layer_out_of_range_is_refused(layer):
    model = tiny_generator()
    with pytest.raises(ValueError, match=rf"layer {layer} is out of range; the model has 3 blocks, so give -3\.\.2"):
        model.hidden_states(random_codes(model.config), layers=[0, layer])


@pytest.mark.parametrize("adaln", [True, False])
def test_a_causal_condition_never_sees_its_own_token_or_a_later_one(adaln):
    model = tiny_generator(causal=True, adaln=adaln)
    codes, labels = random_codes(model.config), torch.tensor([0, 2])
    before = model.condition(codes, labels)
    for i in range(model.config.num_tokens):
        changed = codes.clone()
        changed[:, i] = 1 - changed[:, i]
        after = model.condition(changed, labels)
        torch.testing.assert_close(after[:, : i + 1], before[:, : i + 1], rtol=0, atol=1e-6)
        differs = (after - before).abs().amax((0, 2)) > 1e-4
        assert differs[i + 1 :].all()


def test_a_bidirectional_condition_sees_every_token():
    model = tiny_generator()
    codes, labels = random_codes(model.config), torch.tensor([0, 2])
    before = model.condition(codes, labels)
    for i in range(model.config.num_tokens):
        changed = codes.clone()
        changed[:, i] = 1 - changed[:, i]
        assert ((model.condition(changed, labels) - before).abs().amax(2) > 1e-5).all()


def test_what_lies_under_the_mask_is_not_seen():
    model = tiny_generator()
    codes, labels = random_codes(model.config), torch.tensor([0, 2])
    mask = torch.rand(codes.shape[:2], generator=torch.Generator().manual_seed(1)) < 0.5
    changed = torch.where(mask[..., None], 1 - codes, codes)
    torch.testing.assert_close(model.condition(changed, labels, mask), model.condition(codes, labels, mask), rtol=0, atol=0)


def test_the_condition_token_attends_to_all_tokens_alike():
    """Its rotary row is zero, so its query is the zero vector and its output the mean of all values."""
    config = TINY.replace(residual_dropout=0.0)
    attention = randomized(Attention(config), 0)
    x = torch.randn(2, 1 + config.num_tokens, config.width, generator=torch.Generator().manual_seed(0))
    values = attention.qkv(x)[..., 2 * config.width :]
    out = attention(x, Trunk.rope_of(config).table)
    torch.testing.assert_close(out[:, 0], attention.proj(values.mean(1)))


def test_checkpointed_blocks_give_the_same_gradients():
    gradients = []
    for checkpointing in (False, True):
        model = tiny_generator().train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model.trunk.grad_checkpointing = checkpointing
        model.condition(random_codes(model.config), torch.tensor([1, 2])).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.trunk.named_parameters()})
    assert set(gradients[0]) == set(gradients[1])
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=lambda text, name=name: f"{name}: {text}")


def test_drop_path_rises_linearly_with_depth():
    trunk = Trunk(TINY.replace(depth=5, drop_path=0.4))
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in trunk.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize("name", ["class_dropout", "token_dropout", "residual_dropout", "ffn_dropout", "drop_path"])
def test_dropout_acts_in_train_mode_only(name):
    settings = dict.fromkeys(["class_dropout", "token_dropout", "residual_dropout", "ffn_dropout", "drop_path"], 0.0)
    model = tiny_generator(**{**settings, name: 0.5})
    codes = random_codes(model.config)
    quiet = model.hidden_states(codes)[-1]
    torch.testing.assert_close(model.hidden_states(codes)[-1], quiet, rtol=0, atol=0)
    torch.manual_seed(0)
    noisy = model.train().hidden_states(codes)[-1]
    assert torch.equal(noisy, quiet) == (name == "class_dropout")  # labels are dropped by the loss alone


def test_train_mode_without_dropout_is_eval_mode():
    model = tiny_generator(class_dropout=0.0, residual_dropout=0.0, ffn_dropout=0.0)
    codes, labels = random_codes(model.config), torch.tensor([0, 3])
    quiet = model.hidden_states(codes, labels)
    for ours, expected in zip(model.train().hidden_states(codes, labels), quiet, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=0)
