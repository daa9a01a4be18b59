"""Promises of masked sampling: the recorded runs step by step, and that known tokens are never written."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bigr_features.functional import masking
from bigr_features.sampling import RevealStep, sample_codes

from ..helpers import TINY, Draws, random_codes, recording, tiny_generator

LABELS = torch.tensor([1, 3])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def recorded_settings(golden, name: str) -> dict:
    """The arguments of `sample_codes` that repeat a recorded run."""
    run = golden.runs("gen_runs")[name]
    settings = {
        "labels": golden[f"gen.{name}.labels"],
        "num_reveal_steps": run["num_iter"],
        "num_denoise_steps": run["infer_steps"],
        "guidance_scale": run["cfg"],
        "guidance_schedule": run["sched"],
        "temperature": run.get("temp", 1.0),
        "gumbel_temperature": run.get("gumbel_temp", 0.0),
        "gumbel_schedule": run.get("gumbel_schedule", "constant"),
        "mask_schedule": {"cos": "cosine", "linear": "linear"}[run.get("mask_schedule", "cos")],
    }
    if "interp" in run:
        settings["labels"] = torch.stack([golden[f"gen.{name}.labels"], golden[f"gen.{name}.labels2"]], dim=1)
        settings["label_weights"] = torch.tensor(run["interp"][1])
    if "inpaint_seed" in run:
        mask = golden[f"gen.{name}.inpaint_mask"]
        settings |= {"codes": golden["input.codes"][: len(mask)], "mask": mask}
    return settings


def stored_draws(golden, name: str) -> list[Tensor]:
    """Uniform numbers of a recorded run in the order of our draws: hidden tokens only, without steps that reveal nothing."""
    uniforms = []
    for step, count in enumerate(golden[f"gen.{name}.predict_len"].tolist()):
        if count:
            rows = golden[f"gen.{name}.mask_in"][step].flatten()
            uniforms += [chain[rows] for chain in golden[f"gen.{name}.u_chain"][step]]
            uniforms.append(golden[f"gen.{name}.u_reveal"].flatten(0, 1)[rows])
    return uniforms


@pytest.mark.golden(
    "gen.*.codes", "gen.*.mask_in", "gen.*.reveal_iter", "gen.*.predict_len", "gen.*.cfg_used", "gen.*.pred", "gen.*.confidence"
)
def test_every_recorded_run_is_met_step_by_step(golden, generator, monkeypatch):
    for name in golden.runs("gen_runs"):
        prefix, scripted = f"gen.{name}", f"gen.{name}.u_chain" in golden.tensors
        monkeypatch.setattr(torch, "bernoulli", Draws(stored_draws(golden, name) if scripted else None))
        if scripted:
            revealing = iter(golden[f"{prefix}.gumbel"][golden[f"{prefix}.predict_len"] > 0])
            monkeypatch.setattr(masking, "gumbel_noise", lambda *_, noise=revealing: next(noise))
        steps: list[RevealStep] = []
        golden.check(f"{prefix}.codes", sample_codes(generator, **recorded_settings(golden, name), on_step=steps.append))

        recorded_pred = golden[f"{prefix}.pred"]
        reveal_iter = torch.full_like(golden[f"{prefix}.reveal_iter"], -1)
        predict_len = torch.zeros_like(golden[f"{prefix}.predict_len"])
        pred, confidence = torch.zeros_like(recorded_pred), torch.zeros(recorded_pred.shape[:3])
        scale = torch.zeros(len(recorded_pred))
        for step in steps:
            reveal_iter[step.revealed] = step.step
            predict_len[step.step] = step.revealed[0].sum()
            pred[step.step], confidence[step.step], scale[step.step] = step.probabilities, step.confidence, step.guidance_scale
        golden.check(f"{prefix}.reveal_iter", reveal_iter)
        golden.check(f"{prefix}.predict_len", predict_len)
        mask_in = torch.stack([reveal_iter >= step for step in range(len(recorded_pred))])
        golden.check(f"{prefix}.mask_in", mask_in)
        for step in steps:
            assert torch.equal(step.mask, mask_in[step.step])

        ran = predict_len > 0
        golden.check(f"{prefix}.cfg_used", scale, where=ran)
        golden.check(f"{prefix}.confidence", confidence, where=mask_in & ran[:, None, None])
        golden.check(f"{prefix}.pred", pred, where=(mask_in & ran[:, None, None])[..., None].expand_as(pred))


@pytest.mark.parametrize("num_reveal_steps", [1, 2, 5, 9, 14])
@pytest.mark.parametrize("mask_schedule", masking.MASK_SCHEDULES)
def test_every_hidden_token_is_drawn_once_and_known_tokens_stay(num_reveal_steps, mask_schedule):
    """Images hide 9, 4, 1 and 0 tokens."""
    model = tiny_generator()
    known = random_codes(TINY, batch=4, seed=7)
    mask = torch.stack([torch.arange(9) < hidden for hidden in (9, 4, 1, 0)])
    steps: list[RevealStep] = []
    codes = model.generate(
        torch.tensor([0, 1, 2, 3]),
        codes=known,
        mask=mask,
        num_reveal_steps=num_reveal_steps,
        mask_schedule=mask_schedule,
        gumbel_temperature=0.5,
        generator=seeded(),
        on_step=steps.append,
    )
    assert torch.equal(torch.stack([step.revealed for step in steps]).sum(0), mask.long())
    assert torch.equal(codes[~mask], known[~mask])
    assert set(codes.unique().tolist()) == {0.0, 1.0}
    counts = [masking.reveal_counts(int(hidden), num_reveal_steps, mask_schedule) for hidden in mask.sum(1)]
    for step in steps:
        assert step.revealed.sum(1).tolist() == [image[step.step] for image in counts]
        assert not (step.revealed & ~step.mask).any()
        assert torch.equal(step.codes[~mask], known[~mask])


def test_the_most_confident_tokens_are_revealed_first():
    steps: list[RevealStep] = []
    tiny_generator().generate(LABELS, num_reveal_steps=4, generator=seeded(), on_step=steps.append)
    for step in steps:
        torch.testing.assert_close(step.confidence[step.mask], (2 * step.probabilities[step.mask] - 1).abs().mean(-1))
        assert (step.confidence[~step.mask] == -torch.inf).all()
        assert step.probabilities[~step.mask].isnan().all()
        kept = step.mask & ~step.revealed
        least_revealed = step.confidence.masked_fill(~step.revealed, torch.inf).amin(1)
        most_kept = step.confidence.masked_fill(~kept, -torch.inf).amax(1)
        assert (least_revealed >= most_kept).all()


def test_nothing_hidden_returns_the_codes_without_a_pass(monkeypatch):
    model, known = tiny_generator(), random_codes(TINY)
    model.condition, calls = recording(model.condition)
    codes = model.generate(LABELS, codes=known, mask=torch.zeros(2, 9, dtype=torch.bool), num_reveal_steps=3)
    assert torch.equal(codes, known)
    assert calls == []


@pytest.mark.parametrize(("guidance_scale", "rows"), [(1.0, 2), (2.5, 4)])
def test_guidance_of_one_costs_one_pass_and_more_costs_two_in_one_call(guidance_scale, rows):
    model = tiny_generator()
    model.condition, calls = recording(model.condition)
    model.generate(LABELS, num_reveal_steps=3, guidance_scale=guidance_scale, generator=seeded())
    assert [args[0].shape[0] for args, _ in calls] == [rows] * 3


def test_steps_that_reveal_nothing_cost_nothing():
    model = tiny_generator()
    model.condition, calls = recording(model.condition)
    model.generate(LABELS, num_reveal_steps=20, generator=seeded())
    assert len(calls) == sum(count > 0 for count in masking.reveal_counts(9, 20)) < 20


def test_guidance_has_no_effect_on_the_null_class():
    model = tiny_generator()
    without, guided = (
        model.generate(None, batch_size=2, num_reveal_steps=3, guidance_scale=scale, generator=seeded()) for scale in (1.0, 5.0)
    )
    assert torch.equal(without, guided)


@pytest.mark.parametrize("posterior", ["official", "exact"])
def test_same_seed_same_codes_and_another_seed_others(posterior):
    model = tiny_generator()
    settings = {"num_reveal_steps": 4, "gumbel_temperature": 0.3, "posterior": posterior}
    first, again, other = (model.generate(LABELS, **settings, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("changes", [{}, {"adaln": False}, {"num_cond_tokens": 3}, {"class_dropout": 0.0}, {"noise_schedule": "cosine"}])
@pytest.mark.parametrize("num_denoise_steps", [None, 1, 16])
def test_codes_are_bits_for_every_kind_of_generator(changes, num_denoise_steps):
    codes = tiny_generator(**changes).generate(
        LABELS, num_reveal_steps=3, num_denoise_steps=num_denoise_steps, guidance_schedule="linear", generator=seeded()
    )
    assert codes.shape == (2, TINY.num_tokens, TINY.code_dim)
    assert set(codes.unique().tolist()) == {0.0, 1.0}


def test_a_certain_mix_of_labels_is_the_label():
    model = tiny_generator()
    plain = model.generate(LABELS, num_reveal_steps=3, generator=seeded())
    mixed = torch.stack([LABELS, LABELS.flip(0)], dim=1)
    for weights in (torch.tensor([1.0, 0.0]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])):
        assert torch.equal(model.generate(mixed, label_weights=weights, num_reveal_steps=3, generator=seeded()), plain)


def test_dropout_is_off_while_sampling_and_modes_come_back():
    model = tiny_generator(residual_dropout=0.5, ffn_dropout=0.5)
    expected = model.generate(LABELS, num_reveal_steps=3, generator=seeded())
    model.train()
    model.trunk.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    assert torch.equal(model.generate(LABELS, num_reveal_steps=3, generator=seeded()), expected)
    assert {name: module.training for name, module in model.named_modules()} == modes


def test_sampling_leaves_no_graph():
    assert not tiny_generator().generate(LABELS, num_reveal_steps=2, generator=seeded()).requires_grad


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"guidance_scale": 0.5}, ValueError, "guidance_scale=0.5; expected 1.0"),
        ({"guidance_scale": float("nan")}, ValueError, "guidance_scale=nan; expected 1.0"),
        ({"temperature": float("nan")}, ValueError, "temperature=nan; expected a positive number"),
        ({"gumbel_temperature": float("nan")}, ValueError, "gumbel_temperature=nan; expected 0 or more"),
        ({"guidance_schedule": "step"}, ValueError, "guidance_schedule='step'; choose one of constant, linear"),
        ({"temperature": 0.0}, ValueError, "temperature=0.0; expected a positive number"),
        ({"gumbel_temperature": -1.0}, ValueError, "gumbel_temperature=-1.0; expected 0 or more"),
        ({"gumbel_temperature": 1.0, "gumbel_schedule": "cosine"}, ValueError, "gumbel schedule 'cosine' is unknown"),
        ({"mask_schedule": "cos"}, ValueError, "mask schedule 'cos' is unknown"),
        ({"num_reveal_steps": 0}, ValueError, "num_reveal_steps=0"),
        ({"num_denoise_steps": 17}, ValueError, r"num_denoise_steps=17, but it must lie in 1\.\.16"),
        ({"posterior": "true"}, ValueError, "posterior 'true' is unknown"),
        ({"labels": None}, ValueError, "labels is None.*give batch_size"),
        ({"labels": torch.tensor([0, 5])}, ValueError, "label 5 is out of range"),
        ({"labels": torch.tensor([0.5, 1.0])}, TypeError, "labels have dtype torch.float32"),
        ({"labels": torch.zeros(2, 2, dtype=torch.int64)}, ValueError, r"labels have shape \(2, 2\)"),
        ({"labels": torch.zeros(2, 2, dtype=torch.int64), "label_weights": torch.ones(3)}, ValueError, r"label_weights .*\(3,\)"),
        ({"labels": torch.zeros(2, 2, dtype=torch.int64), "label_weights": torch.ones(3, 2)}, ValueError, r"label_weights .*\(3, 2\)"),
        ({"batch_size": 3}, ValueError, "batch_size=3 but there are labels for 2 images"),
        ({"codes": random_codes(TINY)}, ValueError, "codes and mask belong together"),
        ({"mask": torch.ones(2, 9, dtype=torch.bool)}, ValueError, "codes and mask belong together"),
        (
            {"codes": random_codes(TINY), "mask": torch.ones(1, 9, dtype=torch.bool)},
            ValueError,
            r"mask \(1, 9\).*do not fit together",
        ),
        ({"codes": random_codes(TINY), "mask": torch.ones(2, 9)}, ValueError, "torch.float32.*do not fit together"),
        (
            {"codes": random_codes(TINY) / 2, "mask": torch.ones(2, 9, dtype=torch.bool)},
            ValueError,
            "codes hold 0.5; expected bits",
        ),
        ({"codes": torch.zeros(2, 9, 8), "mask": torch.ones(2, 9, dtype=torch.bool)}, ValueError, "codes have 8 bits"),
    ],
)
def test_settings_that_make_no_sense_are_named(given, error, message):
    with pytest.raises(error, match=message):
        sample_codes(tiny_generator(), **{"labels": LABELS, "num_reveal_steps": 3, **given})
