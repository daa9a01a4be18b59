"""Promises of the compared systems: recorded hidden states, logits, losses and gradients of LlamaGen and ELM, and what causality means."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from bigr_features import BiGR
from bigr_features.checkpoints import elm_generator_state, llamagen_generator_state
from bigr_features.functional.codes import bits_to_indices, code_format, indices_to_bits
from bigr_features.functional.masking import lowest, train_mask_count

from ..helpers import CAUSAL, MASKED, SYSTEM_CHANGES, TINY, GoldenSet, random_codes, tiny_system

LABELS = torch.tensor([1, 3])


def codes_of(golden: GoldenSet, name: str) -> torch.Tensor:
    """Recorded indices as the codes of our model."""
    form = code_format(golden.config)
    return form.codes(golden[name]) if golden.config.tokens == "bits" else golden[name]


def batch_of(golden: GoldenSet) -> tuple[torch.Tensor, torch.Tensor]:
    name = "train" if "train.codes" in golden.tensors else "input"
    return codes_of(golden, f"{name}.codes"), golden[f"{name}.labels"]


@pytest.mark.golden("full_image.*", "rope.table")
def test_hidden_states_and_logits_of_whole_images_are_the_recorded_ones(golden_system, system):
    golden, config = golden_system, golden_system.config
    golden.check("rope.table", system.trunk.rope.table[:: config.positions_per_token])
    for name, labels in (("label", golden["input.labels"]), ("null", None)):
        recorded = golden[f"full_image.hidden.{name}"]
        count = recorded.shape[1]
        codes, given = codes_of(golden, "input.codes")[:count], None if labels is None else labels[:count]
        streams = system.hidden_states(codes, given, return_prefix=True)
        golden.check(f"full_image.hidden.{name}", torch.stack(streams))
        plain = torch.stack(system.hidden_states(codes, given))
        torch.testing.assert_close(plain, torch.stack(streams)[:, :, config.positions_per_token :], rtol=0, atol=0)
        outputs = system.trunk.norm(streams[-1])
        if config.causal:  # recorded for the class position too
            logits = system.head.logits(outputs, system.embedding)  # (B, 1 + N, S, V)
        else:
            logits = system.logits(codes, given)
        golden.check(f"full_image.logits.{name}", logits.reshape(golden[f"full_image.logits.{name}"].shape))


@pytest.mark.golden("masked.logits")
def test_masked_logits_are_the_recorded_ones(golden_system, system):
    golden = golden_system
    if golden.config.causal:
        pytest.skip("nothing is hidden")
    mask = golden["input.token_mask"]
    logits = system.logits(codes_of(golden, "input.codes")[: len(mask)], golden["input.labels"][: len(mask)], mask)
    golden.check("masked.logits", logits.reshape(golden["masked.logits"].shape))


@pytest.mark.golden("train.*.loss", "train.*.logits", "train.*.grad.*", "train.*.acc", "train.*.mask")
def test_training_losses_and_gradients_are_the_recorded_ones(golden_system, system):
    golden = golden_system
    for name, variant in golden.runs("train_variants").items():
        codes, labels = batch_of(golden)
        if variant.get("class_dropout"):
            labels = torch.where(golden["train.u_class"] < 0.1, golden.config.null_class, labels)
        mask = golden.tensors.get(f"train.{name}.mask")
        logits = system.logits(codes, labels, mask)
        golden.check(f"train.{name}.logits", logits.reshape(golden[f"train.{name}.logits"].shape))
        terms = None
        if "soft_dist" in variant:  # not offered: a loss over all tokens, shown and hidden
            loss = soft_loss(golden, logits, codes, variant["soft_dist"])
        elif "valid" in variant:  # images of weight 0 are left out
            used = golden["train.valid"].bool()
            loss = system.loss(codes[used], labels[used]).loss
        else:
            terms = system.loss(codes, labels, mask=mask, label_smoothing=variant.get("smoothing"))
            loss = terms.loss
        golden.check(f"train.{name}.loss", loss.reshape(1))
        if f"train.{name}.acc" in golden.tensors:
            golden.check(f"train.{name}.acc", terms.accuracy.reshape(1))
        if mask is not None:
            golden.check(f"train.{name}.mask", recorded_mask(golden, variant))

        system.zero_grad()
        loss.backward()
        gradients = official_gradients(system)
        for key in golden.matching([f"train.{name}.grad.*"]):
            golden.check(key, gradients[key.removeprefix(f"train.{name}.grad.")])
        norms = json.loads((golden.folder / "train_grad_norms.json").read_text())["grad_norms"][name]
        ours = {key: gradient.norm().item() for key, gradient in gradients.items()}
        expected = {key: norm for key, norm in norms.items() if norm is not None}
        assert {key: ours[key] for key in expected} == pytest.approx(expected, rel=1e-5, abs=1e-7)
        assert all(norm == 0 for key, norm in ours.items() if key not in expected)


def soft_labels(sub_codes: torch.Tensor, distance: int) -> torch.Tensor:
    """Weights exp(-3 h) of all codes at Hamming distance h up to `distance` of some (M, bits)."""
    bits = sub_codes.shape[-1]
    apart = (sub_codes[:, None] - indices_to_bits(torch.arange(2**bits)[:, None], bits)).abs().sum(-1)
    weights = torch.exp(-3 * apart) * (apart <= distance)
    return weights / weights.sum(-1, keepdim=True)


def soft_loss(golden: GoldenSet, logits: torch.Tensor, codes: torch.Tensor, distance: int) -> torch.Tensor:
    """Cross-entropy against soft labels, over all tokens."""
    targets = soft_labels(codes.reshape(-1, golden.config.code_dim // golden.config.num_sub_codes), distance)
    return F.cross_entropy(logits.reshape(len(targets), -1), targets)


@pytest.mark.golden("softlabel.dist*")
def test_soft_labels_as_the_test_above_makes_them(golden_system):
    for most in (1, 2):
        if f"softlabel.dist{most}" in golden_system.tensors:
            golden_system.check(f"softlabel.dist{most}", soft_labels(golden_system["softlabel.bits"], most))


def recorded_mask(golden: GoldenSet, variant: dict) -> torch.Tensor:
    """The mask that our rule makes of the recorded noise, image by image."""
    noise = golden["train.noise"]
    steps = variant["step"] if isinstance(variant["step"], list) else [variant["step"]] * len(noise)
    tokens, levels = noise.shape[1], golden.config.mask_levels
    counts = [train_mask_count(tokens, step, levels) for step in steps]
    if variant["mask_schtype"] == "linear":
        counts = [max(1, int(tokens * (1 - step / levels))) for step in steps]
    if variant.get("train_iter_loc"):  # later in ELM's training: 1 - cos; ours stays with the cosine
        counts = [max(1, int(tokens * (1 - torch.cos(torch.tensor(torch.pi / 2 * step / levels))))) for step in steps]
    return torch.cat([lowest(noise[i : i + 1], count) for i, count in enumerate(counts)])


def official_gradients(model: BiGR) -> dict[str, torch.Tensor]:
    """Gradients under the names of the public code, zero where there is none."""
    names = dict(model.named_parameters())
    saved = {name: parameter.data.clone() for name, parameter in names.items()}
    with torch.no_grad():
        for parameter in names.values():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
        state = {key: value.clone() for key, value in official_state(model).items()}
        for name, parameter in names.items():
            parameter.copy_(saved[name])
    return state


def official_state(model: BiGR) -> dict[str, torch.Tensor]:
    return (llamagen_generator_state if model.config.tokens == "index" else elm_generator_state)(model)


@pytest.mark.golden("bits.indices", "bits.codes_random")
def test_the_first_bit_of_a_sub_code_is_the_most_significant(golden_system):
    golden = golden_system
    if "bits.codes" not in golden.tensors:
        pytest.skip("no bits")
    parts = golden.config.num_sub_codes
    golden.check("bits.indices", bits_to_indices(golden["bits.codes"].flatten(2).transpose(1, 2), parts))
    random = golden["bits.indices_random"]
    bits = indices_to_bits(random, golden.config.code_dim)
    golden.check("bits.codes_random", bits.transpose(1, 2).unflatten(2, (4, 4)))


@given(st.data())
def test_bits_and_indices_are_inverse(data):
    parts = data.draw(st.integers(1, 4))
    bits = data.draw(st.integers(1, 16))
    codes = torch.randint(2, (3, 5, parts * bits), generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99)))).float()
    indices = bits_to_indices(codes, parts)
    assert indices.shape == (3, 5, parts)
    assert indices.min() >= 0
    assert indices.max() < 2**bits
    torch.testing.assert_close(indices_to_bits(indices, parts * bits), codes, rtol=0, atol=0)


@pytest.mark.parametrize("grid_size", [1, 2, 3, 5])
@pytest.mark.parametrize("num_cond_tokens", [1, 3])
@pytest.mark.parametrize("name", CAUSAL)
def test_a_hidden_state_of_a_causal_model_depends_on_no_later_token(name, num_cond_tokens, grid_size):
    model = tiny_system(name, grid_size=grid_size, num_cond_tokens=num_cond_tokens)
    codes, other = random_codes(model.config, seed=0), random_codes(model.config, seed=1)
    before, changed = model.hidden_states(codes, LABELS), None
    for token in range(model.config.num_tokens):
        mixed = torch.cat([codes[:, : token + 1], other[:, token + 1 :]], dim=1)
        for stream, again in zip(before, model.hidden_states(mixed, LABELS), strict=True):
            torch.testing.assert_close(again[:, : token + 1], stream[:, : token + 1])
        mixed[:, token] = other[:, token]
        condition = model.condition(mixed, LABELS)
        torch.testing.assert_close(condition[:, : token + 1], model.condition(codes, LABELS)[:, : token + 1])
        changed = condition
    assert changed is not None


@pytest.mark.parametrize("grid_size", [2, 3])
@pytest.mark.parametrize("name", MASKED)
def test_a_hidden_state_of_a_masked_model_depends_on_later_tokens(name, grid_size):
    model = tiny_system(name, grid_size=grid_size)
    codes, other = random_codes(model.config, seed=0), random_codes(model.config, seed=1)
    mixed = torch.cat([codes[:, :1], other[:, 1:]], dim=1)
    positions = model.config.positions_per_token
    first, again = model.hidden_states(codes, LABELS)[-1], model.hidden_states(mixed, LABELS)[-1]
    assert not torch.allclose(first[:, :positions], again[:, :positions], atol=1e-3)


@pytest.mark.parametrize("name", SYSTEM_CHANGES)
@pytest.mark.parametrize("changes", [{}, {"adaln": True}, {"num_cond_tokens": 2}, {"input_positions": True}])
def test_gradient_of_the_loss_reaches_every_parameter(name, changes):
    model = tiny_system(name, **changes).train()
    model.loss(random_codes(model.config), LABELS, generator=torch.Generator().manual_seed(0)).loss.backward()
    without = {key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert without == set()


@pytest.mark.parametrize("name", SYSTEM_CHANGES)
def test_features_are_the_hidden_states_of_the_null_class(name):
    model = tiny_system(name)
    codes = random_codes(model.config)
    for layer, hidden in enumerate(model.hidden_states(codes)):
        torch.testing.assert_close(model.features(codes, layer), hidden)


@pytest.mark.parametrize("name", [name for name in SYSTEM_CHANGES if name not in ("bigr", "bin_ar")])
def test_an_untrained_categorical_model_is_at_the_loss_of_a_uniform_guess(name):
    model = BiGR(TINY.replace(**SYSTEM_CHANGES[name]))
    terms = model.loss(random_codes(model.config), LABELS)
    uniform = torch.log(torch.tensor(float(model.config.vocab_size)))
    tolerance = 0.0 if model.config.causal else 0.5  # the official linear head starts at zero, the masked one does not
    torch.testing.assert_close(terms.loss, uniform, rtol=1e-5, atol=tolerance)
    torch.testing.assert_close(terms.loss, terms.cross_entropy)


def test_label_smoothing_is_the_configurations_unless_given():
    codes = random_codes(TINY)
    plain, smooth = tiny_system("cat_ar"), tiny_system("cat_ar", label_smoothing=0.2)
    assert smooth.loss(codes, LABELS).loss == plain.loss(codes, LABELS, label_smoothing=0.2).loss != plain.loss(codes, LABELS).loss
    assert smooth.loss(codes, LABELS).cross_entropy == plain.loss(codes, LABELS).loss
    with pytest.raises(ValueError, match=r"label_smoothing=1.0; expected a number in \[0, 1\)"):
        plain.loss(codes, LABELS, label_smoothing=1.0)


@pytest.mark.parametrize("name", SYSTEM_CHANGES)
def test_a_draw_of_another_head_is_refused(name):
    model = tiny_system(name)
    codes = random_codes(model.config)
    steps = torch.ones(codes.shape[:2], dtype=torch.int64)
    given = {"timesteps": steps} if model.config.categorical else {"label_smoothing": 0.1}
    with pytest.raises(ValueError, match=rf"{next(iter(given))} was given, but head='{model.config.head}' has no use for it"):
        model.loss(codes, LABELS, **given)


@pytest.mark.parametrize("call", ["loss", "condition", "hidden_states", "logits"])
@pytest.mark.parametrize("name", CAUSAL)
def test_a_mask_for_a_causal_model_is_refused(name, call):
    model = tiny_system(name)
    if call == "logits" and not model.config.categorical:
        pytest.skip("bits have no logits of classes")
    with pytest.raises(ValueError, match="a mask was given, but a causal generator predicts every token"):
        getattr(model, call)(random_codes(model.config), LABELS, mask=torch.ones(2, 9, dtype=torch.bool))


def test_logits_of_bits_are_refused():
    with pytest.raises(TypeError, match="logits\\(\\) is for categorical heads"):
        tiny_system("bin_ar").logits(random_codes(TINY), LABELS)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(2, 9, 5), "which looks like 5 bits a token, but this model takes one index of 0..11 a token"),
        (torch.zeros(2, 8, dtype=torch.int64), r"codes have shape \(2, 8\); expected \(batch, 9\)"),
        (torch.zeros(2, 9), "codes have dtype torch.float32; expected integer indices"),
        (torch.full((2, 9), 12), r"codes hold index 12; expected 0\.\.11"),
        (torch.full((2, 9), -1), "codes hold index -1"),
    ],
)
def test_codes_that_are_no_indices_are_named(codes, message):
    with pytest.raises(ValueError, match=message):
        tiny_system("llamagen").loss(codes, LABELS)


@pytest.mark.parametrize("name", ["bigr", "bin_ar", "cat_ar", "cat_mask"])
def test_indices_for_a_model_of_bits_are_named(name):
    with pytest.raises(ValueError, match=r"codes have shape \(2, 9\).*Indices \(B, N\) belong to a VQ tokenizer"):
        tiny_system(name).loss(torch.zeros(2, 9, dtype=torch.int64), LABELS)
