"""The generator: a transformer over tokens with a head, its loss and its draws.

An embedding, a trunk, a head and an order of tokens, each chosen by the configuration, make BiGR and the systems it is compared with.
B batch, N = G * G tokens, K bits, S sub-codes a token, V classes of a sub-code, c condition tokens, P positions a token takes, D width
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..functional import checks
from ..functional.masking import positions_of
from ..sampling.captions import Captions
from ..sampling.presets import preset_settings
from ..sampling.prompts import batch_captions, images_wanted
from .config import GeneratorConfig
from .heads import CategoricalLossTerms, LinearHead, MaskedLanguageHead
from .text import check_source
from .token_transformer import TokenTransformer
from .transcoder import LossTerms, Transcoder
from .transformer import KVCache

HEADS: dict[str, type[Transcoder | LinearHead | MaskedLanguageHead]] = {
    "bernoulli": Transcoder,
    "linear": LinearHead,
    "mlm": MaskedLanguageHead,
}


class BiGR(TokenTransformer):
    """Masked (or causal) transformer over tokens with a per-token head (arXiv:2410.14672).

    Parameters
    ----------
    config : GeneratorConfig
        Its `tokens`, `head` and `causal` make the system: bits, Bernoulli transcoder, masked is BiGR (S3), the same causal S2; bits with a
        linear head, causal, S0; bits with a masked-language-model head S1; index tokens with a linear head, causal, LlamaGen.

    Attributes
    ----------
    embedding, class_embedding, trunk : nn.Module
    head : nn.Module
        Transcoder, LinearHead or MaskedLanguageHead; the transcoder is `transcoder` as well.
    order : Masked or Causal
    position_embedding : Parameter (1, N, D) that is added to what the transcoder sees, or None with another head
    input_position_embedding : Parameter (1, N, D), or None without `input_positions`
    text : TextCondition, or None in a model of classes
    """

    def __init__(self, config: GeneratorConfig, *, device=None, dtype=None):
        super().__init__(config, device=device, dtype=dtype)
        dd = {"device": device, "dtype": dtype}
        head = HEADS[config.head]
        learned = nn.Parameter(torch.empty(1, config.num_tokens, config.width, **dd)) if head.learned_positions else None
        self.position_embedding = learned
        self.add_module(head.attribute, head(config, **dd))
        self.init_weights()

    @torch.jit.unused
    @property
    def head(self) -> nn.Module | None:
        """What turns conditions into tokens; None in a model without generative parts."""
        return getattr(self, HEADS[self.config.head].attribute)

    @torch.no_grad()
    def init_weights(self, needs_reset: bool = True) -> None:
        """Official initialisation: linear weights N(0, init_std), positions N(0, position_init_std), embeddings N(0, 0.02), biases 0,
        norms 1, and what the parts say of themselves."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=self.config.init_std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            elif isinstance(module, nn.RMSNorm | nn.LayerNorm):
                module.reset_parameters()
        for positions in (self.position_embedding, self.input_position_embedding):
            if positions is not None:
                nn.init.normal_(positions, std=self.config.position_init_std)
        for part in (self.embedding, self.text, self.trunk, self.head):
            if part is not None and hasattr(part, "init_weights"):
                part.init_weights()

    def drop_generative_parts(self, keep_blocks: int, keep_norm: bool = False) -> None:
        """Leave what the residual stream after block `keep_blocks - 1` needs; the rest only generates."""
        self.trunk.blocks = self.trunk.blocks[:keep_blocks]
        if not keep_norm:
            self.trunk.norm = nn.Identity()
        setattr(self, HEADS[self.config.head].attribute, None)
        self.position_embedding = None
        self.text = None
        self.embedding.drop_mask()

    @torch.jit.unused
    @property
    def generative(self) -> bool:
        """Whether loss, condition and generation are available."""
        return self.head is not None

    def condition(
        self,
        codes: Tensor,
        labels: Tensor | Captions | None = None,
        mask: Tensor | None = None,
        *,
        label_weights: Tensor | None = None,
        text: str | list[str] | Captions | None = None,
    ) -> Tensor:
        """What the head sees, (B, P N, D): final norm of the last block's outputs, for the transcoder plus the learned position.

        In a causal trunk the vector at index i is the output one position earlier, which has seen the tokens before i only; the last token
        is not fed then. Classes are given by `labels`, captions by `text`.
        """
        self._require_generative("condition")
        labels = self.source(labels, text)
        self._check_shapes(codes, labels, mask, mixed=label_weights is not None)
        return self._condition(codes, labels, mask, label_weights)[0]

    def _condition(
        self, codes: Tensor, labels: Tensor | Captions | None, mask: Tensor | None, label_weights: Tensor | None = None, layer: int = -1
    ) -> tuple[Tensor, Tensor]:
        """The condition, and the residual stream (B, P n, D) of the tokens fed after block `layer`, in one pass."""
        tokens = self.order.inputs(self.token_vectors(codes, mask))
        last = len(self.trunk.blocks) - 1
        wanted = sorted({layer % (last + 1), last})
        streams, prefix = self.run(self.conditioned(labels, label_weights), tokens, wanted, self.order.missing, mask)
        return self._positioned(self.trunk.norm(self.order.outputs(streams[-1], prefix))), streams[0][:, prefix:]

    def _positioned(self, x: Tensor, start: int = 0) -> Tensor:
        """Normalised outputs for the tokens from index `start` on, as the head sees them."""
        positions = self.position_embedding
        return x if positions is None else x + positions[:, start : start + x.shape[1]]

    def token_conditions(self, *args, **kwargs) -> Tensor:
        """`condition` with one row a token, (B, N, P D)."""
        return self.condition(*args, **kwargs).unflatten(1, (self.config.num_tokens, -1)).flatten(2)

    def logits(
        self,
        codes: Tensor,
        labels: Tensor | Captions | None = None,
        mask: Tensor | None = None,
        *,
        label_weights: Tensor | None = None,
        text: str | list[str] | Captions | None = None,
    ) -> Tensor:
        """Class logits (B, N, V), or (B, N, S, V) with S > 1 sub-codes, of a categorical head.

        Index i predicts token i: in a masked model from all tokens that are not hidden, in a causal one from those before it.

        Raises
        ------
        TypeError
            For a model with the Bernoulli transcoder.
        """
        if not self.config.categorical:
            raise TypeError("logits() is for categorical heads; head='bernoulli' gives bits: call condition() and transcoder.denoiser().")
        self._require_generative("logits")
        logits = self.head.logits(self.token_conditions(codes, labels, mask, label_weights=label_weights, text=text), self.embedding)
        return logits.squeeze(2) if self.config.num_sub_codes == 1 else logits

    def prefill(
        self, labels: Tensor, label_weights: Tensor | None = None, codes: Tensor | None = None, *, use_cache: bool = True
    ) -> tuple[Tensor, KVCache | None]:
        """Start a causal generation: the condition (B, D) of the token after `codes`, the first n tokens (n = 0 or None: of token 0).

        Returns
        -------
        condition, cache
            The cache takes the other tokens through `step`; None without use_cache.
        """
        vector = self.class_vector(labels, label_weights)
        count = 0 if codes is None else codes.shape[1]
        tokens = vector.new_empty(len(labels), 0, self.config.width) if count == 0 else self.token_vectors(codes)
        x, cache = self.sequence(vector, tokens), None
        if use_cache:
            cache = self.trunk.new_cache(len(labels), vector)
            x = self.trunk.extend(x, cache)
        else:
            x = self.trunk(x, vector, [len(self.trunk.blocks) - 1], self.config.num_tokens - count)[0]
        return self._positioned(self.trunk.norm(x[:, -1:]), count)[:, 0], cache

    def step(self, codes: Tensor, cache: KVCache) -> Tensor:
        """Condition (B, D) of the token after `codes` (B, 1, K) or (B, 1), which joins the tokens in the cache."""
        index = cache.length - self.num_prefix
        x = self.trunk.extend(self.token_vectors(codes, start=index), cache)
        return self._positioned(self.trunk.norm(x), index + 1)[:, 0]

    @torch.jit.unused
    def forward(self, codes: Tensor, labels: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Same as `condition`."""
        return self.condition(codes, labels, mask)

    def loss(
        self,
        codes: Tensor,
        labels: Tensor | Captions | None = None,
        *,
        text: str | list[str] | Captions | None = None,
        mask: Tensor | None = None,
        timesteps: Tensor | None = None,
        noisy_codes: Tensor | None = None,
        seen_codes: Tensor | None = None,
        label_smoothing: float | None = None,
        dropped: Tensor | None = None,
        num_hidden: int | None = None,
        check_values: bool = True,
        stream_layer: int | None = None,
        generator: torch.Generator | None = None,
    ) -> LossTerms | CategoricalLossTerms:
        """The generative training loss: that of the head, over hidden tokens only; a causal generator predicts every token.

        Each draw may be given; what is not given is drawn from `generator`. In train mode labels are replaced by the null class, and whole
        captions by the null caption, with probability `class_dropout`.

        Parameters
        ----------
        codes : Tensor (B, N, K) of 0 and 1, or (B, N) of indices
        labels : Tensor (B,) int64, optional
            None trains without classes (null class for all).
        text : list of str, or Captions, optional
            One caption an image, of a model of captions; None trains on the null caption.
        mask : Tensor (B, N) bool, optional
            By default one cosine-distributed count for the batch, at random positions of each image.
        timesteps : Tensor (B, N) or (B, N, R) int64, optional
            With the Bernoulli transcoder: noise levels 1..T, one a token, or R of them whose losses are averaged.
        noisy_codes : Tensor (B, N, K) or (B, N, R, K), optional
            With the Bernoulli transcoder: as many a token as there are timesteps.
        seen_codes : Tensor like codes, optional
            What the trunk sees where nothing is hidden, in place of `codes`, which are still what is predicted.
        label_smoothing : float, optional
            With a categorical head; the configuration's by default.
        dropped : Tensor (B,) bool, optional
            Images whose label becomes the null class, or whose caption the null caption.
        num_hidden : int, optional
            Tokens that `mask` hides in each image, if it is the same number in all: the host then need not wait to count them.
        check_values : bool
            Whether to look at codes, labels and timesteps, for which the host waits for the device. Training turns it off, since its codes
            and draws are right by construction.
        stream_layer : int, optional
            0-based block whose residual stream the result shall have too, for a term of one's own on features.

        Returns
        -------
        LossTerms (loss, bce, bit_accuracy, stream) or CategoricalLossTerms (loss, cross_entropy, accuracy, stream)

        Raises
        ------
        ValueError
            For shapes, codes, labels or timesteps that do not fit the configuration, a mask that hides nothing or that a causal
            generator has no use for, or a draw that belongs to another head.
        """
        self._require_generative("loss")
        labels = self.source(labels, text)
        self._check_shapes(codes, labels, mask)
        options = {"timesteps": timesteps, "noisy_codes": noisy_codes, "label_smoothing": label_smoothing}
        options = {name: value for name, value in options.items() if value is not None}
        foreign = sorted(set(options) - self.head.loss_options)
        if foreign:
            raise ValueError(
                f"{foreign[0]} was given, but head={self.config.head!r} has no use for it; its loss takes "
                f"{', '.join(sorted(self.head.loss_options))}."
            )
        if check_values:
            self.code_format.check_values(codes)
            if not isinstance(labels, Captions):
                checks.check_labels(labels, self.null_class, self.config.unconditional and not self.training)
        if labels is not None and dropped is not None:
            labels = self._without(labels, dropped)
        elif labels is not None and self.training:
            labels = self.drop_labels(labels, generator)
        batch, tokens = codes.shape[:2]
        if mask is None:
            mask = self.draw_mask(batch, tokens, generator, codes.device)
        if mask is None:
            rows = torch.arange(batch * tokens, device=codes.device)
        else:
            rows = positions_of(mask, None if num_hidden is None else num_hidden * batch)  # (M,)
            if len(rows) == 0:
                raise ValueError("the mask hides no token, so there is nothing to predict; hide at least one token.")
        seen = codes if seen_codes is None else seen_codes
        condition, stream = self._condition(seen, labels, mask, layer=-1 if stream_layer is None else stream_layer)
        condition = condition.reshape(batch * tokens, -1)[rows]  # (M, P D)
        hidden = codes.flatten(0, 1)[rows]  # (M, K) or (M,)
        if timesteps is not None:
            checks.check_timesteps(timesteps, (batch, tokens), self.config.num_timesteps, check_values)
            options["timesteps"] = timesteps = timesteps.flatten(0, 1)[rows]  # (M,) or (M, R)
            if timesteps.dim() == 2:
                levels = timesteps.shape[1]
                options["timesteps"] = timesteps.flatten()
                condition, hidden = condition.repeat_interleave(levels, 0), hidden.repeat_interleave(levels, 0)
        if noisy_codes is not None:
            assert self.config.code_dim is not None
            checks.check_noisy_codes(noisy_codes, (batch, tokens, self.config.code_dim), len(hidden) // len(rows))
            if check_values:
                checks.check_bits(noisy_codes)
            options["noisy_codes"] = noisy_codes.flatten(0, 1)[rows].flatten(0, -2)
        terms = self.head_loss(condition, hidden, generator=generator, **options)
        return terms if stream_layer is None else replace(terms, stream=stream)

    def head_loss(self, condition: Tensor, codes: Tensor, **options) -> LossTerms | CategoricalLossTerms:
        """Loss of some tokens: their conditions (M, P D) and codes (M, K) or (M,)."""
        if self.config.categorical:
            return self.head.loss(condition, self.code_format.indices(codes), self.embedding, **options)
        return self.head.loss(condition, codes, **options)

    def draw_mask(self, batch: int, tokens: int, generator: torch.Generator | None, device, distribution: str = "cosine") -> Tensor | None:
        """Training mask (B, N), True = hidden, the same number in every image; None in a causal generator, which hides nothing."""
        return self.order.training_mask(batch, tokens, generator, device, distribution)

    def drop_labels(self, labels: Tensor | Captions, generator: torch.Generator | None = None) -> Tensor | Captions:
        """Labels with the null class in place of some, or captions with the null caption, each with probability `class_dropout`."""
        if self.config.class_dropout == 0:
            return labels
        device = self.class_embedding.weight.device
        drawn_on = generator.device if generator is not None else device
        dropped = torch.rand(len(labels), generator=generator, device=drawn_on) < self.config.class_dropout
        return self._without(labels, dropped.to(device))

    def _without(self, labels: Tensor | Captions, dropped: Tensor) -> Tensor | Captions:
        if isinstance(labels, Captions):
            return labels.dropped(dropped)
        return torch.where(dropped, self.null_class, labels)

    def generate(
        self,
        labels: Tensor | Captions | None = None,
        *,
        text: str | list[str] | Captions | None = None,
        negative_text: str | list[str] | Captions | None = None,
        preset: str | None = None,
        **settings,
    ) -> Tensor:
        """New codes (B, N, K) or (B, N) for labels (B,), for prompts, or for a batch_size of images without either.

        Parameters
        ----------
        labels : Tensor (B,), optional
            Of a model of classes.
        text : str or list of str, optional
            Of a model of captions: one prompt for all images (of `seeds` or a batch_size), or one an image.
        negative_text : str or list of str, optional
            What guidance leads away from, in place of the null caption.
        preset : "exact", "fast" or "fastest", optional
            Settings of masked sampling by name (`sampling.presets`); those that are named beside it go before, unless they contradict it.
        **settings

        Settings are those of `sampling.masked.sample_codes` (masked, bits), `sampling.categorical.sample_codes` (masked, classes) or
        `sampling.autoregressive.sample_codes` (causal).
        """
        self._require_generative("generate")
        if preset is not None:
            settings = preset_settings(preset, settings)
        if text is not None or negative_text is not None or self.config.text is not None:
            check_source(self.config.text, labels, text if text is not None else negative_text)
            count = images_wanted(settings)
            labels = batch_captions(self, labels if text is None else text, negative_text, count)
        return self.order.sampler(self, labels, **settings)

    def _require_generative(self, what: str) -> None:
        if not self.generative:
            raise RuntimeError(f"{what}() needs the generative parts, but the model was built or pruned without them; use generative=True.")
