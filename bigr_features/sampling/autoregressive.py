"""Autoregressive sampling: token after token in raster order, with a static key/value cache.   B batch, N tokens, K bits

Both branches of guidance run in one batch. LlamaGen, arXiv:2406.06525; ELM, arXiv:2410.16257
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..functional.inference import evaluating
from .sampler import Sampler
from .start import Start, begin


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
    prefix: Tensor | None = None,
    use_cache: bool = True,
    choose: Callable[[Tensor], Tensor] | None = None,
    on_step: Callable[[TokenStep], None] | None = None,
    **options,
) -> Tensor:
    """Draw the tokens of a batch, each from those before it. Dropout is off while sampling.

    Parameters
    ----------
    model : BiGR with a causal trunk
    labels : Tensor (B,) or (B, J), int64, or None
        See `start.begin`.
    prefix : Tensor (B, n, K) or (B, n), optional
        The first n tokens, n < N; the rest is drawn. Guidance schedules count the drawn tokens.
    use_cache : bool
        False runs the whole prefix again for every token: the same tokens, slowly.
    choose : callable, optional
        With a categorical head: from probabilities (B, S, V) to indices (B, S), in place of draws.
    on_step : callable, optional
        Called with a `TokenStep` after each token; where images run one by one, of each in turn.
    **options
        label_weights, batch_size, generator or seeds, and batch_invariant, as in `start.begin`; codes and mask are refused. And of
        `SamplingSettings` guidance_scale, guidance_schedule, guidance_interval, guidance_power and temperature; top_k and top_p with a
        categorical head; num_denoise_steps, posterior and bits with the Bernoulli transcoder.

    Returns
    -------
    Tensor (B, N, K) of 0.0 and 1.0, or (B, N) int64, on the model's device

    Raises
    ------
    ValueError
        For settings out of range, shapes that do not fit, or codes to fill in.
    """
    if options.get("codes") is not None or options.get("mask") is not None:
        raise ValueError(
            "codes and mask ask for tokens between known ones, but a causal generator draws each token from those before it only; "
            "take a masked generator (bigr_*, *_cat_mask), or give the first tokens as prefix."
        )
    if labels is None and prefix is not None:
        options.setdefault("batch_size", len(prefix))
    start = begin(model, labels, **options)
    known = _prefix(model, prefix, len(start.labels), start.codes.device)
    with evaluating(model):
        return torch.cat([_draw(model, start, images, known[images], use_cache, choose, on_step) for images in start.groups])


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
    start: Start,
    images: list[int],
    known: Tensor,
    use_cache: bool,
    choose: Callable[[Tensor], Tensor] | None,
    on_step: Callable[[TokenStep], None] | None,
) -> Tensor:
    """Codes of some images of the batch, of whose tokens the first are known."""
    settings, batch, noise, codes = start.settings, start.labels.of(images), start.noise.of(images), start.codes[images]
    size, first, tokens = len(batch), known.shape[1], model.config.num_tokens
    steps = tokens - first
    scales = [settings.guidance_at((i + 1) / steps, 1 / steps) for i in range(steps)]
    guided_until = max((i + 1 for i, scale in enumerate(scales) if scale != 1.0), default=0) if batch.guidable else 0
    both = batch.with_null()
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
