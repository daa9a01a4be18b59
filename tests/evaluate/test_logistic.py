"""The solver of the linear probe reaches the minimum that scikit-learn's own objective has, on many kinds of features."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from bigr_features.evaluate import LinearProbe
from bigr_features.evaluate.lbfgs import Memory, minimise


def clusters(seed: int, count: int, width: int, classes: int, apart: float, shares=None) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = random.choice(classes, count, p=shares)
    y[:classes] = np.arange(classes)
    return random.normal(size=(classes, width))[y] * apart + random.normal(size=(count, width)), y


KINDS = {
    "easy": (300, 24, 6, 1.0),
    "hard": (300, 24, 6, 0.1),
    "wide": (60, 200, 5, 0.3),
    "tall": (2000, 5, 4, 0.5),
    "separable": (100, 30, 3, 5.0),
    "imbalanced": (400, 20, 4, 0.3, [0.94, 0.02, 0.02, 0.02]),
    "two classes": (200, 12, 2, 0.4),
    "one feature": (100, 1, 3, 0.5),
}


def least(X: np.ndarray, y: np.ndarray, C: float) -> float:
    """The minimum of mean cross-entropy + |w|^2 / (2 n C), as scikit-learn finds it in float64 at a tolerance that leaves nothing."""
    Z = StandardScaler().fit_transform(X.astype(np.float64))
    peer = LogisticRegression(C=C, solver="newton-cholesky" if Z.shape[1] < 50 else "lbfgs", tol=1e-10, max_iter=20_000).fit(Z, y)
    log_p = peer.predict_log_proba(Z)
    return float(-log_p[np.arange(len(y)), y].mean() + np.square(peer.coef_).sum() / (2 * len(y) * C))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("C", [1e-4, 1e-2, 1.0, 100.0])
@pytest.mark.parametrize("kind", KINDS)
def test_the_minimum_is_reached(kind, C, dtype):
    X, y = clusters(0, *KINDS[kind])
    X = X.astype(dtype)
    probe = LinearProbe(Cs=(C,), max_iter=1000).fit(X, y)
    minimum = least(X, y, C)
    shares = np.bincount(y) / len(y)
    negligible = -0.01 * float(shares @ np.log(shares))
    excess = (probe.objective_ - minimum) / max(minimum, negligible)
    assert -2e-6 <= excess <= 2e-5


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_float32_that_cannot_reach_the_tolerance_goes_on_in_float64(offset):
    """The real features on which a float32 fit once stopped 0.7 % above the minimum."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    X = (X + offset).astype(np.float32)
    assert LinearProbe(Cs=(1.0,)).fit(X, y).objective_ == pytest.approx(least(X, y, 1.0), rel=2e-5)


@pytest.mark.filterwarnings("error")
def test_features_whose_squares_overflow_are_those_of_their_scale():
    X, y = clusters(3, 200, 6, 3, 1.0)
    small, large = (LinearProbe(Cs=(1.0,)).fit((factor * X).astype(np.float32), y) for factor in (1, 1e30))
    np.testing.assert_array_equal(small.predict(X.astype(np.float32)), large.predict((1e30 * X).astype(np.float32)))
    assert large.objective_ == pytest.approx(small.objective_, rel=1e-5)


class Quadratic:
    """x' A x / 2 - b x, with an identity for a guess at the inverse Hessian."""

    rounding = 1e-13

    def __init__(self, A, b):
        self.A, self.b = A, b

    def evaluate(self, x):
        return float(x @ self.A @ x / 2 - self.b @ x) + 10.0, self.A @ x - self.b

    def curvature(self, x, direction):
        return float(direction @ self.A @ direction)

    def precondition(self, gradient):
        return gradient

    def renew(self, x):
        return False

    def target(self, value):
        return 1e-12


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_a_quadratic_is_solved(size):
    import torch

    generator = torch.Generator().manual_seed(size)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    A = root @ root.T + 0.1 * torch.eye(size, dtype=torch.float64)
    b = torch.randn(size, generator=generator, dtype=torch.float64)
    start = torch.zeros(size, dtype=torch.float64)
    found = minimise(Quadratic(A, b), start, 1000, Memory(start), 8)
    torch.testing.assert_close(found.theta, torch.linalg.solve(A, b), rtol=1e-3, atol=1e-4)
