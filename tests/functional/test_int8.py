"""Linear layers in int8: the sums are those of the rounded numbers, and a row does not depend on its batch."""

import pytest
import torch
from torch import nn

from bigr_features.functional import int8
from bigr_features.functional.int8 import Int8Linear, Int8Unavailable, check_int8, largest_weight, quantize_rows

pytestmark = pytest.mark.usefixtures("int8_kernel")


def linear(bias: bool, inputs: int = 96, outputs: int = 80) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=bias)


def inputs(rows: int = 700, width: int = 96) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(1)) * torch.logspace(-3, 3, rows)[:, None]


def test_rows_are_rounded_to_the_nearest_of_255_steps():
    x = inputs()
    q, unit = quantize_rows(x)
    assert q.dtype == torch.uint8
    torch.testing.assert_close(unit[:, 0], x.abs().amax(1) / 127)
    error = ((q.float() - 128) * unit - x).abs()
    assert (error <= 0.5001 * unit).all()


def test_a_row_of_zeros_stays_zero():
    q, unit = quantize_rows(torch.zeros(3, 8))
    assert (q == 128).all()
    assert unit.isfinite().all()


@pytest.mark.parametrize("bias", [False, True])
def test_the_sums_are_those_of_the_rounded_numbers(bias):
    layer, x = linear(bias), inputs()
    q, unit = quantize_rows(x)
    scale = layer.weight.detach().abs().amax(1, keepdim=True) / largest_weight()
    rounded = torch.round(layer.weight.detach() / scale)
    expected = (q.double() - 128) @ rounded.double().T * unit.double() * scale[:, 0].double()
    if bias:
        expected += layer.bias.detach().double()
    with torch.inference_mode():
        found = Int8Linear(layer)(x.unflatten(0, (7, 100)))
    assert found.shape == (7, 100, 80)
    scale_of_row = expected.abs().amax(1, keepdim=True)
    torch.testing.assert_close(found.flatten(0, 1).double() / scale_of_row, expected / scale_of_row, rtol=0, atol=1e-5)


def test_a_row_does_not_depend_on_its_batch():
    layer, x = Int8Linear(linear(True)), inputs()
    with torch.inference_mode():
        torch.testing.assert_close(layer(x[40:43]), layer(x)[40:43], rtol=1e-6, atol=0)


def test_layers_of_one_input_join():
    gate, up = linear(False), linear(False, outputs=64)
    with torch.inference_mode():
        joined = Int8Linear(gate, up)(inputs())
        apart = torch.cat([Int8Linear(gate)(inputs()), Int8Linear(up)(inputs())], -1)
    torch.testing.assert_close(joined, apart, rtol=1e-6, atol=0)


def test_autocast_gives_bfloat16():
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert Int8Linear(linear(True))(inputs()).dtype == torch.bfloat16


def test_other_devices_and_missing_kernels_are_said(monkeypatch):
    with pytest.raises(ValueError, match="runs on a CPU, and the model is on cuda"):
        check_int8("cuda")
    monkeypatch.setattr(int8, "_prepacked", lambda weight: torch.ops.onednn.no_such_kernel(weight))
    largest_weight.cache_clear()
    with pytest.raises(Int8Unavailable, match="take bf16 or fp32"):
        check_int8("cpu")
    largest_weight.cache_clear()


def test_weights_that_are_asked_for_are_refused_in_words():
    with pytest.raises(ValueError, match="reads the weights of its linear layers itself"):
        Int8Linear(linear(True)).weight.sum()
