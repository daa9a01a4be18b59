"""Names of classes on their clusters, moved apart where they would overlap."""

from __future__ import annotations

import numpy as np

from .colors import ClassStyles

GAP = 2.0  # pixels left between two names
ROUNDS = 400
SMALL = 30  # the name of a class of fewer items stands above its median, not to hide them


def name_clusters(axes, points: np.ndarray, labels: np.ndarray, styles: ClassStyles, fontsize: float = 10) -> list:
    """Write the name of each class in colour at its median; a name moved off its place gets a line to it.

    The place is the item nearest to the median of the class, because the median of a class in two pieces lies in neither. Names are
    placed for the axes as they are laid out now; call this last.
    """
    present = [label for label in styles.highlighted if (labels == label).any()]
    if not present:
        return []
    anchors = np.stack([_nearest_to_median(points[labels == label]) for label in present])
    texts = []
    for label, (x, y) in zip(present, anchors, strict=True):
        frame = dict(boxstyle="round,pad=0.2", facecolor="white", edgecolor=styles.color(label), linewidth=1.6, alpha=0.88)
        style = dict(ha="center", va="center", fontsize=fontsize, bbox=frame, zorder=5, parse_math=False)
        texts.append(axes.text(x, y, shorten(styles.class_names[label]), **style))
    axes.figure.draw_without_rendering()  # lays out the figure, so that sizes in pixels are known
    boxes = np.array([[box.width, box.height] for box in (text.get_bbox_patch().get_window_extent() for text in texts)])
    window = axes.get_window_extent()
    targets = axes.transData.transform(anchors)  # (m, 2) pixels
    is_small = np.array([np.count_nonzero(labels == label) < SMALL for label in present])
    targets[is_small, 1] += boxes[is_small, 1]
    moved = spread(targets, boxes, (window.x0, window.y0, window.x1, window.y1))
    for text, place, target, box, anchor in zip(texts, moved, targets, boxes, anchors, strict=True):
        position = axes.transData.inverted().transform(place)
        text.set_position(position)
        if (np.abs(place - target) > box / 2).any():
            color = text.get_bbox_patch().get_edgecolor()
            axes.plot(*zip(position, anchor, strict=True), color=color, linewidth=1.2, zorder=4, scalex=False, scaley=False)
    return texts


def spread(centers: np.ndarray, sizes: np.ndarray, window: tuple[float, float, float, float]) -> np.ndarray:
    """Move boxes apart until none overlap, as little as may be, inside a window.

    Parameters
    ----------
    centers, sizes : arrays (m, 2)
        In pixels.
    window : (left, bottom, right, top)

    Returns
    -------
    array (m, 2)
        New centers. In a window too small for all boxes some overlap is left.
    """
    centers, half = np.array(centers, dtype=float), np.asarray(sizes, dtype=float) / 2 + GAP / 2
    low, high = np.array(window[:2]) + half, np.array(window[2:]) - half
    for _ in range(ROUNDS):
        is_free = True
        for i in range(len(centers)):
            for j in range(i):
                apart = centers[i] - centers[j]
                overlap = half[i] + half[j] - np.abs(apart)
                if (overlap <= 1e-6).any():
                    continue
                is_free = False
                axis = int(np.argmin(overlap))
                push = np.zeros(2)
                push[axis] = (overlap[axis] / 2 + 1e-3) * (1 if apart[axis] >= 0 else -1)
                centers[i] += push
                centers[j] -= push
        centers = np.maximum(np.minimum(centers, high), low)
        if is_free:
            break
    return centers


def shorten(name: str, width: int = 28) -> str:
    """A name in one line of bounded length."""
    name = " ".join(name.split())
    return name if len(name) <= width else name[: width - 1] + "…"


def _nearest_to_median(points: np.ndarray) -> np.ndarray:
    return points[np.argmin(((points - np.median(points, axis=0)) ** 2).sum(1))]
