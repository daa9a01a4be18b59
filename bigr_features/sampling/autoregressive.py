"""Autoregressive sampling: token after token in raster order, with a static key/value cache.   B batch, N tokens, K bits

Both branches of guidance run in one batch. LlamaGen, arXiv:2406.06525; ELM, arXiv:2410.16257
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..functional.inference import evaluating
from .labels import BatchLabels, batch_labels
from .noise import Noise, make_noise
from .sampler import Sampler
from .settings import SamplingSettings


@dataclass
class TokenStep:
    """What `on_step` sees after each token.

    step : 0-based index of the token in the grid, row by row.
    guidance_scale : scale used in this step.
    logits : (B, S, V) after guidance, before temperature and filters; None of bits.
    probabilities : (B, S, V) that the draw followed, or (B, K) of bits.
    codes : (B, N, K) or (B, N) after the step; tokens to come are 0.
    """

    step: int
    guidance_scale: float
    logits: Tensor | None
    probabilities: Tensor
    codes: Tensor


@torch.no_grad()
def sample_codes(
    model: nn.Module,
    labels: Tensor | None,
    *,
    label_weights: Tensor | None = None,
    prefix: Tensor | None = None,
    codes: Tensor | None = None,
    mask: Tensor | None = None,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    seeds: Sequence[int] | Tensor | None = None,
    batch_invariant: bool = True,
    use_cache: bool = True,
    choose: Callable[[Tensor], Tensor] | None = None,
    on_step: Callable[[TokenStep], None] | None = None,
    **settings,
) -> Tensor:
    """Draw the tokens of a batch, each from those before it. Dropout is off while sampling.

    Parameters
    ----------
    model : BiGR with a causal trunk
    labels : Tensor (B,) or (B, J), int64, or None
        Class indices; J of them an image with label_weights. None samples from the null class and needs batch_size.
    label_weights : Tensor (J,) or (B, J), optional
        Weights of the mixed labels, used as they are.
    prefix : Tensor (B, n, K) or (B, n), optional
        The first n tokens, n < N; the rest is drawn. Guidance schedules count the drawn tokens.
    codes, mask : None
        Of masked generators; refused.
    batch_size : int, optional
        Number of images when labels do not tell it.
    generator : torch.Generator, optional
        Source of every draw of the batch.
    seeds : B integers, optional
        One seed an image in place of `generator`: an image then does not depend on the others of its batch.
    batch_invariant : bool
        With seeds: run the network image by image, so that an image is the same to the last bit in any batch.
    use_cache : bool
        False runs the whole prefix again for every token: the same tokens, slowly.
    choose : callable, optional
        With a categorical head: from probabilities (B, S, V) to indices (B, S), in place of draws.
    on_step : callable, optional
        Called with a `TokenStep` after each token; with seeds and batch_invariant, of each image in turn.
    **settings
        Fields of `SamplingSettings`: guidance_scale, guidance_schedule, guidance_interval, guidance_power, temperature; top_k and top_p
        with a categorical head; num_denoise_steps, posterior and bits with the Bernoulli transcoder.

    Returns
    -------
    Tensor (B, N, K) of 0.0 and 1.0, or (B, N) int64, on the model's device

    Raises
    ------
    ValueError
        For settings out of range, shapes that do not fit, or codes to fill in.
    """
    if codes is not None or mask is not None:
        raise ValueError(
            "codes and mask ask for tokens between known ones, but a causal generator draws each token from those before it only; "
            "take a masked generator (bigr_*, *_cat_mask), or give the first tokens as prefix."
        )
    settings = SamplingSettings(**settings)
    device = model.class_embedding.weight.device
    if labels is None and batch_size is None and prefix is not None:
        batch_size = len(prefix)
    batch = batch_labels(model.config, labels, label_weights, batch_size, device)
    known = _prefix(model, prefix, len(batch), device)
    noise = make_noise(len(batch), generator, seeds)
    one_by_one = noise.per_image and batch_invariant
    groups = [[image] for image in range(len(batch))] if one_by_one else [list(range(len(batch)))]
    with evaluating(model):
        drawn = [_draw(model, batch.of(g), known[g], noise.of(g), settings, use_cache, choose, on_step) for g in groups]
    return torch.cat(drawn)


AUTOREGRESSIVE = frozenset({"guidance_scale", "guidance_schedule", "guidance_interval", "guidance_power", "temperature"})
CLASSES = Sampler(
    "a causal generator of classes, which draws one token after the other",
    sample_codes,
    AUTOREGRESSIVE | {"top_k", "top_p"},
    "leave it out",
)
BITS = Sampler(
    "a causal generator of bits, which draws one token after the other",
    sample_codes,
    AUTOREGRESSIVE | {"num_denoise_steps", "posterior", "bits"},
    "leave it out; bits='threshold' makes the final bits the most probable ones",
)


def _draw(
    model: nn.Module,
    batch: BatchLabels,
    known: Tensor,
    noise: Noise,
    settings: SamplingSettings,
    use_cache: bool,
    choose: Callable[[Tensor], Tensor] | None,
    on_step: Callable[[TokenStep], None] | None,
) -> Tensor:
    size, first, tokens = len(batch), known.shape[1], model.config.num_tokens
    steps = tokens - first
    scales = [settings.guidance_at((i + 1) / steps, 1 / steps) for i in range(steps)]
    guided_until = max((i + 1 for i, scale in enumerate(scales) if scale != 1.0), default=0) if batch.guidable else 0
    both = batch.with_null()
    codes = model.code_format.unknown(size, tokens, known.device)
    codes[:, :first] = known
    condition, cache = None, None
    for step, scale in enumerate(scales):
        here = first + step
        given = both if step < guided_until else batch
        rows = len(given)
        before = codes[:, :here].repeat(rows // size, *[1] * (codes.dim() - 1))
        if cache is None:
            condition, cache = model.prefill(given.labels, given.weights, before, use_cache=use_cache)
        else:
            cache = cache.keep(rows)
            condition = model.step(before[:, -1:], cache)
        null = condition[size:] if step < guided_until and scale != 1.0 else None
        drawn = model.head.draw(condition[:size], null, scale, settings, noise, model.embedding, choose)
        codes[:, here] = drawn.codes
        if on_step is not None:
            on_step(TokenStep(here, scale, drawn.logits, drawn.probabilities, codes.clone()))
    return codes


def _prefix(model: nn.Module, prefix: Tensor | None, size: int, device) -> Tensor:
    """The known first tokens (B, n, ...), n = 0 without them."""
    form, tokens = model.code_format, model.config.num_tokens
    if prefix is None:
        return form.unknown(size, 0, device)
    if prefix.dim() < 2 or not 1 <= prefix.shape[1] < tokens:
        raise ValueError(f"prefix has shape {tuple(prefix.shape)}; expected the codes of the first 1..{tokens - 1} tokens of each image.")
    if len(prefix) != size:
        raise ValueError(f"prefix holds {len(prefix)} images but there are labels for {size}; give one label an image.")
    form.check(prefix, prefix.shape[1])
    form.check_values(prefix)
    return prefix.to(device)
