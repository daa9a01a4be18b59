"""The linear probe of MAE's paper: batch normalisation without affine, a linear layer, and LARS.

n samples, V views, D features, C classes, L learning rates, m samples of a batch
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from .arrays import check_features, check_features_and_labels, check_finite, in_memory_if_small, is_on_disk, read_blocks, rows_per_block
from .devices import checked_device, has_float64, most_precise
from .lars import lars_update, warmup_cosine
from .logits import LogitClassifier
from .selection import holdout_split

log = logging.getLogger(__name__)

EPS = 1e-6  # of batch normalisation
STATISTICS_MOMENTUM = 0.1  # of its running mean and variance


class MAEProbe(LogitClassifier, BaseEstimator):
    """Linear probe by the protocol of MAE (arXiv:2111.06377, released code), on cached features.

    BatchNorm (no affine, eps 1e-6), a linear layer (weights truncated normal, std 0.01; bias 0), cross-entropy, LARS (momentum 0.9,
    trust 0.001, none for the bias, no decay), learning rate = base_lr x batch_size / 256, linear warm-up and half a cosine, incomplete
    batches dropped. Heads of all base_lrs are trained together: they share every batch and its normalisation, so that ten cost little
    more than one. The best on held-out training data is trained again on all of it.

    MAE trains on a fresh random crop of every image in every epoch, which cached features cannot give exactly. `fit(X, y)` is the
    protocol without augmentation; `fit(X, y, views=...)` draws one of V cached crops of each image in each epoch. `protocol_` says which.
    MAE's own numbers used base_lr 0.1 and batches of 16384 (lr 6.4); with smaller batches the rule keeps lr / batch, but the batch
    statistics are not the same.

    Parameters
    ----------
    base_lrs : tuple of float
        To choose from; one value skips the choice.
    batch_size : int
        At most the number of training samples, held-out ones apart.
    epochs, warmup_epochs : int
    holdout : float
        Share of the training data, drawn by class, on which base_lr is chosen.
    random_state : int
        Seed of initial weights, order of samples, views, and held-out split.
    max_bytes : int
        Features on disk are loaded if they take at most this; otherwise every batch is read from disk.
        Beside them a step takes some tables (batch_size, L, C), and scoring a block of some 32 MB.
    device : str or torch.device
        Where to train and to predict.

    Attributes
    ----------
    base_lr_ : float
        The chosen value.
    holdout_accuracies_ : array (len(base_lrs),)
        NaN if there was no choice to make.
    classes_ : array (C,)
    coef_, intercept_ : arrays (C, D), (C,)
        In units of X, batch normalisation folded in.
    losses_ : array (epochs,)
        Mean training cross-entropy in each epoch of the final fit, nats.
    protocol_ : dict
        What was done, for the result.
    """

    def __init__(
        self,
        base_lrs=(0.1,),
        batch_size=1024,
        epochs=90,
        warmup_epochs=10,
        holdout=0.2,
        random_state=0,
        max_bytes=2**32,
        device="cpu",
    ):
        self.base_lrs = base_lrs
        self.batch_size = batch_size
        self.epochs = epochs
        self.warmup_epochs = warmup_epochs
        self.holdout = holdout
        self.random_state = random_state
        self.max_bytes = max_bytes
        self.device = device

    def fit(self, X, y, views=None):
        """Train on X (n, D) and y (n,).

        Parameters
        ----------
        views : array (V, n, D), optional
            Features of V augmented crops of each sample; training draws from these alone. X, the plain crop, is then used for held-out
            scores only.
        """
        self._device = checked_device(self.device)
        X, self.classes_, labels = check_features_and_labels(self, X, y)
        rates = self._check_settings(X, views)
        source = in_memory_if_small(X if views is None else views, self.max_bytes)
        everything = np.arange(len(labels))
        self.holdout_accuracies_ = np.full(len(rates), np.nan)
        if len(rates) > 1:
            training, held_out = holdout_split(labels, self.holdout, self.random_state)
            weight, bias, _ = self._train(source, labels, training, rates)
            self.holdout_accuracies_ = _accuracies(X, labels, held_out, weight, bias, self._device)
        self.base_lr_ = float(rates[0] if len(rates) == 1 else rates[np.argmax(self.holdout_accuracies_)])
        weight, bias, self.losses_ = self._train(source, labels, everything, np.array([self.base_lr_]))
        if not torch.isfinite(weight).all():
            raise ValueError(f"training diverged at base_lr={self.base_lr_:g}; give smaller base_lrs.")
        self.coef_, self.intercept_ = (values[0].cpu().numpy().astype(np.float64) for values in (weight, bias))
        self.protocol_ = {
            "probe": "BatchNorm without affine (eps 1e-6) + linear, LARS (momentum 0.9, trust 0.001 on the matrix only, no decay)",
            "base_lr": self.base_lr_,
            "lr": self.base_lr_ * self.batch_size / 256,
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "warmup_epochs": self.warmup_epochs,
            "augmentation": "none: one cached crop of each image" if views is None else f"{len(views)} cached crops, one drawn an epoch",
            "chosen": "base_lr given" if len(rates) == 1 else f"base_lr from {rates.tolist()} on {self.holdout:.0%} of the training data",
        }
        return self

    def _check_queries(self, X):
        return check_features(self, X)

    def _logit_blocks(self, X):
        dtype = np.float64 if has_float64(checked_device(self.device)) else np.float32
        weight, bias = (torch.from_numpy(values.astype(dtype))[None] for values in (self.coef_, self.intercept_))
        return ((place, logits[0].cpu().numpy()) for place, logits in _logits(X, None, weight, bias, checked_device(self.device)))

    def _train(self, source, labels: np.ndarray, rows: np.ndarray, base_lrs: np.ndarray) -> tuple[Tensor, Tensor, np.ndarray]:
        """Weights (L, C, D) and biases (L, C) with batch normalisation folded in, and the mean loss of the last head in each epoch."""
        num_features, num_classes, heads = source.shape[-1], len(self.classes_), len(base_lrs)
        rng, view_rng = (np.random.default_rng((self.random_state, use)) for use in range(2))
        generator = torch.Generator().manual_seed(self.random_state)
        weight = torch.nn.init.trunc_normal_(torch.empty(num_classes, num_features), std=0.01, generator=generator)
        weight = weight.repeat(heads, 1, 1).to(self._device)  # (L, C, D)
        bias = weight.new_zeros(heads, num_classes)
        buffers = torch.zeros_like(weight), torch.zeros_like(bias)
        mean, variance = weight.new_zeros(num_features), weight.new_ones(num_features)
        batches = len(rows) // self.batch_size
        if not batches:
            raise ValueError(
                f"batch_size={self.batch_size}, but there are {len(rows)} training samples and incomplete batches are dropped; "
                f"give a batch_size of at most {len(rows)}."
            )
        rates = torch.from_numpy((base_lrs * self.batch_size / 256).astype(np.float32)).to(self._device)
        losses = np.zeros(self.epochs)
        for epoch in range(self.epochs):
            order, step_losses = rng.permutation(rows), []
            for step in range(batches):
                batch = np.sort(order[step * self.batch_size : (step + 1) * self.batch_size])
                x = _read(source, batch, view_rng).to(self._device)  # (m, D)
                batch_variance, batch_mean = torch.var_mean(x, 0, correction=0)
                mean.lerp_(batch_mean, STATISTICS_MOMENTUM)
                variance.lerp_(batch_variance * (len(x) / max(1, len(x) - 1)), STATISTICS_MOMENTUM)
                x = (x - batch_mean) * torch.rsqrt(batch_variance + EPS)
                gradients, loss = _gradients(x, torch.from_numpy(labels[batch]).to(self._device), weight, bias)
                step_losses.append(loss)
                factor = warmup_cosine(epoch + step / batches, self.epochs, self.warmup_epochs)
                for parameter, gradient, buffer in zip((weight, bias), gradients, buffers, strict=True):
                    lars_update(parameter, gradient, buffer, rates * factor)
            losses[epoch] = torch.stack(step_losses).cpu().numpy().mean(dtype=np.float64)  # one copy an epoch: a step waits for no device
        weight = weight * torch.rsqrt(variance + EPS)
        weight, bias, mean = (values.to(most_precise(self._device)) for values in (weight, bias, mean))
        return weight, bias - weight @ mean, losses

    def _check_settings(self, X, views) -> np.ndarray:
        rates = np.atleast_1d(np.asarray(self.base_lrs, dtype=float))
        if rates.ndim != 1 or not len(rates) or not (np.isfinite(rates) & (rates > 0)).all():
            raise ValueError(f"base_lrs={self.base_lrs!r}; expected one or more positive numbers.")
        if self.batch_size < 2:
            raise ValueError(f"batch_size={self.batch_size}; batch normalisation needs 2 samples or more.")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs} and epochs={self.epochs}; expected 0 <= warmup_epochs < epochs.")
        if views is not None and (len(views.shape) != 3 or views.shape[1:] != X.shape or not len(views)):
            raise ValueError(f"views have shape {tuple(views.shape)}; expected (views, {X.shape[0]}, {X.shape[1]}) as X {tuple(X.shape)}.")
        if not is_on_disk(X):
            check_finite(X)
        return rates


def _read(source, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
    """float32 (m, D): the rows, or of each row a view drawn at random."""
    if len(source.shape) == 2:
        x = np.asarray(source[rows])
    else:
        x = np.asarray(source[rng.integers(len(source), size=len(rows)), rows])
    x = x.astype(np.float32)
    check_finite(x, rows)
    return torch.from_numpy(x)


def _gradients(x: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Gradients of the mean cross-entropy of every head, and the loss of the last."""
    heads, num_classes, num_features = weight.shape
    logits = (x @ weight.view(-1, num_features).T).view(len(x), heads, num_classes) + bias  # (m, L, C)
    log_p = torch.log_softmax(logits, 2)
    index = labels[:, None, None].expand(-1, heads, 1)
    loss = -log_p[:, -1].gather(1, index[:, -1]).mean()
    residual = log_p.exp_().scatter_add_(2, index, log_p.new_full(index.shape, -1.0)).div_(len(x))
    return ((residual.flatten(1).T @ x).view_as(weight), residual.sum(0)), loss


def _logits(X, rows: np.ndarray | None, weight: Tensor, bias: Tensor, device: torch.device):
    """(positions, logits (L, m, C) on the device), block by block, as precise as the device can."""
    precision = most_precise(device)
    weight, bias = weight.to(precision).to(device), bias.to(precision).to(device)
    dtype = np.float64 if precision == torch.float64 else np.float32
    for place, x in read_blocks(X, rows, dtype, rows_per_block(max(weight.shape[2], weight.shape[0] * weight.shape[1]), dtype)):
        yield place, torch.from_numpy(np.array(x)).to(device) @ weight.transpose(1, 2) + bias[:, None]


def _accuracies(X, labels: np.ndarray, rows: np.ndarray, weight: Tensor, bias: Tensor, device: torch.device) -> np.ndarray:
    """Accuracy (L,) on the given rows; 0 for a head that diverged."""
    correct = np.zeros(len(weight))
    for place, logits in _logits(X, rows, weight, bias, device):
        guesses = torch.where(torch.isfinite(logits).all(2), logits.argmax(2), -1)  # (L, m)
        correct += (guesses.cpu().numpy() == labels[rows[place]]).sum(1)
    return correct / len(rows)
