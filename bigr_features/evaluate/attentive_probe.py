"""Attentive probe: a classifier that learns which tokens to look at.

The head of AIM (arXiv:2401.08541): batch normalisation without affine, one learned query a head, linear keys and values, then a linear
layer.   n samples, N tokens, D features, h heads, C classes
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d
from torch import Tensor, nn
from torch.nn import functional as F

from .arrays import check_finite
from .lars import warmup_cosine
from .logits import LogitClassifier
from .selection import holdout_split


class AttentionPooling(nn.Module):
    """Tokens (B, N, D) to logits (B, C) by cross-attention from learned queries."""

    def __init__(self, width: int, num_heads: int, num_classes: int, generator: torch.Generator):
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.BatchNorm1d(width, affine=False, eps=1e-6)
        self.query = nn.Parameter(torch.empty(num_heads, 1, width // num_heads))
        self.key, self.value = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.head = nn.Linear(width, num_classes)
        for matrix in (self.query, self.key.weight, self.value.weight, self.head.weight):
            nn.init.trunc_normal_(matrix, std=0.02, generator=generator)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.norm(tokens.transpose(1, 2)).transpose(1, 2)  # (B, N, D), statistics over samples and tokens
        key, value = (layer(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2) for layer in (self.key, self.value))
        query = self.query.expand(len(x), -1, -1, -1)  # (B, h, 1, D / h)
        pooled = F.scaled_dot_product_attention(query, key, value).flatten(1)  # (B, D)
        return self.head(pooled)


class AttentiveProbe(LogitClassifier, BaseEstimator):
    """Attention pooling and a linear layer over frozen tokens, trained by AdamW with a warm-up and half a cosine.

    Parameters
    ----------
    num_heads : int
        Must divide D.
    lrs, epochs : tuple of float, tuple of int, or one value
        All combinations are compared on held-out training data; one alone skips the choice.
    batch_size : int
    weight_decay : float
    warmup_share : float
        Of the training, in which the learning rate rises.
    holdout : float
        Share of the training data, drawn by class, on which the choice is made; the final training uses all of it.
    random_state : int
        Seed of initial weights, order, and held-out split.

    Attributes
    ----------
    lr_, epochs_ : float, int
        The chosen values.
    holdout_accuracies_ : array (number of lrs, number of epochs)
        NaN if there was no choice to make.
    classes_ : array (C,)
    module_ : AttentionPooling
    """

    def __init__(
        self,
        num_heads=4,
        lrs=(3e-4, 1e-3, 3e-3),
        epochs=(20,),
        batch_size=128,
        weight_decay=0.05,
        warmup_share=0.1,
        holdout=0.2,
        random_state=0,
    ):
        self.num_heads = num_heads
        self.lrs = lrs
        self.epochs = epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.warmup_share = warmup_share
        self.holdout = holdout
        self.random_state = random_state

    def fit(self, X, y):
        """Train on tokens X (n, N, D) and y (n,)."""
        X, labels = self._check(X, y)
        lrs, epochs = np.atleast_1d(self.lrs).astype(float), np.atleast_1d(self.epochs).astype(int)
        if not len(lrs) or not len(epochs) or not (lrs > 0).all() or not (epochs > 0).all():
            raise ValueError(f"lrs={self.lrs!r}, epochs={self.epochs!r}; expected one or more positive numbers each.")
        choices = list(product(lrs.tolist(), epochs.tolist()))
        accuracies = np.full(len(choices), np.nan)
        if len(choices) > 1:
            training, held_out = holdout_split(labels, self.holdout, self.random_state)
            for i, choice in enumerate(choices):
                module = self._train(X, labels, training, *choice)
                accuracies[i] = (self._module_logits(module, X, held_out).argmax(1) == labels[held_out]).mean()
        self.holdout_accuracies_ = accuracies.reshape(len(lrs), len(epochs))
        self.lr_, self.epochs_ = choices[int(np.argmax(accuracies)) if len(choices) > 1 else 0]
        self.module_ = self._train(X, labels, np.arange(len(labels)), self.lr_, self.epochs_)
        return self

    def logits(self, X):
        """One logit a class (n, C)."""
        check_is_fitted(self)
        X = _check_tokens(X)
        if X.shape[1:] != self.token_shape_:
            raise ValueError(f"tokens have shape {tuple(X.shape[1:])} each; the probe was fitted on {self.token_shape_}.")
        return self._module_logits(self.module_, X, np.arange(len(X)))

    def _train(self, X, labels: np.ndarray, rows: np.ndarray, lr: float, epochs: int) -> AttentionPooling:
        generator = torch.Generator().manual_seed(self.random_state)
        rng = np.random.default_rng(self.random_state)
        module = AttentionPooling(X.shape[2], self.num_heads, len(self.classes_), generator)
        optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=self.weight_decay)
        starts = range(0, len(rows), self.batch_size)
        for epoch in range(epochs):
            order = rng.permutation(rows)
            for step, start in enumerate(starts):
                place = (epoch + (step + 1) / len(starts)) / (epochs + 1 / len(starts))
                for group in optimizer.param_groups:
                    group["lr"] = lr * warmup_cosine(place, 1, self.warmup_share)
                batch = np.sort(order[start : start + self.batch_size])
                loss = F.cross_entropy(module(_read(X, batch)), torch.from_numpy(labels[batch]))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return module.eval()

    @torch.no_grad()
    def _module_logits(self, module: AttentionPooling, X, rows: np.ndarray) -> np.ndarray:
        return torch.cat([module(_read(X, rows[i : i + self.batch_size])) for i in range(0, len(rows), self.batch_size)]).numpy()

    def _check(self, X, y) -> tuple:
        X = _check_tokens(X)
        if type_of_target(y, input_name="y").startswith("multilabel"):
            raise ValueError(f"y is multilabel, shape {np.shape(y)}; AttentiveProbe predicts one class for each sample.")
        y = column_or_1d(y)
        check_consistent_length(X, y)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class only, {self.classes_[0]!r}; a classifier needs at least 2 classes.")
        if self.num_heads < 1 or X.shape[2] % self.num_heads:
            raise ValueError(f"num_heads={self.num_heads} does not divide the width {X.shape[2]} of the tokens.")
        if self.batch_size < 1 or not 0 < self.warmup_share < 1:
            raise ValueError(f"batch_size={self.batch_size}, warmup_share={self.warmup_share}; expected at least 1, and between 0 and 1.")
        self.token_shape_ = tuple(X.shape[1:])
        return X, labels.astype(np.int64)


def _check_tokens(X):
    X = X if hasattr(X, "shape") else np.asarray(X)
    if len(X.shape) != 3 or 0 in X.shape:
        raise ValueError(f"tokens have shape {tuple(X.shape)}; expected (samples, tokens, features). For pooled features use LinearProbe.")
    return X


def _read(X, rows: np.ndarray) -> Tensor:
    x = np.asarray(X[rows]).astype(np.float32)
    check_finite(x, rows)
    return torch.from_numpy(x)
