"""The transformer over tokens: codes and a class to the residual stream, which is where features come from.

B batch, N = G * G tokens, K bits, c condition tokens, P positions a token takes, D width
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..functional.codes import code_format
from .config import GeneratorConfig
from .embeddings import build_embedding
from .order import build_order
from .transformer import Trunk


class TokenTransformer(nn.Module):
    """Embedding of tokens and classes, and the trunk: the part of a generator that needs no head.

    Parameters
    ----------
    config : GeneratorConfig
    """

    def __init__(self, config: GeneratorConfig, *, device=None, dtype=None):
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.config = config
        self.code_format = code_format(config)
        self.null_class = config.null_class
        self.order = build_order(config)
        self.num_cond_tokens = config.num_cond_tokens
        self.num_prefix = config.num_cond_tokens * config.positions_per_token
        self.positions_per_token = config.positions_per_token
        self.embedding = build_embedding(config, **dd)
        self.class_embedding = nn.Embedding(config.num_classes + 1, config.width, **dd)
        positions = nn.Parameter(torch.empty(1, config.num_tokens, config.width, **dd)) if config.input_positions else None
        self.input_position_embedding = positions
        self.token_dropout = nn.Dropout(config.token_dropout)
        self.trunk = Trunk(config, **dd)

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
        """What the trunk takes: the sequence (B, P (c + N), D) and the class vector (B or 1, 1, D)."""
        vector = self.class_vector(labels, label_weights)
        return self.sequence(vector, self.token_vectors(codes, mask)), vector

    def token_vectors(self, codes: Tensor, mask: Tensor | None = None, start: int = 0) -> Tensor:
        """Vectors (B, P n, D) of the codes of n tokens from index `start` on."""
        tokens = self.embedding(codes, mask)
        positions = self.input_position_embedding
        if positions is not None:
            positions = positions[:, start : start + codes.shape[1]]
            tokens = tokens + positions.repeat_interleave(self.positions_per_token, dim=1)
        return self.token_dropout(tokens)

    def sequence(self, vector: Tensor, tokens: Tensor) -> Tensor:
        """Condition tokens from the class vector (B or 1, 1, D), then token vectors (B, P n, D)."""
        return torch.cat([vector.expand(tokens.shape[0], self.num_prefix, -1), tokens], dim=1)

    def features(self, codes: Tensor, layer: int, shifted: bool = False) -> Tensor:
        """Image tokens (B, P N, D) of the residual stream after block `layer`: null class, nothing hidden, no final norm. Traceable.

        A causal trunk is fed all tokens too, as the authors of BiGR did with LlamaGen. `shifted` feeds it what training feeds, the class
        and all tokens but the last, and gives the N positions from the class on (GigaTok).
        """
        vector = self.class_vector()
        tokens = self.token_vectors(codes)
        x = self.sequence(vector, tokens[:, :-1] if shifted else tokens)
        return self.trunk(x, vector, [layer], int(shifted))[0][:, self.num_prefix - int(shifted) :]

    def hidden_states(
        self,
        codes: Tensor,
        labels: Tensor | None = None,
        mask: Tensor | None = None,
        layers: list[int] | None = None,
        *,
        return_prefix: bool = False,
        shifted: bool = False,
    ) -> list[Tensor]:
        """Residual stream after each block, condition tokens left out, without the final norm.

        Parameters
        ----------
        codes : Tensor (B, N, K) of 0 and 1, or (B, N) of indices
        labels : Tensor (B,), optional
            Class indices; None is the null class, the paper's choice for features.
        mask : Tensor (B, N) bool, optional
            True = hidden. None hides nothing.
        layers : list of int, optional
            0-based blocks, negative from the end; all by default. One pass runs to the last of them.
        return_prefix : bool
            Keep the c condition tokens in front: (B, P (c + N), D).
        shifted : bool
            In a causal model, feed all tokens but the last, and give the positions from the last condition token on: (B, N, D).

        Returns
        -------
        list of Tensor (B, P N, D), in the order of `layers`

        Raises
        ------
        ValueError
            For a layer out of range, or shapes that do not fit the configuration.
        """
        wanted = resolve_layers(layers, len(self.trunk.blocks))
        self._check_shapes(codes, labels, mask)
        if shifted and not self.config.causal:
            raise ValueError("shifted=True feeds what a causal generator is trained on, but this one is masked; leave it out.")
        x, vector = self.embed(codes, labels, mask)
        x = x[:, :-1] if shifted else x
        order = sorted(set(wanted))
        start = 0 if return_prefix else self.num_prefix - int(shifted)
        streams = dict(zip(order, self.trunk(x, vector, order, int(shifted)), strict=True))
        return [streams[layer][:, start:] for layer in wanted]

    def _check_shapes(self, codes: Tensor, labels: Tensor | None, mask: Tensor | None, mixed: bool = False) -> None:
        self.code_format.check(codes, self.config.num_tokens)
        if labels is not None and labels.dim() != (2 if mixed else 1):
            expected = "(batch, mixed labels) with label_weights" if mixed else "(batch,)"
            raise ValueError(f"labels have shape {tuple(labels.shape)}; expected {expected}.")
        if labels is not None and labels.shape[:1] != codes.shape[:1]:
            raise ValueError(f"labels have shape {tuple(labels.shape)} but codes hold {codes.shape[0]} images; give one label an image.")
        self.order.check_mask(mask, codes.shape[:2])


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
