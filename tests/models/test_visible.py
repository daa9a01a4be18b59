"""Promises of blocks that see visible tokens only: nothing hidden changes them, both ways of computing them agree, the rest stays."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigr_features import BiGR, GeneratorConfig

SMALL = GeneratorConfig(
    code_dim=6, depth=4, width=32, num_heads=2, grid_size=4, num_classes=5, ffn_multiple_of=16, denoiser_width=16, denoiser_depth=1,
    num_timesteps=8, num_denoise_steps=2, init_std=0.2, position_init_std=0.5, visible_blocks=2, class_dropout=0.0,
)  # fmt: skip
CATEGORICAL = SMALL.replace(head="mlm", num_sub_codes=2, adaln=False)


@pytest.fixture(scope="module", params=["bits", "sub-codes", "positions"])
def model(request):
    torch.manual_seed(0)
    changes = {"input_positions": True} if request.param == "positions" else {}
    return BiGR((CATEGORICAL if request.param == "sub-codes" else SMALL).replace(**changes)).double().eval()


def codes_of(batch: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(2, (batch, 16, 6), generator=torch.Generator().manual_seed(seed)).double()


@given(seed=st.integers(0, 1000), hidden=st.integers(1, 15))
@settings(max_examples=15)
def test_the_first_blocks_see_visible_tokens_only(model, seed, hidden):
    source = torch.Generator().manual_seed(seed)
    mask = torch.rand(2, 16, generator=source).argsort(1) < hidden
    codes, labels, positions = codes_of(2, seed), torch.tensor([0, 3]), model.config.positions_per_token
    streams = model.hidden_states(codes, labels, mask)
    shown = (~mask).repeat_interleave(positions, 1)
    start = model.token_vectors(codes, mask)
    for layer in range(2):
        assert torch.equal(streams[layer][~shown], start[~shown])  # untouched before they join
    assert not torch.allclose(streams[2][~shown], start[~shown])
    # a model of the first blocks alone, given the visible tokens of each image alone
    for image in range(2):
        kept = torch.nonzero(shown[image]).flatten()
        vectors = start[image : image + 1, kept]
        condition = model.conditioned(labels[image : image + 1])
        x = torch.cat([condition.prefix, vectors], 1)
        prefix = condition.prefix.shape[1]
        rope = model.trunk.rope.table[torch.cat([torch.arange(prefix), prefix + kept])]
        modulation = None if model.trunk.modulation is None else model.trunk.modulation(condition.vector)
        for layer, block in enumerate(model.trunk.blocks[:2]):
            x = block(x, modulation, rope)
            torch.testing.assert_close(streams[layer][image, kept], x[0, prefix:])


def test_images_with_unequal_masks_are_what_they_are_alone(model):
    codes, labels = codes_of(3), torch.tensor([0, 3, 5])
    mask = torch.arange(16)[None] < torch.tensor([3, 9, 16])[:, None]
    together = model.hidden_states(codes, labels, mask)
    for i in range(3):
        alone = model.hidden_states(codes[i : i + 1], labels[i : i + 1], mask[i : i + 1])
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one[i : i + 1], other)


def test_features_see_every_token_as_before(model):
    plain = BiGR(model.config.replace(visible_blocks=0)).double().eval()
    plain.load_state_dict(model.state_dict())
    codes = codes_of(2)
    for one, other in zip(model.hidden_states(codes), plain.hidden_states(codes), strict=True):
        assert torch.equal(one, other)
    mask = torch.arange(16).expand(2, 16) < 7
    assert not torch.allclose(model.condition(codes, mask=mask), plain.condition(codes, mask=mask))


def test_it_trains_and_generates(model):
    codes = codes_of(4)
    trained = BiGR(model.config).double()
    assert trained.state_dict().keys() == model.state_dict().keys()
    terms = trained.loss(codes, torch.arange(4), generator=torch.Generator().manual_seed(0))
    terms.loss.backward()
    assert all(p.grad is not None for name, p in trained.trunk.named_parameters())
    drawn = model.generate(torch.tensor([0, 1]), num_reveal_steps=4, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (2, 16, 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"visible_blocks": 4}, "visible_blocks=4; expected 0 to depth - 1 = 3"),
        ({"visible_blocks": -1}, "visible_blocks=-1; expected 0"),
        ({"causal": True}, "visible_blocks=2, but a causal generator hides nothing"),
    ],
)
def test_numbers_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SMALL.replace(**changes)
