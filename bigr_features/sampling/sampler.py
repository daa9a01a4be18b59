"""The ways to draw codes, and which settings each has a use for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from torch import Tensor, nn

from .settings import SamplingSettings


@dataclass(frozen=True)
class Sampler:
    """One way to draw codes, and which settings mean something there.

    Parameters
    ----------
    kind : str
        What draws, for messages.
    function : callable
        `function(model, labels, **settings)` gives codes.
    fields : frozenset of str
        Fields of SamplingSettings that it reads.
    remedy : str
        What to do about a field that it does not read.
    """

    kind: str
    function: Callable[..., Tensor]
    fields: frozenset[str]
    remedy: str

    def __call__(self, model: nn.Module, labels: Tensor | None, **settings) -> Tensor:
        """New codes for labels.

        Raises
        ------
        ValueError
            For a setting that means nothing here, unless it has its default value.
        """
        defaults = {field.name: field.default for field in fields(SamplingSettings)}
        for name, default in defaults.items():
            if name not in self.fields and settings.get(name, default) != default:
                raise ValueError(f"{name}={settings[name]!r} means nothing for {self.kind}; {self.remedy}.")
        return self.function(model, labels, **{name: v for name, v in settings.items() if name in self.fields or name not in defaults})
