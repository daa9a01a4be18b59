"""The part of `speed.py` that times estimators beside scikit-learn, faiss and openTSNE.   n samples, D features"""

from __future__ import annotations

from functools import partial

import numpy as np
from speed_timing import alternated

from bigr_features import LinearProbe


def evaluators(rounds: int, rates: dict[str, float]) -> list[dict]:
    """A linear probe of one C beside scikit-learn's, one query of exact search beside faiss, t-SNE beside openTSNE; no plain code."""
    import warnings

    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rows = []
    for name, (X, y) in data_sets().items():

        def peer(dtype=np.float32, X=X, y=y, **options):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                Z = StandardScaler().fit_transform(X.astype(dtype))
                return LogisticRegression(C=1.0, **{"max_iter": 200, **options}).fit(Z, y)

        def probe(X=X, y=y, **options):
            return LinearProbe(Cs=(1.0,), **options).fit(X, y)

        Z = StandardScaler().fit_transform(X.astype(np.float64))
        least = objective(peer(np.float64, max_iter=5000, tol=1e-8), Z, y)
        calls = {
            "scikit-learn": peer,
            "scikit-learn, tol=1e-6": partial(peer, tol=1e-6, max_iter=5000),
            "LinearProbe": probe,
            "LinearProbe, tol=1e-4": partial(probe, tol=1e-4),
        }
        reached = {name: call().objective_ if name.startswith("LinearProbe") else objective(call(), Z, y) for name, call in calls.items()}
        above = {name: value / least - 1 for name, value in reached.items()}
        rows += alternated(f"probe, {name} {X.shape[0]} x {X.shape[1]}", calls, rounds, objective_above_minimum=above)
    return rows + one_query(rounds) + projection(min(rounds, 3))


def objective(model, Z: np.ndarray, y: np.ndarray) -> float:
    """Mean cross-entropy plus penalty of scikit-learn's fit, nats, at C = 1."""
    from scipy.special import log_softmax

    log_p = log_softmax(Z @ model.coef_.T.astype(np.float64) + model.intercept_, axis=1)
    place = np.searchsorted(model.classes_, y)
    return float(-log_p[np.arange(len(y)), place].mean() + np.square(model.coef_, dtype=np.float64).sum() / (2 * len(y)))


def data_sets() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Six kinds of features: easy, hard, wide, tall, imbalanced and real."""
    from sklearn.datasets import load_digits

    draw = np.random.default_rng(0)

    def clusters(count, width, classes, apart, shares=None):
        y = draw.choice(classes, count, p=shares)
        return (draw.normal(size=(classes, width))[y] * apart + draw.normal(size=(count, width))).astype(np.float32), y

    digits = load_digits()
    return {
        "easy": clusters(2000, 128, 10, 1.0),
        "hard": clusters(2000, 128, 10, 0.1),
        "wide": clusters(400, 1024, 5, 0.3),
        "tall": clusters(20000, 32, 10, 0.5),
        "imbalanced": clusters(3000, 128, 4, 0.3, [0.94, 0.02, 0.02, 0.02]),
        "real": (digits.data.astype(np.float32), digits.target),
    }


def one_query(rounds: int, count: int = 50_000, width: int = 256) -> list[dict]:
    import faiss

    from bigr_features.nearest.exact import FlatRows

    draw = np.random.default_rng(0)
    rows = draw.normal(size=(count, width)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index, ours = faiss.IndexFlatIP(width), FlatRows(rows, hamming=False)
    index.add(rows)
    query = rows[:1]
    calls = {
        "faiss": lambda: [index.search(query, 10) for _ in range(10)],
        "FlatRows": lambda: [ours.search(query, 10, None) for _ in range(10)],
    }
    return alternated(f"10 times one query of {count:,}", calls, rounds)


def projection(rounds: int) -> list[dict]:
    """t-SNE of handwritten digits by openTSNE, where it is installed, and by `plots.embed`."""
    import importlib.util

    from sklearn.datasets import load_digits

    from bigr_features.plots import embed

    if importlib.util.find_spec("openTSNE") is None:
        print('openTSNE is not installed (pip install "bigr_features[plots]"); its row is left out')
        return []
    from openTSNE import TSNE

    features = load_digits().data.astype(np.float32)
    calls = {
        "openTSNE, its defaults": lambda: TSNE(2, random_state=0).fit(features),
        "embed": lambda: embed(features),
        "embed, backend=sklearn": lambda: embed(features, backend="sklearn"),
    }
    return alternated(f"t-SNE of {features.shape[0]} x {features.shape[1]}", calls, rounds)
