"""The plain implementation that speed is measured against computes what the library computes."""

import pytest
import torch

from bigr_features.train.draws import draw
from bigr_features.train.generator import GeneratorLoss

from .helpers import TINY, random_codes, tiny_generator
from .test_benchmarks import ROOT


@pytest.mark.parametrize("changes", [{}, {"num_cond_tokens": 3, "input_positions": True}], ids=["one token", "three and positions"])
def test_plain_and_ours_have_equal_features_and_losses(changes, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from plain_bigr import PlainBiGR

    ours = tiny_generator(**changes)
    plain = PlainBiGR(ours.config).eval()
    plain.load_state_dict(ours.state_dict())
    codes, labels = random_codes(ours.config), torch.tensor([0, 1])
    torch.testing.assert_close(plain.hidden(codes, labels), ours.hidden_states(codes, labels, layers=[TINY.depth - 1])[0])
    draws = draw(ours, 2, torch.Generator().manual_seed(0), 1)
    given = draws.loss_arguments(codes)
    seen = torch.where(draws.dropped, ours.null_class, labels)
    loss = plain.loss(codes, seen, given["mask"], given["timesteps"][:, :, 0], given["noisy_codes"][:, :, 0])
    torch.testing.assert_close(loss, GeneratorLoss(ours)(codes, labels, draws)[0])
