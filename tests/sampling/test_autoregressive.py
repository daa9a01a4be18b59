"""Promises of autoregressive sampling: recorded generations of LlamaGen and ELM, and a cache that changes nothing but the time."""

from __future__ import annotations

import pytest
import torch

from bigr_features.functional.codes import code_format
from bigr_features.functional.filtering import draw_index
from bigr_features.sampling.autoregressive import TokenStep

from ..helpers import CAUSAL, TINY, random_codes, recording, tiny_system

LABELS = torch.tensor([1, 3])
ELM_SCHEDULES = {"cos": "cosine"}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def settings_of(golden, run: dict) -> dict:
    """Our settings of a recorded generation."""
    settings = dict(guidance_scale=max(1.0, run["cfg"]), temperature=run["temperature"], top_k=run["top_k"] or None)
    schedule = run.get("schedule", "constant")
    settings["guidance_schedule"] = ELM_SCHEDULES.get(schedule, schedule)
    if run.get("cfg_interval", -1) >= 0:
        stop = (run["cfg_interval"] + 2) / golden.config.num_tokens
        settings |= dict(guidance_schedule="interval", guidance_interval=(0.0, stop))
    if run.get("top_p", 1.0) < 1:
        settings["top_p"] = run["top_p"]
    return settings


@pytest.mark.golden("gen.*.codes", "gen.*.logits", "gen.*.logits_nocache", "gen.*.probs", "gen.*.kept", "gen.*.cfg_used")
@pytest.mark.parametrize("use_cache", [True, False])
def test_recorded_generations_come_out_token_for_token(golden_system, system, use_cache):
    golden, form = golden_system, code_format(golden_system.config)
    if not golden.config.causal:
        golden.checked |= golden.matching(["gen.*"])  # in test_categorical
        pytest.skip("a masked model")
    for name, run in golden.runs("gen_runs").items():
        expected, steps = golden[f"gen.{name}.codes"], []
        settings = settings_of(golden, run) | {"use_cache": use_cache, "on_step": steps.append}
        if run["draw"] == "uniform":
            numbers = iter([u.reshape(form.num_sub_codes, -1).T for u in golden[f"gen.{name}.u"]])
            settings["choose"] = lambda p, numbers=numbers: draw_index(p, next(numbers))
        elif run["draw"] == "greedy":
            settings["choose"] = lambda p: p.argmax(-1)
        else:
            stored = iter(golden[f"gen.{name}.gumbel"])

            def choose(p, stored=stored):
                noise = next(stored)
                noise = noise.transpose(0, 1) if noise.dim() == 3 else noise[:, None]
                return (p.log() + noise).argmax(-1)

            settings["choose"] = choose
        if run.get("prefix"):
            settings["prefix"] = as_codes(golden, expected)[:, : run["prefix"]]
        codes = system.generate(golden[f"gen.{name}.labels"], **settings)
        golden.check(f"gen.{name}.codes", form.indices(codes).reshape(expected.shape))
        check_steps(golden, name, run, steps, use_cache)


def as_codes(golden, indices: torch.Tensor) -> torch.Tensor:
    return code_format(golden.config).codes(indices) if golden.config.tokens == "bits" else indices


def check_steps(golden, name: str, run: dict, steps: list[TokenStep], use_cache: bool) -> None:
    logits, probabilities = (torch.stack([getattr(step, what) for step in steps]) for what in ("logits", "probabilities"))
    if golden.config.tokens == "index":
        recorded = [name for name in (f"gen.{name}.logits", f"gen.{name}.logits_nocache") if name in golden.tensors]
        for key in recorded:
            golden.check(key, logits[:, :, 0])
        if f"gen.{name}.probs" in golden.tensors:
            golden.check(f"gen.{name}.probs", probabilities[:, :, 0])
        return
    golden.check(f"gen.{name}.cfg_used", torch.tensor([step.guidance_scale for step in steps]))
    logits = logits / run["temperature"]
    kept = probabilities > 0
    if run["top_k"]:
        golden.check(f"gen.{name}.kept", kept)
    golden.check(f"gen.{name}.logits", torch.where(kept, logits, 0.0) if run["top_k"] else logits)
    if f"gen.{name}.probs" in golden.tensors:
        golden.check(f"gen.{name}.probs", probabilities)


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("grid_size", [1, 4, 8])
@pytest.mark.parametrize("name", CAUSAL)
def test_the_cache_changes_no_token(name, grid_size, guidance_scale, batch):
    _check_cache(tiny_system(name, grid_size=grid_size, depth=2, num_denoise_steps=2), guidance_scale, batch)


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("name", [name if name == "llamagen" else pytest.param(name, marks=pytest.mark.slow) for name in CAUSAL])
def test_the_cache_changes_no_token_of_256(name, guidance_scale, batch):
    _check_cache(tiny_system(name, grid_size=16, depth=1, width=16, num_denoise_steps=1), guidance_scale, batch)


def _check_cache(model, guidance_scale: float, batch: int) -> None:
    """Tokens drawn with the cache are those drawn without it, and not all the same."""
    labels = torch.arange(batch) % 5  # the null class among them
    cached, plain = (
        model.generate(labels, guidance_scale=guidance_scale, use_cache=use_cache, generator=seeded()) for use_cache in (True, False)
    )
    assert torch.equal(cached, plain)
    assert cached.shape == random_codes(model.config, batch).shape
    assert model.config.num_tokens == 1 or len(torch.unique(cached)) > 1


@pytest.mark.parametrize("changes", [{"adaln": True}, {"num_cond_tokens": 3}, {"input_positions": True}])
@pytest.mark.parametrize("name", CAUSAL)
def test_the_cached_conditions_are_those_of_the_whole_sequence(name, changes):
    model = tiny_system(name, **changes)
    codes = random_codes(model.config)
    expected = model.condition(codes, LABELS)
    condition, cache = model.prefill(LABELS)
    found = [condition]
    for token in range(model.config.num_tokens - 1):
        found.append(model.step(codes[:, token : token + 1], cache))
    torch.testing.assert_close(torch.stack(found, dim=1), expected)
    for count in range(1, model.config.num_tokens):
        torch.testing.assert_close(model.prefill(LABELS, codes=codes[:, :count])[0], expected[:, count])
        torch.testing.assert_close(model.prefill(LABELS, codes=codes[:, :count], use_cache=False)[0], expected[:, count])


def test_with_the_cache_each_token_passes_the_trunk_once():
    model = tiny_system("llamagen")
    lengths = []
    model.trunk.blocks[0].register_forward_pre_hook(lambda _, args: lengths.append(tuple(args[0].shape[:2])))
    model.generate(LABELS, guidance_scale=2.0)
    assert lengths == [(4, 1)] * 9
    lengths.clear()
    model.generate(LABELS, guidance_scale=1.0, use_cache=False)
    assert lengths == [(2, count) for count in range(1, 10)]


def test_after_the_guided_tokens_the_second_branch_is_dropped():
    model = tiny_system("cat_ar")
    rows, steps = [], []
    model.trunk.blocks[0].register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    interval = dict(guidance_schedule="interval", guidance_interval=(0.0, 4 / 9), guidance_scale=3.0)
    cached = model.generate(LABELS, **interval, generator=seeded(), on_step=steps.append)
    assert rows == [4] * 4 + [2] * 5
    assert [step.guidance_scale for step in steps] == [3.0] * 4 + [1.0] * 5
    assert torch.equal(cached, model.generate(LABELS, **interval, generator=seeded(), use_cache=False))
    late = dict(interval, guidance_interval=(5 / 9, 1.0))
    assert torch.equal(*(model.generate(LABELS, **late, generator=seeded(), use_cache=use) for use in (True, False)))


@pytest.mark.parametrize("name", CAUSAL)
def test_an_image_with_a_seed_is_the_same_alone_and_in_any_batch(name):
    model = tiny_system(name)
    labels, seeds = torch.tensor([0, 3, 1]), [5, 6, 7]
    together = model.generate(labels, seeds=seeds)
    for i in range(3):
        assert torch.equal(model.generate(labels[i : i + 1], seeds=seeds[i : i + 1])[0], together[i])
    assert not torch.equal(together[0], together[1])
    other = model.generate(labels, seeds=seeds, batch_invariant=False)
    assert (other == together).float().mean() > 0.9  # rounding may turn a draw over


@pytest.mark.parametrize("name", ["llamagen", "cat_ar", "cat_ar_split"])
def test_top_k_1_is_greedy_and_draws_nothing(name):
    model = tiny_system(name)
    steps: list[TokenStep] = []
    first = model.generate(LABELS, top_k=1, generator=seeded(0), on_step=steps.append)
    assert torch.equal(first, model.generate(LABELS, top_k=1, generator=seeded(1)))
    form = model.code_format
    for step in steps:
        token = form.indices(step.codes[:, step.step])
        assert torch.equal(token, step.logits.argmax(-1))


def test_thresholded_bits_are_those_above_one_half():
    steps: list[TokenStep] = []
    tiny_system("bin_ar").generate(LABELS, bits="threshold", generator=seeded(), on_step=steps.append)
    for step in steps:
        assert torch.equal(step.codes[:, step.step], (step.probabilities > 0.5).float())


@pytest.mark.parametrize("name", CAUSAL)
def test_a_prefix_is_kept_and_the_rest_drawn_from_it(name):
    model = tiny_system(name)
    prefix = random_codes(model.config)[:, :4]
    cached, plain = (model.generate(LABELS, prefix=prefix, generator=seeded(), use_cache=use) for use in (True, False))
    assert torch.equal(cached, plain)
    assert torch.equal(cached[:, :4], prefix)
    assert torch.equal(model.generate(None, prefix=prefix, generator=seeded())[:, :4], prefix)


@pytest.mark.parametrize("name", CAUSAL)
def test_without_labels_and_for_the_null_class_guidance_costs_nothing(name):
    model = tiny_system(name)
    model.prefill, calls = recording(model.prefill)
    drawn = model.generate(None, batch_size=2, generator=seeded())
    assert [len(args[0]) for args, _ in calls] == [2]
    null = torch.full((2,), TINY.num_classes)
    assert torch.equal(drawn, model.generate(null, generator=seeded(), guidance_scale=1.0))


@pytest.mark.parametrize("name", CAUSAL)
def test_mixed_labels(name):
    model = tiny_system(name)
    labels, weights = torch.tensor([[0, 2], [1, 3]]), torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    mixed = model.generate(labels, label_weights=weights, seeds=[1, 2])
    alone = model.generate(torch.tensor([0]), seeds=[1])
    assert torch.equal(mixed[0], alone[0])


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("llamagen", {"top_k": 0}, "top_k=0; give 1"),
        ("llamagen", {"top_k": 13}, r"top_k=13, but there are 12 classes to choose from; give 1\.\.12"),
        ("cat_ar_split", {"top_k": 9}, "top_k=9, but there are 8 classes"),
        ("llamagen", {"top_p": 0.0}, "top_p=0.0; expected a share"),
        ("llamagen", {"top_p": 1.1}, "top_p=1.1"),
        ("bin_ar", {"top_k": 1}, "top_k=1 means nothing for a causal generator of bits.*bits='threshold'"),
        ("bin_ar", {"top_p": 0.5}, "top_p=0.5 means nothing for a causal generator of bits"),
        ("llamagen", {"num_denoise_steps": 5}, "num_denoise_steps=5 means nothing for a causal generator of classes"),
        ("llamagen", {"num_reveal_steps": 5}, "num_reveal_steps=5 means nothing for a causal generator"),
        ("bin_ar", {"order": "halton"}, "order='halton' means nothing for a causal generator"),
        ("bin_ar", {"gumbel_temperature": 0.1}, "gumbel_temperature=0.1 means nothing for a causal generator"),
        ("llamagen", {"mask": torch.ones(2, 9, dtype=torch.bool)}, "codes and mask ask for tokens between known ones, but a causal"),
        ("llamagen", {"prefix": torch.zeros(2, 9, dtype=torch.int64)}, r"prefix has shape \(2, 9\); expected .* first 1\.\.8 tokens"),
        ("llamagen", {"prefix": torch.zeros(3, 2, dtype=torch.int64)}, "prefix holds 3 images but there are labels for 2"),
        ("llamagen", {"prefix": torch.full((2, 2), 12)}, "codes hold index 12"),
        ("bin_ar", {"choose": torch.argmax}, "choose draws classes, but head='bernoulli' draws bits"),
    ],
)
def test_what_makes_no_sense_is_named(name, given, message):
    with pytest.raises(ValueError, match=message):
        tiny_system(name).generate(LABELS, **given)


def test_classes_are_drawn_with_their_probabilities():
    """First tokens of many images of one class, beside the probabilities that the steps report."""
    model, steps = tiny_system("llamagen"), []
    settings = dict(temperature=1.5, top_k=7, generator=seeded(3))
    codes = model.generate(torch.zeros(6000, dtype=torch.int64), on_step=steps.append, **settings)
    expected = steps[0].probabilities[0, 0]
    assert (expected > 0).sum() == 7
    counts = codes[:, 0].bincount(minlength=12) / len(codes)
    torch.testing.assert_close(counts, expected, rtol=0, atol=4 * 0.5 / 6000**0.5)
    assert (counts[expected == 0] == 0).all()
