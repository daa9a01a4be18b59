"""Several pictures side by side: one for each layer, or one for each model.   n items, D dimensions"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..functional.vectors import unit_length
from .colors import class_styles
from .layout import draw_panels
from .projection import METHODS, Embedding, check_features, embed
from .scores import ClusterScores, cluster_scores, two_digits


def plot_features(
    features: Mapping[str, np.ndarray],
    labels: np.ndarray | Mapping[str, np.ndarray | None] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    method: str = "tsne",
    highlight: Sequence[str | int] | None = None,
    columns: int = 4,
    title: str | None = None,
    note: str | None = None,
    seed: int | None = 0,
    score_items: int = 2000,
    **settings,
):
    """A figure with one panel for each entry of `features`: a layer, or a model.

    Every panel states its scores in feature space and in the plane; every class has one colour and marker in all panels. Panels of the
    same items are turned, and mirrored if need be, to match the one before: t-SNE and UMAP leave that free.

    Parameters
    ----------
    features : mapping of panel title to float array (n, D), or bool array of bits
    labels : integer array (n,) for all panels, or one for each
    class_names : names by label
    method : "tsne", "umap" or "pca"
    highlight : up to ten classes in colour over grey
    columns : panels in a row
    title, note : text above the figure, and what else the caption should say (images, model)
    seed : of the method; None is not reproducible
    score_items : items drawn, with seed 0, for the scores
    **settings : of `embed`: perplexity, n_neighbors, metric, backend

    Returns
    -------
    figure : matplotlib Figure, not registered with pyplot
    embeddings : dict of panel title to Embedding
    scores : dict of panel title to ClusterScores

    Raises
    ------
    TypeError, ValueError
        As `embed`, naming the panel, and for labels that do not fit.
    """
    if not isinstance(features, Mapping) or not features:
        raise TypeError("features must be a mapping of panel titles to arrays, with one entry or more: {'block 5': array}.")
    if method not in METHODS:
        raise ValueError(f"method={method!r}; choose one of {', '.join(map(repr, METHODS))}.")
    if columns < 1:
        raise ValueError(f"columns={columns}; expected 1 or more.")
    by_panel = labels if isinstance(labels, Mapping) else dict.fromkeys(features, labels)
    for name, x in features.items():
        given = by_panel.get(name)
        if name not in by_panel or (given is not None and len(given) != len(x)):
            raise ValueError(f"panel {name!r} has {len(x)} items; give one label for each of them.")
    styles = None
    if all(value is not None for value in by_panel.values()):
        styles = class_styles(np.concatenate([np.asarray(value) for value in by_panel.values()]), class_names, highlight)

    embeddings: dict[str, Embedding] = {}
    scores: dict[str, ClusterScores] = {}
    before = None
    for name, x in features.items():
        try:
            result = embed(x, method, seed=seed, **settings)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error
        if method != "pca" and before is not None and len(x) == len(features[before]) and _same(by_panel[before], by_panel[name]):
            result = replace(result, points=turned_to_match(result.points, embeddings[before].points))
        embeddings[name], before = result, name
        compared = check_features(x)
        compared = unit_length(compared, zero="refuse") if result.settings["metric"] == "cosine" else compared
        scores[name] = cluster_scores(compared, result.points, by_panel[name], max_items=score_items)
    texts = {name: (score.describe() if len(scores) == 1 else panel_scores(score)) for name, score in scores.items()}
    caption = caption_lines(embeddings, scores, note)
    points = {name: embedding.points for name, embedding in embeddings.items()}
    return draw_panels(points, by_panel, styles, texts, caption, columns=columns, title=title), embeddings, scores


def _same(labels: np.ndarray | None, others: np.ndarray | None) -> bool:
    return labels is others or (labels is not None and others is not None and np.array_equal(labels, others))


def turned_to_match(points: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Points (n, 2) centred and turned or mirrored to lie nearest to the other points of the same items (orthogonal Procrustes)."""
    centered = points - points.mean(0)
    u, _, v = np.linalg.svd(centered.T @ (other - other.mean(0)))
    return (centered @ (u @ v)).astype(np.float32)


def panel_scores(scores: ClusterScores) -> str:
    """The scores in three short lines; arrows go from feature space to the plane."""
    lines = [f"{name} {before} → {after}" for name, before, after in scores.pairs()]
    return "\n".join([*lines, f"trustworthiness {two_digits(scores.trustworthiness)}"])


def caption_lines(embeddings: Mapping[str, Embedding], scores: Mapping[str, ClusterScores], note: str | None) -> list[str]:
    """What was drawn and how, and how the scores were taken."""
    first, score = next(iter(embeddings.values())), next(iter(scores.values()))
    counts = sorted({len(embedding.points) for embedding in embeddings.values()})
    items = f"{counts[0]:,} items" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,} items"
    method = first.describe() if len(embeddings) == 1 or first.method != "pca" else "PCA"
    scored = f"Scores of {score.n_scored:,} items drawn with seed {score.seed}" if score.n_scored < score.n_items else "Scores of all items"
    chance = (
        ""
        if score.chance is None or score.features is None or score.features.purity is None
        else f"; purity by chance {two_digits(score.chance) if score.chance >= 0.01 else f'{score.chance:.1g}'}"
    )
    return [
        ". ".join(part for part in (note, f"{items}, {method}") if part) + ".",
        f"{scored}; arrows lead from feature space to the picture{chance}.",
    ]
