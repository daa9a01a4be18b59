"""The transformer over tokens: codes and a class to the residual stream, which is where features come from.

B batch, N = G * G tokens, K bits, c condition tokens, P positions a token takes, D width
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..functional.codes import code_format
from ..sampling.captions import Captions
from .config import GeneratorConfig
from .embeddings import build_embedding
from .order import build_order
from .text import Condition, TextCondition, check_source
from .text_reading import EncoderReader
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
        self.num_prefix = config.num_cond_tokens * config.positions_per_token  # of a class, or of the null caption
        self.num_prefix_slots = config.num_prefix_slots
        self.positions_per_token = config.positions_per_token
        self.embedding = build_embedding(config, **dd)
        self.class_embedding = nn.Embedding(config.num_classes + 1, config.width, **dd)
        positions = nn.Parameter(torch.empty(1, config.num_tokens, config.width, **dd)) if config.input_positions else None
        self.input_position_embedding = positions
        self.text = TextCondition(config, **dd) if config.text is not None else None
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

    def source(self, labels: Tensor | Captions | None, text) -> Tensor | Captions | None:
        """The one condition that was given: labels, or captions as tensors, read if they are text.

        Raises
        ------
        TypeError, ValueError
            For the source that the model does not know, both, and captions that do not fit.
        """
        check_source(self.config.text, labels, text)
        given = labels if text is None else text
        if self.config.text is None or given is None:
            return given
        return self.captions(given)

    def captions(self, text: str | list[str] | Captions) -> Captions:
        """Captions as tensors on the model's device, from prompts or from what was read before; see `TextReader.read`."""
        check_source(self.config.text, None, text)
        part = self._text_part()
        captions = text if isinstance(text, Captions) else part.read(text)
        part.check(captions)
        return captions.to(self.class_embedding.weight.device)

    def null_captions(self, count: int) -> Captions:
        """The null caption for so many images."""
        device = self.class_embedding.weight.device
        text, length = self._text_part().text, 1
        shape = (count, length) if text.own else (count, length, text.width)
        dtype = torch.int64 if text.own else torch.float32
        hidden = torch.zeros(count, length, dtype=torch.bool, device=device)
        return Captions.of_tokens(torch.zeros(shape, dtype=dtype, device=device), hidden)

    def attach_text_encoder(self, encoder) -> None:
        """Take a frozen encoder of `load_text_encoder`, which must be the one that the model was trained with."""
        part = self._text_part()
        check_source(part.text, None, encoder)
        if not isinstance(part.reader, EncoderReader):
            raise ValueError("this model has a word-level encoder of its own; there is nothing to attach.")
        part.reader.attach(encoder)

    def _text_part(self) -> TextCondition:
        if self.text is None:
            raise RuntimeError("captions need the generative parts, but the model was built or pruned without them; use generative=True.")
        return self.text

    def conditioned(self, labels: Tensor | Captions | None, label_weights: Tensor | None = None) -> Condition:
        """Prefix and vector of classes or captions; of the null class or caption for None."""
        if isinstance(labels, Captions):
            return self._text_part()(labels, self.class_embedding.weight[self.null_class])
        vector = self.class_vector(labels, label_weights)
        return Condition(vector.expand(-1, self.num_prefix, -1), vector)

    def run(
        self, condition: Condition, tokens: Tensor, layers: list[int], missing: int = 0, mask: Tensor | None = None
    ) -> tuple[list[Tensor], int]:
        """Residual streams after blocks `layers` of token vectors (B, P n, D) behind a condition, and the length of the prefix.

        The mask (B, n) counts with `visible_blocks` only: the vectors of hidden tokens say themselves what they are.
        """
        batch, count, prefix = len(tokens), tokens.shape[1], condition.prefix.shape[1]
        x = torch.cat([condition.prefix.expand(batch, -1, -1), tokens], dim=1)
        visible = condition.visible
        if visible is not None:
            visible = torch.cat([visible.expand(batch, -1), visible.new_ones(batch, count)], dim=1)
        hidden = None
        if mask is not None and self.config.visible_blocks:
            hidden = mask.repeat_interleave(self.positions_per_token, 1)
            hidden = torch.cat([hidden.new_zeros(batch, prefix), hidden], dim=1)
        return self.trunk(x, condition.vector, layers, missing, self.num_prefix_slots - prefix, visible, hidden), prefix

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
        streams = self.trunk(x, vector, [layer], int(shifted), self.num_prefix_slots - self.num_prefix)
        return streams[0][:, self.num_prefix - int(shifted) :]

    def hidden_states(
        self,
        codes: Tensor,
        labels: Tensor | Captions | None = None,
        mask: Tensor | None = None,
        layers: list[int] | None = None,
        *,
        text: str | list[str] | Captions | None = None,
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
        text : list of str, optional
            Captions, of a model of captions; None is the null caption.
        return_prefix : bool
            Keep the condition tokens in front: (B, P (c + N), D), or (B, T + P N, D) with captions.
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
        labels = self.source(labels, text)
        self._check_shapes(codes, labels, mask)
        if shifted and not self.config.causal:
            raise ValueError("shifted=True feeds what a causal generator is trained on, but this one is masked; leave it out.")
        tokens = self.token_vectors(codes, mask)
        order = sorted(set(wanted))
        found, prefix = self.run(self.conditioned(labels), tokens[:, :-1] if shifted else tokens, order, int(shifted), mask)
        start = 0 if return_prefix else prefix - int(shifted)
        streams = dict(zip(order, found, strict=True))
        return [streams[layer][:, start:] for layer in wanted]

    def _check_shapes(self, codes: Tensor, labels: Tensor | Captions | None, mask: Tensor | None, mixed: bool = False) -> None:
        self.code_format.check(codes, self.config.num_tokens)
        if isinstance(labels, Captions):
            if len(labels) != len(codes):
                raise ValueError(f"there are {len(labels)} captions but codes hold {len(codes)} images; give one caption an image.")
            self.order.check_mask(mask, codes.shape[:2])
            return
        if labels is not None and labels.dim() != (2 if mixed else 1):
            expected = "(batch, mixed labels) with label_weights" if mixed else "(batch,)"
            raise ValueError(f"labels have shape {tuple(labels.shape)}; expected {expected}.")
        if labels is not None and labels.shape[:1] != codes.shape[:1]:
            raise ValueError(f"labels have shape {tuple(labels.shape)} but codes hold {codes.shape[0]} images; give one label an image.")
        self.order.check_mask(mask, codes.shape[:2])


def resolve_layers(layers: Sequence[int] | int | None, depth: int) -> list[int]:
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
