"""Promises of where and how models run."""

from __future__ import annotations

import pytest
import torch

from bigr_features.functional.inference import local_device, to_device


def test_the_device_of_a_process_is_an_accelerator_if_there_is_one(monkeypatch):
    assert local_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert local_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_device("auto") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match=r"device=.tpu. is unknown; choose auto, cpu, or a device of torch"):
        local_device("tpu")


def test_tensors_move_and_keep_their_values(device):
    tensor = torch.arange(5)
    moved = to_device(tensor, device)
    assert moved.device.type == device.type
    assert torch.equal(moved.cpu(), tensor)
    assert to_device(tensor, None) is tensor
    assert to_device(moved, device) is moved
