"""Multinomial logistic regression for a path of regularisations, by preconditioned L-BFGS.

The objective is scikit-learn's, divided by n C:   mean cross-entropy + |W|^2 / (2 n C), the intercept free.
Three things make it fast, and change nothing of what is solved:

- The path runs from strong to weak regularisation and each fit starts from the one before.
- Once evaluations have cost as much as it does, L-BFGS gets a Kronecker-factored Hessian in place of a multiple of the identity. For one
  sample the Hessian is (diag p - p p') x (x x'); the mean is taken as A x G with A = mean(diag p - p p') (C, C) and G the covariance of the
  features weighted by the trace of each sample's first factor (D, D), as K-FAC does for layers (Martens and Grosse 2015, arXiv:1503.05671).
  In the eigenbases of A and G the penalty is a shift, so one factorisation serves every regularisation.
- Far from the optimum, large products are computed in bfloat16 where the processor has instructions for it; the end is in full precision,
  and in double precision where float32 does not reach the tolerance.

n samples, D features, C classes, m rows of a block, P = C (D + 1)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .arrays import StandardizedRows
from .devices import bfloat16_is_fast, has_float64, most_precise
from .lbfgs import Memory, minimise

EXPECTED = 4  # evaluations that a fit of a path needs at least, for the choice of when to factor
AGAIN = 8  # evaluations, and twice the price, after which the Hessian may have changed enough to be factored again
EIGH = 10  # an eigendecomposition of a matrix in products of such matrices
LARGE = 5e7  # multiplications of an evaluation from which bfloat16 pays
NEGLIGIBLE = 0.01  # of the objective without features: what is below counts as that much for the tolerance
PATIENCE = 8  # iterations without progress in the last precision
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
        Whether to compute in bfloat16 far from the optimum; default for large problems where the device has instructions for it.
    """
    problem = _Problem(features, labels, num_classes)
    problem.bfloat16 = bfloat16_is_fast(features.device) and problem.work >= LARGE if fast is None else fast
    problem.evaluations = EXPECTED * len({float(C) for C in Cs})
    precisions = [problem.dtype]
    if problem.dtype == torch.float32:
        precisions = [torch.bfloat16] * problem.bfloat16 + [torch.float32] + [torch.float64] * has_float64(features.device)
    theta = problem.start(start)
    fits: dict[float, LogisticFit] = {}
    for C in sorted({float(C) for C in Cs}):
        # two classes: scikit-learn fits one vector w, which is the difference of our two, so that |W|^2 = |w|^2 / 2
        penalty = (2 if num_classes == 2 else 1) / (features.shape[0] * C)
        steps, memory = 0, None
        for precision in precisions:
            objective = _Regularised(problem, penalty, max(tol, 1e-3) if precision == torch.bfloat16 else tol, precision)
            theta = theta.to(objective.vectors)
            memory = memory.to(objective.vectors) if memory and precision == torch.float64 else Memory(theta)
            found = minimise(objective, theta, max_iter - steps, memory, PATIENCE if precision == precisions[-1] else 1)
            steps += found.n_iter
            theta = found.theta
            if precision != torch.bfloat16 and found.reached:
                break
        weight, bias = (part.to(problem.dtype).cpu().clone() for part in problem.split(theta))
        converged = found.gap <= max(objective.target(found.value), objective.rounding * found.value)
        fits[C] = LogisticFit(C, weight, bias, found.value, found.gap, steps, converged)
    return [fits[float(C)] for C in Cs]


class _Regularised:
    """The objective at one penalty, its products in one precision."""

    def __init__(self, problem: _Problem, penalty: float, tol: float, precision: torch.dtype):
        self.problem, self.penalty, self.tol, self.precision = problem, penalty, tol, precision
        self.rounding = ROUNDING[precision]
        self.vectors = torch.float64 if precision == torch.float64 else torch.float32

    def evaluate(self, theta: Tensor) -> tuple[float, Tensor]:
        return self.problem.evaluate(theta, self.penalty, self.precision)

    def curvature(self, theta: Tensor, direction: Tensor) -> float:
        return self.problem.curvature(theta, direction, self.penalty, self.precision)

    def precondition(self, gradient: Tensor) -> Tensor:
        return self.problem.precondition(gradient, self.penalty)

    def renew(self, theta: Tensor) -> bool:
        price = self.problem.price
        if self.problem.evaluations < (max(2 * price, AGAIN) if self.problem.factored else price):
            return False
        self.problem.factor(theta)
        return True

    def target(self, value: float) -> float:
        # under strong regularisation the objective is nearly that of no features at all, and what they explain is the scale that counts;
        # under weak regularisation of classes that can be told apart it goes to 0, and so would a fraction of it
        return self.tol * min(max(value, NEGLIGIBLE * self.problem.entropy), max(self.problem.entropy - value, 0.0))


class _Problem:
    """Value and gradient of the objective, and the preconditioner, from passes over the features.

    theta (P,) is weight (C, D) and bias (C,) behind each other. Logits are kept (C, m): softmax over classes is many times faster so.
    """

    def __init__(self, features: StandardizedRows, labels: np.ndarray, num_classes: int):
        self.features, self.num_classes = features, num_classes
        counts = np.maximum(np.bincount(labels, minlength=num_classes), 1)
        self.log_prior = np.log(counts / len(labels))
        self.entropy = -float(counts @ self.log_prior) / len(labels)  # nats; the objective without features
        self.labels = torch.from_numpy(np.ascontiguousarray(labels)).long().to(features.device)
        self.sums = most_precise(features.device)
        self.dtype = torch.float64 if features.dtype == np.float64 else torch.float32
        n, num_features = features.shape
        self.work = 2 * n * num_features * num_classes  # multiplications of an evaluation
        factoring = n * num_features**2 + self.work / 2 + n * num_classes**2 + EIGH * (num_features**3 + num_classes**3)
        self.price = factoring / self.work  # of a factorisation, in evaluations
        self.evaluations = 0  # since the last factorisation
        self.factored = False
        self.bfloat16 = False  # whether to factor, and to begin, with products in it
        self._true: dict[int, Tensor] = {}

    def start(self, fit: LogisticFit | None) -> Tensor:
        """theta of a fit, or no weights and the logarithms of the classes' shares."""
        theta = torch.zeros(self.num_classes * (self.features.shape[1] + 1), dtype=self.dtype, device=self.features.device)
        weight, bias = self.split(theta)
        if fit is None:
            bias.copy_(torch.from_numpy(self.log_prior.astype(self.features.dtype)))
        else:
            weight.copy_(fit.weight)
            bias.copy_(fit.bias)
        return theta

    def split(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Views of weight (C, D) and bias (C,)."""
        return theta[: -self.num_classes].view(self.num_classes, -1), theta[-self.num_classes :]

    def logits(self, theta: Tensor, x: Tensor) -> Tensor:
        """(C, m) for rows (m, D), in the precision of the rows, full precision for half."""
        weight, bias = self.split(theta)
        if x.dtype == torch.bfloat16:
            return (weight.bfloat16() @ x.T).to(self.dtype).add_(bias[:, None])
        return torch.addmm(bias.to(x.dtype)[:, None], weight.to(x.dtype), x.T)

    def true_logits(self, place: slice) -> Tensor:
        """Where the logits of the true classes (m,) lie in those of a block, flattened."""
        if place.start not in self._true:
            labels = self.labels[place]
            self._true[place.start] = labels * len(labels) + torch.arange(len(labels), device=labels.device)
        return self._true[place.start]

    def evaluate(self, theta: Tensor, penalty: float, dtype: torch.dtype) -> tuple[float, Tensor]:
        """Objective and its gradient (P,), in one pass: two products for each block."""
        self.evaluations += 1
        share = 1 / self.features.shape[0]
        weight, _ = self.split(theta)
        gradient = torch.zeros_like(theta)
        weight_gradient, bias_gradient = self.split(gradient)
        weight_gradient.add_(weight, alpha=penalty)
        total = weight.reshape(-1).dot(weight.reshape(-1)).to(self.sums).mul_(0.5 * penalty)
        for place, x in self.features.blocks(dtype):
            log_p = torch.log_softmax(self.logits(theta, x), 0)  # (C, m)
            true = self.true_logits(place)
            total.sub_(log_p.view(-1).index_select(0, true).sum(dtype=self.sums), alpha=share)
            residual = log_p.exp_()  # p - onehot(y)
            residual.view(-1).scatter_add_(0, true, residual.new_full(true.shape, -1.0))
            bias_gradient.add_(residual.sum(1), alpha=share)
            if x.dtype == theta.dtype:
                weight_gradient.addmm_(residual, x, alpha=share)
            else:
                weight_gradient.add_(residual.to(x.dtype) @ x, alpha=share)
        return float(total), gradient

    def curvature(self, theta: Tensor, direction: Tensor, penalty: float, dtype: torch.dtype) -> float:
        """direction' Hessian direction."""
        total = torch.zeros((), dtype=self.sums, device=theta.device)
        for _, x in self.features.blocks(dtype):
            p, change = torch.softmax(self.logits(theta, x), 0), self.logits(direction, x)
            p_change = p * change
            total += ((p_change * change).sum(0) - p_change.sum(0).square()).sum(dtype=self.sums)
        weight, _ = self.split(direction)
        return float(total / self.features.shape[0] + penalty * torch.linalg.vector_norm(weight, dtype=self.sums).square())

    def factor(self, theta: Tensor) -> None:
        """Factor the Kronecker approximation of the Hessian at theta."""
        num_features = self.features.shape[1]
        dtype = torch.bfloat16 if self.dtype == torch.float32 and self.bfloat16 else self.dtype
        gram = torch.zeros(num_features, num_features, dtype=self.dtype, device=theta.device)
        inner = gram.new_zeros(self.num_classes, self.num_classes)
        mass = gram.new_zeros(self.num_classes)
        for _, x in self.features.blocks(dtype):
            p = torch.softmax(self.logits(theta, x), 0)  # (C, m)
            inner += p @ p.T
            mass += p.sum(1)
            spread = (1 - p.square().sum(0)).clamp_(min=0)  # (m,), the trace of diag p - p p'
            weighted = x * spread.sqrt().to(dtype)[:, None]
            gram += weighted.T @ weighted
        n = self.features.shape[0]
        curvature = (mass.diag() - inner) / n  # (C, C)
        gram /= curvature.trace() * n
        self.class_scale, self.class_basis = _eigh(curvature)
        self.feature_scale, self.feature_basis = _eigh(gram)
        self.class_scale.clamp_(min=0)
        self.feature_scale.clamp_(min=0)
        self.factored, self.evaluations = True, 0

    def precondition(self, gradient: Tensor, penalty: float) -> Tensor:
        """Approximate Newton step (P,) for a gradient; before anything was factored the gradient itself."""
        if not self.factored:
            return gradient
        weight, bias = self.split(gradient.to(self.dtype))
        rotated = self.class_basis.T @ weight @ self.feature_basis  # (C, D)
        rotated /= self.class_scale[:, None] * self.feature_scale + penalty
        floor = 1e-6 * self.class_scale.max()  # shifting all biases alike changes nothing: its curvature is 0, and so is its gradient
        bias = self.class_basis @ ((self.class_basis.T @ bias) / (self.class_scale + floor))
        return torch.cat([(self.class_basis @ rotated @ self.feature_basis.T).view(-1), bias]).to(gradient.dtype)


def _eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors, on the CPU for a device that cannot."""
    if matrix.device.type in ("cpu", "cuda"):
        return torch.linalg.eigh(matrix)
    return tuple(part.to(matrix.device) for part in torch.linalg.eigh(matrix.cpu()))
