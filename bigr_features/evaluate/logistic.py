"""Multinomial logistic regression for a path of regularisations, by preconditioned L-BFGS.

The objective is scikit-learn's, divided by n C:   mean cross-entropy + |W|^2 / (2 n C), the intercept free.
Three things make it fast, and change nothing of what is solved:

- The path runs from strong to weak regularisation and each fit starts from the one before.
- L-BFGS starts from a Kronecker-factored Hessian instead of a multiple of the identity. For one sample the Hessian is
  (diag p - p p') x (x x'); the mean is taken as A x G with A = mean(diag p - p p') (C, C) and G the covariance of the features weighted by
  the trace of each sample's first factor (D, D), as K-FAC does for layers (Martens and Grosse 2015, arXiv:1503.05671).
  In the eigenbases of A and G the penalty is a shift, so one factorisation serves every regularisation.
- Far from the optimum, products are computed in bfloat16 where the processor has instructions for it; the end is always in full precision.

n samples, D features, C classes
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .arrays import StandardizedRows
from .devices import bfloat16_is_fast, most_precise

MEMORY = 10  # pairs that L-BFGS remembers
REFRESH = 6  # iterations at one C from which the Hessian has changed enough to be factored again for the next
PATIENCE = 8  # iterations without a smaller gap, after which rounding is all that is left
ROUNDING = {torch.float64: 1e-13, torch.float32: 5e-7, torch.bfloat16: 1e-5}  # of a mean over samples, relative


@dataclass(frozen=True)
class LogisticFit:
    """One point of the path, in units of the standardised features; its tensors lie on the CPU.

    Parameters
    ----------
    C : float
    weight : Tensor (C, D)
    bias : Tensor (C,)
    objective : float
        mean cross-entropy + |weight|^2 / (2 n C), nats.
    gap : float
        Estimate of how far the objective lies above its minimum, nats.
    n_iter : int
    converged : bool
    """

    C: float
    weight: Tensor
    bias: Tensor
    objective: float
    gap: float
    n_iter: int
    converged: bool


def fit_path(
    features: StandardizedRows,
    labels: np.ndarray,
    num_classes: int,
    Cs,
    max_iter: int = 200,
    tol: float = 1e-6,
    start: LogisticFit | None = None,
    fast: bool | None = None,
) -> list[LogisticFit]:
    """Fits for every C, in the order given.

    Parameters
    ----------
    features : StandardizedRows (n, D)
    labels : int array (n,)
        0..num_classes - 1.
    Cs : sequence of float
        Inverse regularisation as in scikit-learn's LogisticRegression.
    max_iter : int
        Iterations for each C.
    tol : float
        A fit ends when its objective is estimated to lie within this fraction of the minimum, and of what the features explain.
    start : LogisticFit, optional
        Where to begin, instead of zero.
    fast : bool, optional
        Whether to compute in bfloat16 far from the optimum; default where the device has instructions for it.
    """
    problem = _Problem(features, labels, num_classes)
    theta = torch.zeros(num_classes, features.shape[1] + 1, dtype=problem.dtype, device=features.device)
    if start is not None:
        theta[:, :-1], theta[:, -1] = start.weight, start.bias
    fast = bfloat16_is_fast(features.device) if fast is None else fast
    fits: dict[float, LogisticFit] = {}
    stale = True
    for C in sorted({float(C) for C in Cs}):
        # two classes: scikit-learn fits one vector w, which is the difference of our two, so that |W|^2 = |w|^2 / 2
        penalty = (2 if num_classes == 2 else 1) / (features.shape[0] * C)
        if stale:
            problem.refresh_preconditioner(theta)
        steps = 0
        if fast and problem.dtype == torch.float32:
            theta, _, _, steps, _ = _minimise(problem, theta, penalty, max_iter, max(tol, 1e-3), torch.bfloat16)
        theta, value, gap, more, converged = _minimise(problem, theta, penalty, max_iter - steps, tol, problem.dtype)
        stale = steps + more >= REFRESH
        fits[C] = LogisticFit(C, theta[:, :-1].cpu().clone(), theta[:, -1].cpu().clone(), value, gap, steps + more, converged)
    return [fits[float(C)] for C in Cs]


class _Problem:
    """Value and gradient of the objective, and the preconditioner, from passes over the features."""

    def __init__(self, features: StandardizedRows, labels: np.ndarray, num_classes: int):
        self.features, self.num_classes = features, num_classes
        counts = np.bincount(labels)
        self.entropy = float(np.log(len(labels)) - (counts * np.log(np.maximum(counts, 1))).sum() / len(labels))  # nats; without features
        self.labels = torch.from_numpy(np.ascontiguousarray(labels)).long().to(features.device)
        self.sums = most_precise(features.device)
        self.dtype = torch.float64 if features.dtype == np.float64 else torch.float32

    def evaluate(self, theta: Tensor, penalty: float, dtype: torch.dtype) -> tuple[float, Tensor]:
        """Objective and its gradient (C, D + 1), in one pass: two products for each block."""
        weight, bias = theta[:, :-1], theta[:, -1]
        transposed = weight.T.to(dtype).contiguous()  # (D, C)
        gradient = torch.zeros_like(theta)
        loss = torch.zeros((), dtype=self.sums, device=theta.device)
        for place, x in self.features.blocks(dtype):
            residual, losses = self._residual(x @ transposed, bias, place)  # (m, C)
            loss += losses
            gradient[:, :-1] += residual.to(dtype).T @ x  # (C, D)
            gradient[:, -1] += residual.sum(0)
        n = self.features.shape[0]
        gradient /= n
        gradient[:, :-1] += penalty * weight
        return float(loss / n + 0.5 * penalty * weight.to(self.sums).square().sum()), gradient

    def _residual(self, logits: Tensor, bias: Tensor, place: slice) -> tuple[Tensor, Tensor]:
        """p - onehot(y), and the summed cross-entropy."""
        labels = self.labels[place, None]
        log_p = torch.log_softmax(logits.to(self.dtype).add_(bias), 1)
        loss = -log_p.gather(1, labels).sum(dtype=self.sums)
        residual = log_p.exp_()
        return residual.scatter_add_(1, labels, residual.new_full(labels.shape, -1.0)), loss

    def refresh_preconditioner(self, theta: Tensor) -> None:
        """Factor the Kronecker approximation of the Hessian at theta."""
        num_features = self.features.shape[1]
        dtype = torch.bfloat16 if self.dtype == torch.float32 and bfloat16_is_fast(theta.device) else self.dtype
        gram = theta.new_zeros(num_features, num_features)
        inner = theta.new_zeros(self.num_classes, self.num_classes)
        mass = theta.new_zeros(self.num_classes)
        weight, bias = theta[:, :-1].T.to(dtype).contiguous(), theta[:, -1]
        for _, x in self.features.blocks(dtype):
            p = torch.softmax((x @ weight).to(self.dtype).add_(bias), 1)  # (m, C)
            inner += p.T @ p
            mass += p.sum(0)
            spread = (1 - p.square().sum(1)).clamp_(min=0)  # (m,), the trace of diag p - p p'
            gram += (x * spread.sqrt().to(dtype)[:, None]).T @ (x * spread.sqrt().to(dtype)[:, None])
        n = self.features.shape[0]
        curvature = (mass.diag() - inner) / n  # (C, C)
        gram /= curvature.trace() * n
        self.class_scale, self.class_basis = _eigh(curvature)
        self.feature_scale, self.feature_basis = _eigh(gram)
        self.class_scale.clamp_(min=0)
        self.feature_scale.clamp_(min=0)

    def precondition(self, gradient: Tensor, penalty: float) -> Tensor:
        """Approximate Newton step (C, D + 1) for a gradient."""
        rotated = self.class_basis.T @ gradient[:, :-1] @ self.feature_basis  # (C, D)
        rotated /= self.class_scale[:, None] * self.feature_scale + penalty
        step = torch.empty_like(gradient)
        step[:, :-1] = self.class_basis @ rotated @ self.feature_basis.T
        floor = 1e-6 * self.class_scale.max()  # shifting all biases alike changes nothing: its curvature is 0, and so is its gradient
        step[:, -1] = self.class_basis @ ((self.class_basis.T @ gradient[:, -1]) / (self.class_scale + floor))
        return step


def _eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors, on the CPU for a device that cannot."""
    if matrix.device.type in ("cpu", "cuda"):
        return torch.linalg.eigh(matrix)
    return tuple(part.to(matrix.device) for part in torch.linalg.eigh(matrix.cpu()))


def _minimise(problem: _Problem, theta: Tensor, penalty: float, max_iter: int, tol: float, dtype: torch.dtype):
    """L-BFGS from theta: (theta, value, gap, iterations, converged)."""
    value, gradient = problem.evaluate(theta, penalty, dtype)
    rounding = ROUNDING[dtype]
    pairs: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=MEMORY)
    smallest, since = math.inf, 0
    for iteration in range(max_iter + 1):
        direction = _two_loop(problem, gradient, pairs, penalty)
        gap = -0.5 * float((gradient * direction).sum())
        if not gap > 0 and pairs:
            pairs.clear()
            continue
        # under strong regularisation the objective is nearly that of no features at all, and what they explain is the scale that counts
        target = tol * min(value, max(problem.entropy - value, 0.0)) if iteration else 0.0
        smallest, since = (gap, 0) if gap < smallest else (smallest, since + 1)
        if gap <= target or iteration == max_iter or since == PATIENCE:
            break
        found = _line_search(problem, theta, value, gradient, direction, penalty, dtype)
        if found is None:
            if not pairs:
                break
            pairs.clear()
            continue
        new_theta, value, new_gradient = found
        s, y = new_theta - theta, new_gradient - gradient
        curvature = float((s * y).sum())
        if curvature > 1e-10 * float(s.norm() * y.norm()):
            pairs.append((s, y, curvature))
        theta, gradient = new_theta, new_gradient
    return theta, value, max(gap, 0.0), iteration, gap <= max(target, rounding * value)


def _two_loop(problem: _Problem, gradient: Tensor, pairs, penalty: float) -> Tensor:
    """L-BFGS direction (Nocedal and Wright, algorithm 7.4) with the preconditioner as the first inverse Hessian."""
    q = gradient.clone()
    alphas = []
    for s, y, curvature in reversed(pairs):
        alpha = float((s * q).sum()) / curvature
        q -= alpha * y
        alphas.append(alpha)
    r = problem.precondition(q, penalty)
    for (s, y, curvature), alpha in zip(pairs, reversed(alphas), strict=True):
        r += (alpha - float((y * r).sum()) / curvature) * s
    return -r


def _line_search(problem: _Problem, theta, value, gradient, direction, penalty, dtype):
    """A step with sufficient decrease: the full one nearly always, else from the parabola through what is known.

    Where the decrease drowns in rounding, a smaller slope stands for it (approximate Wolfe, Hager and Zhang 2005).
    """
    slope = float((gradient * direction).sum())
    step = 1.0
    for _ in range(12):
        candidate = theta + step * direction
        new_value, new_gradient = problem.evaluate(candidate, penalty, dtype)
        if math.isfinite(new_value):
            flat = new_value <= value * (1 + ROUNDING[dtype]) and abs(float((new_gradient * direction).sum())) <= -0.9 * slope
            if flat or new_value <= value + 1e-4 * step * slope:
                return candidate, new_value, new_gradient
        curvature = (new_value - value - step * slope) / step**2 if math.isfinite(new_value) else math.inf
        step = min(max(-slope / (2 * curvature), 0.1 * step), 0.5 * step) if curvature > 0 else 0.5 * step
    return None
