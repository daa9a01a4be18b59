"""The linear layers of a model in int8: of BiGR those of its trunk's blocks, of other timm models all but the classifier."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.backbone import BiGRBackbone
from ..functional.inference import autocast
from ..functional.int8 import ROWS, Int8Linear, Replacements, check_int8, in_place
from ..functional.precision import choose_precision
from ..models.generator import BiGR
from ..models.transformer import FeedForward

LEAST_WIDTH = 32  # layers with fewer inputs or outputs stay as they are


class Int8FeedForward(nn.Module):
    """SwiGLU in int8: the gate and what it multiplies are one product, and some rows are done before the next, to stay in the cache."""

    def __init__(self, feed_forward: FeedForward):
        super().__init__()
        self.gate_up = Int8Linear(feed_forward.gate, feed_forward.up)
        self.down = Int8Linear(feed_forward.down)

    def forward(self, x: Tensor) -> Tensor:
        if self.down._forward_pre_hooks:  # a tap wants the hidden features of all
            return self._of_rows(x)
        parts = [self._of_rows(rows) for rows in x.flatten(0, -2).split(ROWS)]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).unflatten(0, x.shape[:-1])

    def _of_rows(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate).mul_(up))


class Int8Layers:
    """Int8 versions of a model's linear layers, made once from its weights.

    Parameters
    ----------
    model : timm model, or BiGR, on a CPU
        It keeps its own layers, except within `running`.

    Raises
    ------
    ValueError, functional.int8.Int8Unavailable
        On another device, for a model without linear layers to replace, and where torch has no kernel.
    """

    def __init__(self, model: nn.Module):
        check_int8(next(model.parameters()).device)
        self.replacements: Replacements = []
        generator = model.generator if isinstance(model, BiGRBackbone) else model
        parts = list(generator.trunk.blocks) if isinstance(generator, BiGR) else [model]
        classifier = model.get_classifier() if hasattr(model, "get_classifier") else None
        for part in parts:
            self._replace_in(part, classifier)
        if not self.replacements:
            raise ValueError(f"{type(model).__name__} has no linear layer for int8; take bf16 or fp32.")

    def _replace_in(self, parent: nn.Module, classifier: nn.Module | None) -> None:
        for name, child in parent.named_children():
            if type(child) is FeedForward:
                self.replacements.append((parent, name, Int8FeedForward(child)))
            elif type(child) is not nn.Linear:
                self._replace_in(child, classifier)
            elif child is not classifier and min(child.in_features, child.out_features) >= LEAST_WIDTH:
                self.replacements.append((parent, name, Int8Linear(child)))

    def running(self) -> AbstractContextManager[None]:
        """The context in which the model runs in int8."""
        return in_place(self.replacements)


def quantize_linears(model: nn.Module) -> nn.Module:
    """The same model, its linear layers replaced by int8 ones for good; it can then neither be trained nor saved.

    Of BiGR those of the trunk's blocks, of other timm models all but the classifier, both on a CPU. `extract_features(dtype="int8")` and
    `bigr extract --precision int8` do this while they run, and leave the model as it was.

    Raises
    ------
    ValueError, functional.int8.Int8Unavailable
        As `Int8Layers`.
    """
    for parent, name, module in Int8Layers(model).replacements:
        setattr(parent, name, module)
    return model


def precision_of_call(name: str, model: nn.Module) -> dict:
    """A precision by its name, as `Computing` takes it; int8 beside the faster precision for the rest.

    Raises
    ------
    ValueError
        For another name.
    """
    if name != "int8":
        autocast(torch.device("cpu"), name)  # knows the names
        return {"precision": name}
    device = next(model.parameters()).device
    check_int8(device)
    return {"precision": name, "rest": choose_precision("auto", device, model).name}


class Computing:
    """The contexts of a model's forward passes in each precision.

    Parameters
    ----------
    model : timm model, on its device
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self._int8: Int8Layers | None = None

    def context(self, precision: dict) -> AbstractContextManager:
        """Where passes run in a precision as a manifest says it.

        Parameters
        ----------
        precision : dict
            "precision": "fp32", "bf16" or "int8"; with int8, "rest" is the precision of everything but linear layers ("fp32" by default).

        Raises
        ------
        ValueError, functional.int8.Int8Unavailable
            For another precision, or int8 where there is none.
        """
        device = next(self.model.parameters()).device
        name = precision["precision"]
        if name != "int8":
            return autocast(device, name)
        if self._int8 is None:
            self._int8 = Int8Layers(self.model)
        stack = ExitStack()
        stack.enter_context(self._int8.running())
        stack.enter_context(autocast(device, precision.get("rest", "fp32")))
        return stack
