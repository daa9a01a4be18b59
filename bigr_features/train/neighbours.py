"""k-NN accuracy of held-out images while a generator trains: whether its features tell classes apart.   n images, D width"""

from __future__ import annotations

import numpy as np
import torch

from ..data.limits import drawn
from ..evaluate.knn import KNNClassifier
from ..models.generator import BiGR
from .sampler import SampledBatch

GALLERY, QUERIES = 2_000, 1_000  # images looked at, at most
NEIGHBOURS = 20


@torch.no_grad()
def knn_accuracy(model: BiGR, data, train_items: np.ndarray, held_out: np.ndarray, batch_size: int) -> float | None:
    """Share of held-out images that the 20 nearest training images name rightly, by the mean over the tokens of the middle layer.

    Parameters
    ----------
    model : BiGR
        In eval mode.
    data : CachedCodes or EncodedImages
    train_items, held_out : int64 arrays
        Of them at most 2,000 and 1,000 are taken, drawn by class, the same every time.
    batch_size : int

    Returns
    -------
    float in [0, 1], or None if there are no labels or only one class
    """
    if data.labels is None or not len(train_items):
        return None
    labels = data.labels.numpy()
    parts = [items[drawn(labels[items], len(items), most)] for items, most in ((train_items, GALLERY), (held_out, QUERIES))]
    if len(np.unique(labels[parts[0]])) < 2:
        return None
    rows = [_features(model, data, items, batch_size) for items in parts]
    classifier = KNNClassifier(n_neighbors=min(NEIGHBOURS, len(parts[0])))
    return float(classifier.fit(rows[0], labels[parts[0]]).score(rows[1], labels[parts[1]]))


def _features(model: BiGR, data, items: np.ndarray, batch_size: int) -> np.ndarray:
    """Features (n, D) without a class as condition."""
    device, layer = next(model.parameters()).device, (len(model.trunk.blocks) - 1) // 2
    sampler = [SampledBatch(0, items[start : start + batch_size]) for start in range(0, len(items), batch_size)]
    found = [model.hidden_states(codes, layers=[layer])[0].float().mean(1).cpu().numpy() for codes, _ in data.batches(sampler, device)]
    return np.concatenate(found)
