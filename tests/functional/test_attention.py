"""Attention: every kernel gives softmax(q k^T / sqrt(h)) v, at the precision of its inputs."""

import pytest
import torch

from bigr_features.functional.attention import attention


def vectors(queries: int, keys: int, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, count, 8, generator=generator).to(dtype) for count in (queries, keys, keys)]


def by_hand(q, k, v, visible) -> torch.Tensor:
    scores = torch.einsum("bhqc,bhkc->bhqk", q.double(), k.double()) / q.shape[-1] ** 0.5
    return scores.masked_fill(~visible, -torch.inf).softmax(-1) @ v.double()


@pytest.mark.parametrize("most_scores", [1 << 27, 0], ids=["plain", "fused"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)], ids=["fp32", "bf16"])
@pytest.mark.parametrize("which", ["all", "causal", "visible", "one query"])
def test_every_kernel_agrees_with_the_formula_and_its_gradient(dtype, tolerance, which, most_scores):
    q, k, v = vectors(1 if which == "one query" else 6, 6, dtype)
    allowed = torch.ones(q.shape[2], 6, dtype=torch.bool)
    if which == "causal":
        allowed = allowed.tril()
    if which == "visible":
        allowed = torch.tensor([[True] * 6, [True, False] * 3])[:, None, None]  # (2, 1, 1, 6)
    gradients = []
    for function in (
        lambda *qkv: attention(*qkv, allowed if which == "visible" else None, which == "causal", most_scores),
        lambda *qkv: by_hand(*qkv, allowed),
    ):
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        found = function(*leaves)
        found.double().square().sum().backward()
        gradients.append([found.detach().double(), *(leaf.grad.double() for leaf in leaves)])
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=5 * tolerance, atol=5 * tolerance)


@pytest.mark.parametrize("which", ["all", "visible", "visible to all"])
def test_images_at_a_time_change_nothing(which):
    q, k, v = vectors(6, 6, torch.bfloat16)
    visible = {"all": None, "visible": torch.tensor([[True] * 6, [True, False] * 3])[:, None, None], "visible to all": torch.eye(6).bool()}
    with torch.no_grad():
        at_once = attention(q, k, v, visible[which])
        one_by_one = attention(q, k, v, visible[which], cached_scores=1)
    torch.testing.assert_close(one_by_one, at_once, rtol=1e-2, atol=1e-2)


def test_a_query_that_sees_nothing_gives_finite_numbers():
    q, k, v = vectors(4, 4, torch.bfloat16)
    assert attention(q, k, v, torch.zeros(2, 1, 1, 4, dtype=torch.bool)).isfinite().all()
