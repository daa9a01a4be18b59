"""Heads over classes: from an output of the trunk to logits, loss and draws of a token.

M tokens (any set of them, flattened), S sub-codes a token, V classes of a sub-code, D width. In a masked model a token has S outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional.codes import code_format
from ..functional.filtering import filtered, guided
from ..sampling.choice import is_greedy
from ..sampling.noise import Noise
from ..sampling.settings import SamplingSettings
from .config import GeneratorConfig


@dataclass
class CategoricalLossTerms:
    """What the training loss of a categorical head returns, each a scalar Tensor.

    loss : what is minimised, mean over predicted sub-codes, nats.
    cross_entropy : the same without label smoothing.
    accuracy : share of sub-codes whose most probable class is the right one; without gradient.
    stream : (B, P N, D), the residual stream of the image tokens after the block asked for, or None.
    """

    loss: Tensor
    cross_entropy: Tensor
    accuracy: Tensor
    stream: Tensor | None = None


@dataclass
class Drawn:
    """One token an image, drawn.

    codes : (B, K) or (B,), as the tokenizer has them.
    logits : (B, S, V) after guidance, before temperature and filters; None of bits.
    probabilities : (B, S, V) that the draw followed, or (B, K) of bits.
    """

    codes: Tensor
    logits: Tensor | None
    probabilities: Tensor


class CategoricalHead(nn.Module):
    """What the categorical heads share; a head gives `logits(condition, embedding)`, (..., S, V)."""

    attribute = "output"
    loss_options = frozenset({"label_smoothing"})
    loss_names = ("loss", "cross_entropy", "accuracy")
    learned_positions = False

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config = config
        self.code_format = code_format(config)

    def logits(self, condition: Tensor, embedding: nn.Module) -> Tensor:
        raise TypeError(f"{type(self).__name__} gives no logits")  # a head says how

    def loss(
        self,
        condition: Tensor,
        indices: Tensor,
        embedding: nn.Module,
        generator: torch.Generator | None = None,
        label_smoothing: float | None = None,
    ) -> CategoricalLossTerms:
        """Cross-entropy over the tokens given; whoever calls passes the tokens to predict only.

        Parameters
        ----------
        condition : Tensor (M, D), or (M, S * D) in a masked model
        indices : Tensor (M, S) int64
        label_smoothing : float, optional
            (1 - e) of the weight on the right class and e spread evenly; the configuration's by default.
        """
        smoothing = self.config.label_smoothing if label_smoothing is None else label_smoothing
        if not 0 <= smoothing < 1:
            raise ValueError(f"label_smoothing={smoothing}; expected a number in [0, 1).")
        logits = self.logits(condition, embedding).flatten(0, 1)  # (M S, V)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        target = indices.flatten()
        loss = F.cross_entropy(logits, target, label_smoothing=smoothing)
        with torch.no_grad():
            plain = loss.detach() if smoothing == 0 else F.cross_entropy(logits, target)
            accuracy = (logits.argmax(-1) == target).float().mean()
        return CategoricalLossTerms(loss, plain, accuracy)

    def log_likelihood(self, condition: Tensor, indices: Tensor, embedding: nn.Module) -> Tensor:
        """log p of the tokens' indices (M, S) in nats, (M,), summed over sub-codes; condition as in `loss`."""
        logits = self.logits(condition, embedding)  # (M, S, V)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return logits.log_softmax(-1).gather(-1, indices[..., None]).squeeze(-1).sum(-1)

    @torch.no_grad()
    def draw(
        self,
        condition: Tensor,
        null_condition: Tensor | None,
        scale: float,
        settings: SamplingSettings,
        noise: Noise,
        embedding: nn.Module,
        choose: Callable[[Tensor], Tensor] | None = None,
    ) -> Drawn:
        """One token for each image; all sub-codes are drawn from the same output.

        A class is drawn as the largest of log p + Gumbel noise. With many classes of nearly equal probability that hardly ever depends on
        how the logits were rounded, which the place of one number among all cumulative sums does; so cached and uncached draws agree.

        Parameters
        ----------
        condition, null_condition : Tensor (B, D)
        choose : callable, optional
            From probabilities (B, S, V) to indices (B, S), in place of draws from `noise`.
        """
        rows = condition if null_condition is None else torch.cat([condition, null_condition])
        logits = self.logits(rows, embedding)
        cond, uncond = logits.chunk(2) if null_condition is not None else (logits, None)
        logits = guided(cond, uncond, scale)
        kept = filtered(logits / settings.temperature, settings.top_k, settings.top_p)
        probabilities = kept.softmax(-1)
        if choose is not None:
            indices = choose(probabilities)
        elif is_greedy(settings):
            indices = logits.argmax(-1)
        else:
            gumbel = noise.gumbel((len(kept), kept[0].numel()), kept.device)
            indices = (kept + gumbel.view_as(kept)).argmax(-1)
        return Drawn(self.code_format.codes(indices), logits, probabilities)


class LinearHead(CategoricalHead):
    """A linear map without bias for each sub-code, untied from the embedding; all read the same output."""

    def __init__(self, config: GeneratorConfig, device=None, dtype=None):
        super().__init__(config)
        dd = {"device": device, "dtype": dtype}
        self.maps = nn.ModuleList([nn.Linear(config.width, config.vocab_size, bias=False, **dd) for _ in range(config.num_sub_codes)])

    def init_weights(self) -> None:
        """Official initialisation: zero, so that an untrained model gives logits of exactly 0."""
        for layer in self.maps:
            nn.init.zeros_(layer.weight)

    def logits(self, condition: Tensor, embedding: nn.Module) -> Tensor:
        """(..., S, V) of outputs (..., D)."""
        return torch.stack([layer(condition) for layer in self.maps], dim=-2)


class MaskedLanguageHead(CategoricalHead):
    """Linear, GELU, layer norm, then the product with the token table, which gets no gradient from here, plus a bias.

    The bias has an entry for hidden tokens too, as the public files do; no logit is made for them.
    """

    def __init__(self, config: GeneratorConfig, device=None, dtype=None):
        super().__init__(config)
        dd = {"device": device, "dtype": dtype}
        self.fc = nn.Linear(config.width, config.width, **dd)
        self.norm = nn.LayerNorm(config.width, eps=1e-5, **dd)
        assert config.vocab_size is not None
        self.bias = nn.Parameter(torch.empty(config.vocab_size + 1, **dd))

    def init_weights(self) -> None:
        nn.init.zeros_(self.bias)

    def logits(self, condition: Tensor, embedding: nn.Module) -> Tensor:
        """(..., S, V) of outputs (..., S * D)."""
        x = condition.unflatten(-1, (self.config.num_sub_codes, self.config.width))
        x = self.norm(F.gelu(self.fc(x)))
        table = embedding.table.weight[: self.config.vocab_size].detach()
        return F.linear(x, table.to(x.dtype), self.bias[: self.config.vocab_size].to(x.dtype))
