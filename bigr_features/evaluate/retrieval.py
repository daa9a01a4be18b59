"""How good is a ranking, or an index? Metrics of retrieval by class.   Q queries, n gallery items, R ranks, k of them counted

A ranking is a bool array (Q, R): whether the item at each rank, best first, is of the query's class. `relevance` makes one from
neighbours and labels; `rank_all` ranks a whole gallery. A query never finds itself: items with its id are left out of its ranking.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from ..functional.vectors import unit_length

BLOCK = 64 << 20  # similarities held at a time


def relevance(neighbours: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray) -> np.ndarray:
    """Whether each neighbour is of its query's class.

    Parameters
    ----------
    neighbours : int array (Q, R)
        Gallery items, best first.
    query_labels, gallery_labels : int arrays (Q,) and (n,)

    Returns
    -------
    bool array (Q, R)
    """
    neighbours, query_labels, gallery_labels = map(np.asarray, (neighbours, query_labels, gallery_labels))
    if neighbours.ndim != 2 or neighbours.dtype.kind not in "iu" or len(neighbours) != len(query_labels):
        raise ValueError(f"neighbours have shape {neighbours.shape}; expected integers ({len(query_labels)} queries, ranks).")
    if neighbours.size and not 0 <= neighbours.min() <= neighbours.max() < len(gallery_labels):
        raise ValueError(f"neighbours lie in {neighbours.min()}..{neighbours.max()}; expected 0..{len(gallery_labels) - 1}, -1 removed.")
    return gallery_labels[neighbours] == query_labels[:, None]


def recall_at_k(relevant: np.ndarray, k: int) -> float:
    """Share of queries with an item of their class among the first k."""
    return float(_first(relevant, k).any(1).mean())


def precision_at_k(relevant: np.ndarray, k: int) -> float:
    """Share of the first k items that are of their query's class, mean over queries."""
    return float(_first(relevant, k).mean())


def average_precision(relevant: np.ndarray, num_relevant: np.ndarray | None = None, k: int | None = None) -> np.ndarray:
    """Average precision of each query: the mean, over the items of its class, of the precision at their ranks.

    Parameters
    ----------
    relevant : bool array (Q, R)
    num_relevant : int array (Q,), optional
        Items of each query's class in the gallery. Needed if the ranking is cut; by default those in `relevant` are all there are.
    k : int, optional
        Count the first k ranks only. The sum is then divided by min(k, num_relevant), so that a perfect ranking has 1.

    Returns
    -------
    float64 array (Q,)

    Raises
    ------
    ValueError
        If a query has no item of its class in the gallery, for which average precision is not defined.
    """
    whole = _checked(relevant)
    found = whole.sum(1)
    totals = found if num_relevant is None else np.asarray(num_relevant)
    if totals.shape != (len(whole),) or (totals < found).any():
        raise ValueError(f"num_relevant has shape {totals.shape} or is below what was found; expected one count a query.")
    if (totals == 0).any():
        raise ValueError(f"query {int(np.argmin(totals))} has no item of its class in the gallery; leave such queries out.")
    first = whole if k is None else _first(whole, k)
    precision = np.cumsum(first, axis=1) / np.arange(1, first.shape[1] + 1)  # (Q, R)
    return (precision * first).sum(1) / (totals if k is None else np.minimum(totals, k))


def mean_average_precision(relevant: np.ndarray, num_relevant: np.ndarray | None = None, k: int | None = None) -> float:
    """Mean over queries of `average_precision`: mAP, or mAP@k."""
    return float(average_precision(relevant, num_relevant, k).mean())


def index_recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Share of the exact nearest neighbours (Q, k) that an index found (Q, k), in any order; -1 in `found` is nothing found."""
    found, exact = np.asarray(found), np.asarray(exact)
    if found.shape != exact.shape or found.ndim != 2 or exact.size == 0:
        raise ValueError(f"found has shape {found.shape} and exact {exact.shape}; expected the same (queries, k).")
    return float(np.mean([len(np.intersect1d(a[a >= 0], b)) / exact.shape[1] for a, b in zip(found, exact, strict=True)]))


def rank_all(
    queries: np.ndarray,
    gallery: np.ndarray,
    *,
    metric: str = "cosine",
    query_ids: np.ndarray | None = None,
    gallery_ids: np.ndarray | None = None,
    seed: int = 0,
) -> Iterator[tuple[slice, np.ndarray]]:
    """The whole gallery in order of similarity, for some queries at a time.

    Parameters
    ----------
    queries, gallery : float arrays (Q, D) and (n, D), or packed bits (Q, bytes) and (n, bytes)
    metric : "cosine" or "hamming"
    query_ids, gallery_ids : arrays (Q,) and (n,), optional
        An item of a query's own id is left out of its ranking. Each id stands once in the gallery, and for all queries or none.
    seed : int
        Items at equal distance, of which bits make many, come in an order drawn with this seed, not in that of the gallery.

    Yields
    ------
    (slice of the queries, int64 array (q, n) or, with ids, (q, n - 1))
    """
    queries, gallery = np.asarray(queries), np.asarray(gallery)
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"queries have shape {queries.shape} and the gallery {gallery.shape}; expected (queries, D) and (items, D).")
    if metric not in ("cosine", "hamming"):
        raise ValueError(f"metric={metric!r} is unknown; choose cosine or hamming.")
    if metric == "hamming" and not queries.dtype == gallery.dtype == np.uint8:
        raise TypeError(f"bits have dtype {queries.dtype} and {gallery.dtype}; expected uint8, eight bits a byte.")
    if metric == "cosine" and not (np.isfinite(queries).all() and np.isfinite(gallery).all()):
        raise ValueError("queries or gallery hold NaN or infinite values.")
    own = _own_items(queries, gallery, query_ids, gallery_ids)
    shuffled = np.random.default_rng(seed).permutation(len(gallery))
    distances = _distances(gallery[shuffled], metric)
    step = max(1, BLOCK // (4 * len(gallery)))
    for start in range(0, len(queries), step):
        part = slice(start, min(start + step, len(queries)))
        order = shuffled[np.argsort(distances(queries[part]), axis=1, kind="stable")]  # (q, n)
        if own is not None:
            keep = order != own[part, None]
            order = order[keep].reshape(len(order), -1)
        yield part, order


def _distances(gallery: np.ndarray, metric: str):
    """From queries to their distances (q, n) from the gallery."""
    if metric == "cosine":
        rows = unit_length(gallery, zero="refuse")
        return lambda queries: -(unit_length(queries, zero="refuse") @ rows.T)
    # the inner product of bits as +1 and -1 falls by 2 with every bit that differs, and float32 holds it exactly
    rows = _signs(gallery)
    return lambda queries: -(_signs(queries) @ rows.T)


def _signs(packed: np.ndarray) -> np.ndarray:
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1


def _own_items(queries, gallery, query_ids, gallery_ids) -> np.ndarray | None:
    """The gallery item with the id of each query; None if no query is in the gallery."""
    if query_ids is None and gallery_ids is None:
        return None
    if query_ids is None or gallery_ids is None or len(query_ids) != len(queries) or len(gallery_ids) != len(gallery):
        raise ValueError("ids were given for queries or gallery only, or another number of them; give one for each of both.")
    places = {item: i for i, item in enumerate(np.asarray(gallery_ids).tolist())}
    if len(places) != len(gallery):
        raise ValueError("an id stands twice in the gallery; a query could not be told from its copy.")
    own = np.array([places.get(item, -1) for item in np.asarray(query_ids).tolist()])
    if (own >= 0).any() and (own < 0).any():
        raise ValueError(f"{(own < 0).sum()} of {len(own)} queries are not in the gallery and the others are; evaluate them apart.")
    return own if (own >= 0).any() else None


@dataclass(frozen=True)
class RetrievalScores:
    """Quality of a ranking, over the queries that have an item of their class in the gallery.

    mean_average_precision : mAP over the whole ranking.
    interval : 95 % bootstrap interval of it, over queries.
    recall, precision : by k.
    num_queries : queries counted.
    left_out : queries without an item of their class.
    """

    mean_average_precision: float
    interval: tuple[float, float]
    recall: dict[int, float]
    precision: dict[int, float]
    num_queries: int
    left_out: int

    def as_json(self) -> dict:
        """Fields by name, ks as text."""
        return asdict(self) | {name: {str(k): v for k, v in getattr(self, name).items()} for name in ("recall", "precision")}


def evaluate_retrieval(
    queries: np.ndarray,
    gallery: np.ndarray,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    *,
    metric: str = "cosine",
    ks: tuple[int, ...] = (1, 10),
    query_ids: np.ndarray | None = None,
    gallery_ids: np.ndarray | None = None,
    seed: int = 0,
) -> RetrievalScores:
    """mAP, recall@k and precision@k of exact search.

    Parameters
    ----------
    queries, gallery, metric, query_ids, gallery_ids, seed : as `rank_all`
    query_labels, gallery_labels : int arrays (Q,) and (n,)
    ks : tuple of int

    Raises
    ------
    ValueError
        If shapes do not fit, or no query has an item of its class in the gallery.
    """
    query_labels, gallery_labels = np.asarray(query_labels), np.asarray(gallery_labels)
    if len(query_labels) != len(queries) or len(gallery_labels) != len(gallery):
        raise ValueError(f"{len(query_labels)} and {len(gallery_labels)} labels for {len(queries)} queries and {len(gallery)} items.")
    precisions: list[np.ndarray] = []
    hits: dict[int, list] = {k: [] for k in ks}
    shares: dict[int, list] = {k: [] for k in ks}
    ranked = rank_all(queries, gallery, metric=metric, query_ids=query_ids, gallery_ids=gallery_ids, seed=seed)
    for part, order in ranked:
        relevant = relevance(order, query_labels[part], gallery_labels)
        relevant = relevant[relevant.any(1)]
        if len(relevant):
            precisions.append(average_precision(relevant))
            for k in ks:
                hits[k].append(_first(relevant, k).any(1))
                shares[k].append(_first(relevant, k).mean(1))
    if not precisions:
        raise ValueError("no query has an item of its class in the gallery; the labels of queries and gallery do not overlap.")
    values = np.concatenate(precisions)
    return RetrievalScores(
        float(values.mean()),
        mean_interval(values, seed=seed),
        {k: float(np.concatenate(parts).mean()) for k, parts in hits.items()},
        {k: float(np.concatenate(parts).mean()) for k, parts in shares.items()},
        len(values),
        len(query_labels) - len(values),
    )


def mean_interval(values: np.ndarray, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of values (n,)."""
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _checked(relevant: np.ndarray) -> np.ndarray:
    relevant = np.asarray(relevant)
    if relevant.dtype != bool or relevant.ndim != 2 or relevant.size == 0:
        raise ValueError(f"relevant has dtype {relevant.dtype} and shape {relevant.shape}; expected bool (queries, ranks); see relevance.")
    return relevant


def _first(relevant: np.ndarray, k: int) -> np.ndarray:
    relevant = _checked(relevant)
    if not 1 <= k <= relevant.shape[1]:
        raise ValueError(f"k={k}, but the ranking has {relevant.shape[1]} ranks; give k of 1..{relevant.shape[1]}.")
    return relevant[:, :k]
