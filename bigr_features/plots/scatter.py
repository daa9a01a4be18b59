"""One picture of classes in the plane, on axes that are given.   n items"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np

from .colors import GREY, ClassStyles, class_styles
from .naming import name_clusters, shorten

PARTS = 8  # each class is drawn in so many parts, by turns, so that no class covers the others


def scatter(
    axes,
    points: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    class_names: Sequence[str] | None = None,
    highlight: Sequence[str | int] | None = None,
    styles: ClassStyles | None = None,
    names: bool = True,
    title: str | None = None,
    caption: str | None = None,
    size: float | None = None,
):
    """Draw points, one colour and marker a class, and write each class's name on its cluster.

    Parameters
    ----------
    axes : matplotlib Axes
    points : array (n, 2)
    labels : integer array (n,), or None for one colour
    class_names : names by label
    highlight : names or labels of up to ten classes in colour over grey; None takes all of up to ten classes, else the ten largest
    styles : ClassStyles made before, so that several plots agree; replaces class_names and highlight
    names : bool
        Write the names at the median of each class in colour.
    title, caption : text above and below
    size : area of a marker in points squared; None follows from the axes and n

    Returns
    -------
    The axes given.

    Raises
    ------
    TypeError, ValueError
        For points that are not finite (n, 2), another number of labels, or what `class_styles` refuses.
    """
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(f"points have shape {points.shape}; expected (n, 2), as `embed(...).points` gives.")
    if not np.isfinite(points).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(points).all(1))} of {len(points)} points are not finite.")
    box = axes.get_window_extent()
    if size is None:
        area = box.width * box.height * (72 / axes.figure.dpi) ** 2  # points squared
        size = float(np.clip(0.12 * area / len(points), 4, 40))
    if labels is None:
        axes.scatter(*points.T, s=size, c="#0072B2", alpha=0.7, linewidths=0, rasterized=True)
    else:
        labels = np.asarray(labels)
        if len(labels) != len(points):
            raise ValueError(f"there are {len(points)} points and {len(labels)} labels; expected as many of each.")
        styles = styles or class_styles(labels, class_names, highlight)
        draw_classes(axes, points, labels, styles, size)
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[:].set_color(GREY)
    if title is not None:
        axes.set_title(title, fontsize=11, parse_math=False)
    if caption is not None:
        write_caption(axes, caption, width_inches=box.width / axes.figure.dpi)
    if labels is not None and styles is not None and names:
        name_clusters(axes, points, labels, styles)
    return axes


def draw_classes(axes, points: np.ndarray, labels: np.ndarray, styles: ClassStyles, size: float) -> None:
    """Classes in grey first, those in colour over them."""
    colored = np.isin(labels, styles.highlighted)
    axes.scatter(*points[~colored].T, s=0.6 * size, c=GREY, alpha=0.5, linewidths=0, rasterized=True, zorder=1)
    base = 3 * size if styles.num_others else size
    part = np.random.default_rng(0).integers(PARTS, size=len(points))
    for turn in range(PARTS):
        for label in styles.highlighted:
            chosen = points[(labels == label) & (part == turn)]
            style = dict(marker=styles.marker(label), c=styles.color(label), s=base * styles.scale(label))
            # small markers snapped to pixels are drawn larger, smaller or, as plus signs, not at all
            axes.scatter(*chosen.T, **style, alpha=0.75, linewidths=0, snap=False, rasterized=True, zorder=2 + turn / PARTS)


def write_caption(axes, caption: str, width_inches: float, fontsize: float = 9) -> None:
    """Text below the axes, wrapped to their width."""
    columns = max(24, int(width_inches * 72 / (0.52 * fontsize)))
    lines = [line for paragraph in caption.split("\n") for line in textwrap.wrap(paragraph, columns)]
    axes.set_xlabel("\n".join(lines), fontsize=fontsize, loc="left", parse_math=False)


def legend_handles(styles: ClassStyles) -> list:
    """A handle for each class in colour, and one for the others; their labels are set by `add_legend`."""
    from matplotlib.lines import Line2D

    classes = [(styles.color(label), styles.marker(label), 6) for label in styles.highlighted]
    if styles.num_others:
        classes.append((GREY, ".", 8))
    return [Line2D([], [], linestyle="", color=color, marker=marker, markersize=area) for color, marker, area in classes]


def add_legend(owner, styles: ClassStyles, **settings):
    """Legend on axes or a figure. Names are plain text: a leading underscore or a dollar sign means nothing to it."""
    handles = legend_handles(styles)
    legend = owner.legend(handles, ["class"] * len(handles), frameon=False, handletextpad=0.1, **settings)
    others = [f"{styles.num_others:,} other classes"] if styles.num_others else []
    for text, name in zip(legend.get_texts(), [shorten(styles.class_names[label]) for label in styles.highlighted] + others, strict=True):
        text.set_parse_math(False)
        text.set_text(name)
    return legend
