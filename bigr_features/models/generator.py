"""The generator: codes and a class to condition vectors, loss and new codes.

B batch, N = G * G tokens, K bits, c condition tokens, D width
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..functional import checks
from ..functional.masking import draw_mask_count, lowest, positions_of
from ..sampling.masked import sample_codes
from .config import GeneratorConfig
from .transcoder import LossTerms, Transcoder
from .transformer import Trunk


class BitEmbedding(nn.Module):
    """Codes (B, N, K) of 0 and 1 to token vectors (B, N, D); hidden tokens become one learned vector."""

    def __init__(self, config: GeneratorConfig, device=None, dtype=None):
        super().__init__()
        self.proj = nn.Linear(config.code_dim, config.width, device=device, dtype=dtype)
        self.mask_embedding = nn.Parameter(torch.empty(1, config.width, device=device, dtype=dtype))

    def init_weights(self) -> None:
        if self.mask_embedding is not None:
            nn.init.normal_(self.mask_embedding)

    def forward(self, codes: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.proj(codes.to(self.proj.weight.dtype))  # (B, N, D)
        if mask is None:
            return x
        mask_embedding = self.mask_embedding
        assert mask_embedding is not None, "built without the generative parts"
        return torch.where(mask[..., None], mask_embedding, x)


class BiGR(nn.Module):
    """Masked (or causal) transformer over tokens with a per-token head (arXiv:2410.14672).

    Parameters
    ----------
    config : GeneratorConfig
    embedding : nn.Module, optional
        From codes and mask to token vectors; bits by default. Systems on class indices bring their own.
    head : nn.Module, optional
        What stands in place of the Bernoulli transcoder: `loss(condition, codes, ...)` and `sample(condition, ...)`, both over M tokens.

    Attributes
    ----------
    embedding, class_embedding, trunk, position_embedding, transcoder
    input_position_embedding : Parameter (1, N, D), or None without `input_positions`
    """

    def __init__(
        self,
        config: GeneratorConfig,
        *,
        embedding: nn.Module | None = None,
        head: nn.Module | None = None,
        device=None,
        dtype=None,
    ):
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.config = config
        self.null_class = config.null_class
        self.num_cond_tokens = config.num_cond_tokens
        self.embedding = embedding if embedding is not None else BitEmbedding(config, **dd)
        self.class_embedding = nn.Embedding(config.num_classes + 1, config.width, **dd)
        positions = nn.Parameter(torch.empty(1, config.num_tokens, config.width, **dd)) if config.input_positions else None
        self.input_position_embedding = positions
        self.token_dropout = nn.Dropout(config.token_dropout)
        self.trunk = Trunk(config, **dd)
        self.position_embedding = nn.Parameter(torch.empty(1, config.num_tokens, config.width, **dd))
        self.transcoder = head if head is not None else Transcoder(config, **dd)
        self.init_weights()

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
            elif isinstance(module, nn.RMSNorm):
                nn.init.ones_(module.weight)
        for positions in (self.position_embedding, self.input_position_embedding):
            if positions is not None:
                nn.init.normal_(positions, std=self.config.position_init_std)
        for part in (self.embedding, self.trunk, self.transcoder):
            if hasattr(part, "init_weights"):
                part.init_weights()

    def drop_generative_parts(self, keep_blocks: int, keep_norm: bool = False) -> None:
        """Leave what the residual stream after block `keep_blocks - 1` needs; the rest only generates."""
        self.trunk.blocks = self.trunk.blocks[:keep_blocks]
        if not keep_norm:
            self.trunk.norm = nn.Identity()
        self.transcoder = None
        self.position_embedding = None
        self.embedding.mask_embedding = None

    @torch.jit.unused
    @property
    def generative(self) -> bool:
        """Whether loss, condition and generation are available."""
        return self.transcoder is not None and self.position_embedding is not None

    def class_vector(self, labels: Tensor | None = None, label_weights: Tensor | None = None) -> Tensor:
        """Class embedding (B, 1, D), or (1, 1, D) of the null class without labels.

        Parameters
        ----------
        labels : Tensor (B,) or (B, J), int64
            Indices 0..num_classes, the last being the null class.
        label_weights : Tensor (J,) or (B, J), optional
            Mixes the embeddings of J labels an image (class interpolation).
        """
        if labels is None:
            return self.class_embedding.weight[self.null_class][None, None]
        vectors = self.class_embedding(labels.long())
        if label_weights is None:
            return vectors[:, None]
        weights = label_weights.to(vectors.dtype).expand(labels.shape)
        return (weights[..., None] * vectors).sum(1, keepdim=True)

    def embed(
        self, codes: Tensor, labels: Tensor | None = None, mask: Tensor | None = None, label_weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What the trunk takes: the sequence (B, c + N, D) and the class vector (B or 1, 1, D)."""
        tokens = self.embedding(codes, mask)
        if self.input_position_embedding is not None:
            tokens = tokens + self.input_position_embedding
        tokens = self.token_dropout(tokens)
        vector = self.class_vector(labels, label_weights)
        prefix = vector.expand(tokens.shape[0], self.num_cond_tokens, -1)
        return torch.cat([prefix, tokens], dim=1), vector

    def features(self, codes: Tensor, layer: int) -> Tensor:
        """Image tokens (B, N, D) of the residual stream after block `layer`: null class, nothing hidden, no final norm. Traceable."""
        x, vector = self.embed(codes)
        return self.trunk(x, vector, [layer])[0][:, self.num_cond_tokens :]

    def hidden_states(
        self,
        codes: Tensor,
        labels: Tensor | None = None,
        mask: Tensor | None = None,
        layers: list[int] | None = None,
        *,
        return_prefix: bool = False,
    ) -> list[Tensor]:
        """Residual stream after each block, condition tokens left out, without the final norm.

        Parameters
        ----------
        codes : Tensor (B, N, K) of 0 and 1
        labels : Tensor (B,), optional
            Class indices; None is the null class, the paper's choice for features.
        mask : Tensor (B, N) bool, optional
            True = hidden. None hides nothing.
        layers : list of int, optional
            0-based blocks, negative from the end; all by default. One pass runs to the last of them.
        return_prefix : bool
            Keep the c condition tokens in front: (B, c + N, D).

        Returns
        -------
        list of Tensor (B, N, D), in the order of `layers`

        Raises
        ------
        ValueError
            For a layer out of range, or shapes that do not fit the configuration.
        """
        wanted = resolve_layers(layers, len(self.trunk.blocks))
        self._check_shapes(codes, labels, mask)
        x, vector = self.embed(codes, labels, mask)
        order = sorted(set(wanted))
        start = 0 if return_prefix else self.num_cond_tokens
        streams = dict(zip(order, self.trunk(x, vector, order), strict=True))
        return [streams[layer][:, start:] for layer in wanted]

    def condition(
        self, codes: Tensor, labels: Tensor | None = None, mask: Tensor | None = None, *, label_weights: Tensor | None = None
    ) -> Tensor:
        """What the transcoder sees, (B, N, D): final norm of the last block's image tokens plus the learned position.

        In a causal trunk the vector at index i is the output one position earlier, which has seen the tokens before i only.
        """
        self._require_generative("condition")
        self._check_shapes(codes, labels, mask, mixed=label_weights is not None)
        return self._condition(*self.embed(codes, labels, mask, label_weights))

    def _condition(self, x: Tensor, vector: Tensor) -> Tensor:
        x = self.trunk.norm(self.trunk(x, vector, [len(self.trunk.blocks) - 1])[0])
        first = self.num_cond_tokens - 1 if self.config.causal else self.num_cond_tokens
        return x[:, first : first + self.config.num_tokens] + self.position_embedding

    @torch.jit.unused
    def forward(self, codes: Tensor, labels: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Same as `condition`."""
        return self.condition(codes, labels, mask)

    def loss(
        self,
        codes: Tensor,
        labels: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        timesteps: Tensor | None = None,
        noisy_codes: Tensor | None = None,
        dropped: Tensor | None = None,
        num_hidden: int | None = None,
        check_values: bool = True,
        generator: torch.Generator | None = None,
    ) -> LossTerms:
        """The generative training loss (BiGR, Sec. 3.1): the transcoder's loss, over hidden tokens only.

        Each draw may be given; what is not given is drawn from `generator`. A causal trunk hides nothing and predicts every token.
        In train mode labels are replaced by the null class with probability `class_dropout`.

        Parameters
        ----------
        codes : Tensor (B, N, K) of 0 and 1
        labels : Tensor (B,) int64, optional
            None trains without classes (null class for all).
        mask : Tensor (B, N) bool, optional
            By default one cosine-distributed count for the batch, at random positions of each image.
        timesteps : Tensor (B, N) or (B, N, R) int64, optional
            Noise levels 1..T, one a token, or R of them whose losses are averaged.
        noisy_codes : Tensor (B, N, K) or (B, N, R, K), optional
            As many a token as there are timesteps.
        dropped : Tensor (B,) bool, optional
            Images whose label becomes the null class.
        num_hidden : int, optional
            Tokens that `mask` hides in each image, if it is the same number in all: the host then need not wait to count them.
        check_values : bool
            Whether to look at bits, labels and timesteps, for which the host waits for the device. Training turns it off, since its codes
            and draws are right by construction.

        Returns
        -------
        LossTerms
            loss, bce, bit_accuracy.

        Raises
        ------
        ValueError
            For shapes, bits, labels or timesteps that do not fit the configuration, or a mask that hides nothing.
        """
        self._require_generative("loss")
        self._check_shapes(codes, labels, mask)
        if check_values:
            checks.check_bits(codes)
            checks.check_labels(labels, self.null_class, self.config.unconditional and not self.training)
        if labels is not None and dropped is not None:
            labels = torch.where(dropped, self.null_class, labels)
        elif labels is not None and self.training:
            labels = self.drop_labels(labels, generator)
        batch, tokens = codes.shape[:2]
        if self.config.causal:
            if mask is not None:
                raise ValueError("a mask was given, but a causal generator predicts every token; leave mask out.")
            rows = torch.arange(batch * tokens, device=codes.device)
        else:
            if mask is None:
                mask = self.draw_mask(batch, tokens, generator, codes.device)
            rows = positions_of(mask, None if num_hidden is None else num_hidden * batch)  # (M,)
            if len(rows) == 0:
                raise ValueError("the mask hides no token, so there is nothing to predict; hide at least one token.")
        condition = self.condition(codes, labels, mask).flatten(0, 1)[rows]  # (M, D)
        hidden = codes.flatten(0, 1)[rows]  # (M, K)
        if timesteps is not None:
            checks.check_timesteps(timesteps, (batch, tokens), self.config.num_timesteps, check_values)
            timesteps = timesteps.flatten(0, 1)[rows]  # (M,) or (M, R)
            if timesteps.dim() == 2:
                levels = timesteps.shape[1]
                timesteps = timesteps.flatten()
                condition, hidden = condition.repeat_interleave(levels, 0), hidden.repeat_interleave(levels, 0)
        if noisy_codes is not None:
            checks.check_noisy_codes(noisy_codes, (batch, tokens, self.config.code_dim), len(hidden) // len(rows))
            if check_values:
                checks.check_bits(noisy_codes)
            noisy_codes = noisy_codes.flatten(0, 1)[rows].flatten(0, -2)
        return self.transcoder.loss(condition, hidden, timesteps, noisy_codes, generator)

    def draw_mask(self, batch: int, tokens: int, generator: torch.Generator | None, device) -> Tensor:
        """Training mask (B, N): the same cosine-distributed number of hidden tokens in every image, at random positions."""
        drawn_on = generator.device if generator is not None else device
        noise = torch.rand(batch, tokens, generator=generator, device=drawn_on)
        return lowest(noise, draw_mask_count(tokens, generator)).to(device)

    def drop_labels(self, labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Labels with the null class in place of some, each with probability `class_dropout`."""
        if self.config.class_dropout == 0:
            return labels
        drawn_on = generator.device if generator is not None else labels.device
        dropped = torch.rand(labels.shape, generator=generator, device=drawn_on) < self.config.class_dropout
        return torch.where(dropped.to(labels.device), self.null_class, labels)

    def generate(self, labels: Tensor | None, **settings) -> Tensor:
        """New codes (B, N, K) for labels (B,), most confident tokens first; see `sampling.masked.sample_codes` for every setting."""
        self._require_generative("generate")
        return sample_codes(self, labels, **settings)

    def _require_generative(self, what: str) -> None:
        if not self.generative:
            raise RuntimeError(f"{what}() needs the generative parts, but the model was built or pruned without them; use generative=True.")

    def _check_shapes(self, codes: Tensor, labels: Tensor | None, mask: Tensor | None, mixed: bool = False) -> None:
        checks.check_codes(codes, self.config.num_tokens, self.config.code_dim)
        if labels is not None and labels.dim() != (2 if mixed else 1):
            expected = "(batch, mixed labels) with label_weights" if mixed else "(batch,)"
            raise ValueError(f"labels have shape {tuple(labels.shape)}; expected {expected}.")
        if labels is not None and labels.shape[:1] != codes.shape[:1]:
            raise ValueError(f"labels have shape {tuple(labels.shape)} but codes hold {codes.shape[0]} images; give one label an image.")
        if mask is not None and (mask.shape != codes.shape[:2] or mask.dtype != torch.bool):
            raise ValueError(
                f"mask has shape {tuple(mask.shape)} and dtype {mask.dtype}; expected bool {tuple(codes.shape[:2])}, True = hidden."
            )


def resolve_layers(layers: list[int] | int | None, depth: int) -> list[int]:
    """0-based block indices from a list (negative from the end), a single index, or None for all.

    Raises
    ------
    ValueError
        If an index is out of range.
    """
    if layers is None:
        return list(range(depth))
    given = [layers] if isinstance(layers, int) else list(layers)
    wrong = [layer for layer in given if not -depth <= layer < depth]
    if not given:
        raise ValueError(f"layers is empty; give at least one of {-depth}..{depth - 1}, or None for all.")
    if wrong:
        raise ValueError(f"layer {wrong[0]} is out of range; the model has {depth} blocks, so give {-depth}..{depth - 1}.")
    return [layer % depth for layer in given]
