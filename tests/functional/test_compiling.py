"""Promises of compiled blocks: the longest list of equal ones, as they were afterwards, and a word about the compiler that is missing."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from bigr_features.functional.compiling import check_compiler, compiled, repeated_blocks


def test_blocks_are_the_longest_list_of_one_class():
    vit = timm.create_model("test_vit", num_classes=0)
    assert repeated_blocks(vit) == list(vit.blocks)
    mixed = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.Sequential(*(nn.Tanh() for _ in range(4))))
    assert repeated_blocks(mixed) == list(mixed[3])
    with pytest.raises(ValueError, match="Linear has no blocks that repeat, which are what is compiled; leave compile out"):
        repeated_blocks(nn.Linear(2, 2))


def test_blocks_are_as_they_were_afterwards():
    blocks = [nn.Linear(2, 2) for _ in range(2)]
    with compiled(blocks):
        assert all(block._compiled_call_impl is not None for block in blocks)
    assert all(block._compiled_call_impl is None for block in blocks)


def test_a_missing_compiler_is_said_before_anything_runs(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler, and none is found \(CXX=no-such-compiler\)"):
        check_compiler(torch.device("cpu"))
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match=r"\(g\+\+, clang\+\+, c\+\+, cl\); install one"):
        check_compiler(torch.device("cpu"))
    check_compiler(torch.device("cuda"))
