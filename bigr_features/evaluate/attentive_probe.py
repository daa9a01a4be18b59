"""Attentive probes: classifiers that learn which tokens to look at.   n samples, N tokens, D features, C classes"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_consistent_length, column_or_1d
from torch import Tensor, nn
from torch.nn import functional as F

from .arrays import check_finite, in_memory_if_small, is_on_disk
from .attention_pooling import AttentionPooling, EfficientPooling
from .devices import checked_device
from .lars import warmup_cosine
from .logits import LogitClassifier
from .selection import holdout_split


class TokenProbe(LogitClassifier, BaseEstimator):
    """What attentive probes share: training over frozen tokens by AdamW with a warm-up and half a cosine. A subclass gives the head.

    Tokens may lie on disk in half precision, as a feature store keeps them: they are loaded in that precision if they take at most
    `max_bytes`, else every batch is read from disk.

    Parameters
    ----------
    lrs, epochs : tuple of float, tuple of int, or one value
        All combinations, also with the sizes of the head, are compared on held-out training data; one alone skips the choice.
    batch_size : int
    weight_decay : float
    warmup_share : float
        Share of the training in which the learning rate rises.
    holdout : float
        Share of the training data, drawn by class, on which the choice is made; the final training uses all of it.
    random_state : int
        Seed of initial weights, order, and held-out split.
    max_bytes : int
        Tokens on disk are loaded if they take at most this.
    device : str or torch.device
        Where to train and to predict.

    Attributes
    ----------
    lr_, epochs_ : float, int
        The chosen values.
    holdout_accuracies_ : array (sizes of the head, number of lrs, number of epochs)
        NaN if there was no choice to make.
    classes_ : array (C,)
    module_ : torch module
        On the device.
    """

    SIZE: str  # the parameter that sizes the head
    HEAD: type[nn.Module]

    def __init__(self, lrs, epochs, batch_size, weight_decay, warmup_share, holdout, random_state, max_bytes, device):
        self.lrs = lrs
        self.epochs = epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.warmup_share = warmup_share
        self.holdout = holdout
        self.random_state = random_state
        self.max_bytes = max_bytes
        self.device = device

    def fit(self, X, y):
        """Train on tokens X (n, N, D) and y (n,)."""
        device = checked_device(self.device)
        X, labels = self._check(X, y)
        choices = self._choices(X)
        accuracies = np.full(len(choices), np.nan)
        X = in_memory_if_small(X, self.max_bytes, "tokens")
        if not is_on_disk(X):  # once, instead of in every epoch
            for start in range(0, len(X), self.batch_size):
                check_finite(X[start : start + self.batch_size], np.arange(start, min(start + self.batch_size, len(X))))
        if len(choices) > 1:
            training, held_out = holdout_split(labels, self.holdout, self.random_state)
            for i, choice in enumerate(choices):
                module = self._train(X, labels, training, device, *choice)
                accuracies[i] = self._accuracy(module, X, labels, held_out, device)
        size, self.lr_, self.epochs_ = choices[int(np.argmax(accuracies)) if len(choices) > 1 else 0]
        setattr(self, f"{self.SIZE}_", size)
        self.holdout_accuracies_ = accuracies.reshape([len(dict.fromkeys(values)) for values in zip(*choices, strict=True)])
        self.module_ = self._train(X, labels, np.arange(len(labels)), device, size, self.lr_, self.epochs_)
        return self

    def _check_queries(self, X):
        X = _check_tokens(X)
        if X.shape[1:] != self.token_shape_:
            raise ValueError(f"tokens have shape {tuple(X.shape[1:])} each; the probe was fitted on {self.token_shape_}.")
        return X

    def _logit_blocks(self, X):
        device = checked_device(self.device)
        return ((place, found.cpu().numpy()) for place, found in self._blocks(self.module_.to(device), X, np.arange(len(X)), device))

    @torch.no_grad()
    def _blocks(self, module: nn.Module, X, rows: np.ndarray, device: torch.device):
        """(positions, logits on the device) of the given rows, a batch at a time."""
        for start in range(0, len(rows), self.batch_size):
            place = slice(start, min(start + self.batch_size, len(rows)))
            with torch.no_grad():
                yield place, module(_read(X, rows[place], device))

    def _accuracy(self, module: nn.Module, X, labels: np.ndarray, rows: np.ndarray, device: torch.device) -> float:
        guesses = [logits.argmax(1) for _, logits in self._blocks(module, X, rows, device)]
        return float((torch.cat(guesses).cpu().numpy() == labels[rows]).mean())

    def _train(self, X, labels: np.ndarray, rows: np.ndarray, device: torch.device, size: int, lr: float, epochs: int) -> nn.Module:
        generator = torch.Generator().manual_seed(self.random_state)
        rng = np.random.default_rng(self.random_state)
        module = self.HEAD(X.shape[2], size, len(self.classes_), generator).to(device)
        optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=self.weight_decay)
        starts = range(0, len(rows), self.batch_size)
        for epoch in range(epochs):
            order = rng.permutation(rows)
            for step, start in enumerate(starts):
                place = (epoch + (step + 1) / len(starts)) / (epochs + 1 / len(starts))
                for group in optimizer.param_groups:
                    group["lr"] = lr * warmup_cosine(place, 1, self.warmup_share)
                batch = np.sort(order[start : start + self.batch_size])
                if len(batch) < 2:  # of one sample there are no statistics
                    continue
                loss = F.cross_entropy(module(_read(X, batch, device, is_on_disk(X))), torch.from_numpy(labels[batch]).to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return module.eval()

    def _choices(self, X) -> list[tuple[int, float, int]]:
        """Every combination of head size, learning rate and epochs."""
        lrs, epochs = np.atleast_1d(self.lrs).astype(float), np.atleast_1d(self.epochs).astype(int)
        if not len(lrs) or not len(epochs) or not (lrs > 0).all() or not (epochs > 0).all():
            raise ValueError(f"lrs={self.lrs!r}, epochs={self.epochs!r}; expected one or more positive numbers each.")
        given = getattr(self, self.SIZE)
        sizes = np.atleast_1d(given)
        if not len(sizes) or sizes.dtype.kind not in "iu" or (sizes < 1).any():
            raise ValueError(f"{self.SIZE}={given!r}; expected one or more integers of 1 or more.")
        for size in sizes.tolist():
            self._check_size(size, *X.shape[1:])
        return list(product(sizes.tolist(), lrs.tolist(), epochs.tolist()))

    def _check_size(self, size: int, num_tokens: int, width: int) -> None:
        if width % size:
            fitting = [str(n) for n in range(1, min(width, num_tokens) + 1) if width % n == 0]
            raise ValueError(f"{self.SIZE}={size} does not divide the width {width} of the tokens; choose of {', '.join(fitting)}.")

    def _check(self, X, y) -> tuple:
        X, name = _check_tokens(X), type(self).__name__
        if type_of_target(y, input_name="y").startswith("multilabel"):
            raise ValueError(f"y is multilabel, shape {np.shape(y)}; {name} predicts one class for each sample.")
        y = column_or_1d(y)
        check_consistent_length(X, y)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class only, {self.classes_[0]!r}; a classifier needs at least 2 classes.")
        if self.batch_size < 2 or not 0 < self.warmup_share < 1:
            raise ValueError(f"batch_size={self.batch_size}, warmup_share={self.warmup_share}; expected at least 2, and between 0 and 1.")
        self.token_shape_ = tuple(X.shape[1:])
        return X, labels.astype(np.int64)


class AttentiveProbe(TokenProbe):
    """The attentive probe of AIM: one learned query a head, keys and values; see `AttentionPooling`, and `TokenProbe` for the training.

    Parameters
    ----------
    num_heads : int or tuple of int
        Each must divide D.
    lrs, epochs, batch_size, weight_decay, warmup_share, holdout, random_state, max_bytes, device : see `TokenProbe`

    Attributes
    ----------
    num_heads_ : int
        The chosen value.
    """

    SIZE, HEAD = "num_heads", AttentionPooling

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
        max_bytes=2**32,
        device="cpu",
    ):
        super().__init__(lrs, epochs, batch_size, weight_decay, warmup_share, holdout, random_state, max_bytes, device)
        self.num_heads = num_heads


class EfficientProbe(TokenProbe):
    """The efficient attentive probe: few learned queries score the raw tokens; see `EfficientPooling`, and `TokenProbe` for the training.

    Parameters
    ----------
    num_queries : int or tuple of int
        Each must divide D, and be no more than there are tokens.
    lrs, epochs, batch_size, weight_decay, warmup_share, holdout, random_state, max_bytes, device : see `TokenProbe`

    Attributes
    ----------
    num_queries_ : int
        The chosen value.
    """

    SIZE, HEAD = "num_queries", EfficientPooling

    def __init__(
        self, num_queries=(4, 8), lrs=(1e-3, 3e-3), epochs=(20,), batch_size=128, weight_decay=0.05, warmup_share=0.1,
        holdout=0.2, random_state=0, max_bytes=2**32, device="cpu",
    ):  # fmt: skip
        super().__init__(lrs, epochs, batch_size, weight_decay, warmup_share, holdout, random_state, max_bytes, device)
        self.num_queries = num_queries

    def _check_size(self, size: int, num_tokens: int, width: int) -> None:
        if size > num_tokens:
            raise ValueError(f"num_queries={size}, but there are {num_tokens} tokens; give at most that many queries.")
        super()._check_size(size, num_tokens, width)


def _check_tokens(X):
    X = X if hasattr(X, "shape") else np.asarray(X)
    if len(X.shape) != 3 or 0 in X.shape:
        raise ValueError(
            f"tokens have shape {tuple(X.shape)}; expected (samples, tokens, features). Pooled features have no tokens: "
            "use LinearProbe, or extract with pooling 'tokens'."
        )
    return X if is_on_disk(X) else np.asarray(X)


def _read(X, rows: np.ndarray, device: torch.device, check: bool = True) -> Tensor:
    x = np.asarray(X[rows])
    if check:
        check_finite(x, rows)
    if x.dtype not in (np.float16, np.float32, np.float64):
        x = x.astype(np.float32)
    # halves are copied as they are and widened there; doubles are narrowed here, for devices that lack them
    return torch.from_numpy(x.astype(np.float32, copy=False) if x.dtype == np.float64 else x).to(device).float()
