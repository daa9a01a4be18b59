"""`bigr sweep --probes retrieval`: which feature finds images of the same class?"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from ..evaluate.reports import environment
from ..evaluate.retrieval import RetrievalScores, evaluate_retrieval, mean_interval
from ..evaluate.selection import holdout_split
from .probe_stores import Stores, describe


def retrieval_of_stores(stores: Stores, config) -> dict:
    """Held-out training images search the others, with every feature; then the test images search all training images, with the best one.

    Returns
    -------
    dict
        As `probe_stores.evaluate_stores`, with `map` and `recall@1` in place of accuracies, and `score`, the one that chose.
    """
    train, test, labels = stores.train, stores.test, stores.labels(stores.train)
    training, held_out = holdout_split(labels, config.holdout, config.seed)
    rows = {}
    for name in stores.names_for("retrieval"):
        X = stores.features(train, name)
        scores = _scores(np.asarray(X[held_out]), np.asarray(X[training]), labels[held_out], labels[training], config.seed)
        rows[name] = {"map": scores.mean_average_precision, "recall@1": scores.recall[1], "features": int(X.shape[1])}
    best = max(rows, key=lambda name: rows[name][config.score])
    choice = SimpleNamespace(name=best, rows=rows, estimator=None)
    result = {"held_out": rows, "chosen": best, "score": config.score, "leave_one_out": None, "test": None}
    if test is not None:
        queries, items = (np.asarray(stores.features(store, best)[:]) for store in (test, train))
        scores = _scores(queries, items, stores.labels(test), labels, config.seed)
        result["test"] = {
            "map": scores.mean_average_precision,
            "map_interval": scores.interval,
            "recall@1": scores.recall[1],
            "recall@1_interval": _interval_of_share(scores, config.seed),
            "queries": scores.num_queries,
            "queries_without_class": scores.left_out,
        }
    return result | {"protocol": describe(stores, "retrieval", choice, config), "environment": environment()}


def _scores(queries: np.ndarray, gallery: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray, seed: int) -> RetrievalScores:
    queries, gallery = (part.astype(np.float32, copy=False) for part in (queries, gallery))
    return evaluate_retrieval(queries, gallery, query_labels, gallery_labels, ks=(1,), seed=seed)


def _interval_of_share(scores: RetrievalScores, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of recall@1, over queries."""
    hits = round(scores.recall[1] * scores.num_queries)
    return mean_interval(np.arange(scores.num_queries) < hits, seed=seed)
