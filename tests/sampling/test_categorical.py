"""Promises of masked sampling of classes: ELM's recorded masks, confidences and codes, and known tokens left alone."""

from __future__ import annotations

import json

import pytest
import torch

from bigr_features.functional.codes import code_format
from bigr_features.functional.masking import masked_fraction, train_mask_count
from bigr_features.sampling import categorical
from bigr_features.sampling.categorical import DrawStep
from bigr_features.sampling.noise import Noise

from ..helpers import GOLDEN, TINY, random_codes, recording, tiny_system

LABELS = torch.tensor([1, 3])
SYSTEMS = ["cat_mask", "cat_mask_split"]
SCHEDULES = json.loads((GOLDEN / "systems" / "mask_schedules.json").read_text())
NAMES = {"cos": "cosine", "linear": "linear"}


class Scripted(Noise):
    """Hands out stored numbers, one tensor a step."""

    def __init__(self, uniform, gumbel):
        super().__init__(None, per_image=False)
        self.numbers, self.noise = iter(uniform), iter(gumbel)

    def uniform(self, shape, device):
        return next(self.numbers).reshape(shape)

    def gumbel(self, shape, device):
        return next(self.noise).reshape(shape)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.golden("gen.*.codes", "gen.*.logits", "gen.*.mask_*", "gen.*.prob", "gen.*.reveal_iter", "gen.*.sampled", "gen.*.score")
def test_recorded_generations_come_out_step_for_step(golden_system, system):
    golden, form = golden_system, code_format(golden_system.config)
    if golden.config.causal:
        golden.checked |= golden.matching(["gen.*"])  # in test_autoregressive
        pytest.skip("a causal model")
    for name, run in golden.runs("gen_runs").items():
        steps: list[DrawStep] = []
        settings = dict(
            num_reveal_steps=run["num_iter"],
            guidance_scale=run["cfg"],
            guidance_schedule={"powercos": "power_cosine"}.get(run["schedule"], run["schedule"]),
            guidance_power=run["scale_pow"],
            mask_schedule=NAMES[run["mask_schtype"]],
            gumbel_temperature=run["temperature"],
            top_k=1 if run["draw"] == "greedy" else None,
        )
        stored = [golden.tensors.get(f"gen.{name}.{what}", torch.empty(0)) for what in ("u", "gumbel")]
        codes = system.generate(golden[f"gen.{name}.labels"], generator=Scripted(*stored), on_step=steps.append, **settings)
        golden.check(f"gen.{name}.codes", form.indices(codes))
        golden.check(f"gen.{name}.sampled", torch.stack([form.indices(step.codes) for step in steps]))
        golden.check(f"gen.{name}.cfg_used", torch.tensor([step.guidance_scale for step in steps]))
        after = [step.mask for step in steps[1:]]
        recorded = golden[f"gen.{name}.mask_out"]
        assert torch.equal(torch.stack(after), recorded[:-1])  # of the last step we keep every draw, as the public code returns them
        golden.checked.add(f"gen.{name}.mask_out")
        assert [int(mask[0].sum()) for mask in after] == golden[f"gen.{name}.mask_len"].tolist()[:-1]
        golden.checked.add(f"gen.{name}.mask_len")
        reveal = torch.full(recorded.shape[1:], -1, dtype=torch.int32)
        for i, mask in reversed(list(enumerate(after))):
            reveal[~mask] = i
        last = golden[f"gen.{name}.reveal_iter"] == run["num_iter"] - 1
        assert torch.equal(reveal[~last], golden[f"gen.{name}.reveal_iter"][~last])
        golden.checked.add(f"gen.{name}.reveal_iter")
        known = ~torch.stack([step.mask for step in steps])
        golden.check(f"gen.{name}.prob", torch.stack([step.probabilities for step in steps]).masked_fill(known[..., None], 2.0))
        golden.check(f"gen.{name}.score", torch.stack([step.confidence for step in steps]).clamp(max=1000.0))
        for place, i in enumerate((0, 1, run["num_iter"] - 1)):
            expected = golden[f"gen.{name}.logits"][place].reshape(steps[i].logits.shape)
            where = steps[i].mask
            tolerance = golden.noise[f"gen.{name}.logits"]["tolerance_abs"]
            torch.testing.assert_close(steps[i].logits[where], expected[where], rtol=0, atol=tolerance)
        golden.checked.add(f"gen.{name}.logits")


@pytest.mark.parametrize("schedule", SCHEDULES["sample"])
def test_tokens_left_hidden_are_the_recorded_ones_at_every_size(schedule):
    for tokens, runs in SCHEDULES["sample"][schedule].items():
        for steps, expected in runs.items():
            first = hidden = torch.tensor([int(tokens)])
            found = []
            for step in range(int(steps)):
                hidden = categorical._left(first, hidden, masked_fraction((step + 1) / int(steps), NAMES[schedule]))
                found.append(int(hidden))
            assert found == expected, f"{tokens} tokens in {steps} steps"


def test_tokens_hidden_in_training_are_the_recorded_ones_at_every_size():
    for tokens, levels in SCHEDULES["train"]["cos"].items():
        for count, expected in levels.items():
            assert [train_mask_count(int(tokens), step, int(count)) for step in range(int(count))] == expected


@pytest.mark.parametrize("name", SYSTEMS)
def test_known_tokens_are_never_written_and_hidden_ones_are(name):
    model = tiny_system(name)
    codes = random_codes(model.config, batch=3)
    mask = torch.zeros(3, 9, dtype=torch.bool)
    mask[0, :4], mask[1] = True, True  # the third image hides nothing
    steps: list[DrawStep] = []
    drawn = model.generate(torch.tensor([1, 2, 3]), codes=codes, mask=mask, num_reveal_steps=4, generator=seeded(), on_step=steps.append)
    assert torch.equal(drawn[~mask], codes[~mask])
    assert not torch.equal(drawn[mask], codes[mask])
    for step in steps:
        assert not (step.mask & ~mask).any()
    assert torch.equal(torch.stack([step.revealed for step in steps]).any(0), mask)


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("num_reveal_steps", [1, 2, 5, 12])
def test_every_step_hides_fewer_tokens_and_the_last_keeps_all(name, num_reveal_steps):
    model, steps = tiny_system(name), []
    model.generate(LABELS, num_reveal_steps=num_reveal_steps, gumbel_temperature=1.0, generator=seeded(), on_step=steps.append)
    counts = [step.mask.sum(1).tolist() for step in steps]
    assert counts[0] == [9, 9]
    assert all(after <= before and after >= 1 for i in range(2) for before, after in zip(*[[c[i] for c in counts]] * 2, strict=True))
    assert torch.equal(steps[-1].revealed, steps[-1].mask)


@pytest.mark.parametrize("name", SYSTEMS)
def test_an_image_with_a_seed_is_the_same_alone_and_in_any_batch(name):
    model = tiny_system(name)
    labels, seeds = torch.tensor([0, 3, 1]), [5, 6, 7]
    settings = dict(num_reveal_steps=4, gumbel_temperature=0.5)
    together = model.generate(labels, seeds=seeds, **settings)
    for i in range(3):
        assert torch.equal(model.generate(labels[i : i + 1], seeds=seeds[i : i + 1], **settings)[0], together[i])
    other = model.generate(labels, seeds=seeds, batch_invariant=False, **settings)
    assert (other == together).float().mean() > 0.9  # rounding may turn a draw over


def test_guidance_of_1_and_of_the_null_class_costs_one_pass():
    model = tiny_system("cat_mask")
    model.condition, calls = recording(model.condition)
    model.generate(LABELS, num_reveal_steps=2, guidance_scale=1.0, generator=seeded())
    model.generate(None, batch_size=2, num_reveal_steps=1, guidance_scale=3.0, generator=seeded())
    model.generate(LABELS, num_reveal_steps=1, guidance_scale=3.0, generator=seeded())
    assert [len(args[0]) for args, _ in calls] == [2, 2, 2, 4]


def test_the_head_runs_on_hidden_tokens_only():
    model, rows, steps = tiny_system("cat_mask"), [], []
    model.head.fc.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[0]))
    model.generate(LABELS, num_reveal_steps=4, guidance_scale=1.0, generator=seeded(), on_step=steps.append)
    assert rows == [int(step.mask.sum()) for step in steps]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"order": "halton"}, "order='halton' means nothing for masked sampling of classes"),
        ({"bits": "threshold"}, "bits='threshold' means nothing for masked sampling of classes"),
        ({"num_denoise_steps": 3}, "num_denoise_steps=3 means nothing"),
        ({"top_k": 33}, "top_k=33, but there are 32 classes"),
        ({"num_reveal_steps": 0}, "num_reveal_steps=0"),
        ({"codes": torch.zeros(2, 9, 5)}, "codes and mask belong together"),
        ({"codes": torch.zeros(2, 9, 5), "mask": torch.ones(2, 8, dtype=torch.bool)}, "do not fit together"),
    ],
)
def test_what_makes_no_sense_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        tiny_system("cat_mask").generate(LABELS, **given)


def test_filters_mean_nothing_for_masked_bits():
    with pytest.raises(ValueError, match="top_k=1 means nothing for masked sampling of bits"):
        tiny_system("bigr").generate(LABELS, top_k=1)
    assert TINY.head == "bernoulli"
