"""A figure of panels with their scores below, a legend and a caption; every height is counted in inches, so that nothing overlaps."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np

from .colors import ClassStyles
from .naming import name_clusters, shorten
from .scatter import add_legend, scatter

PANEL_INCHES, SINGLE_INCHES, MARGIN = 2.4, 7.0, 0.12
LINE = 0.165  # of text of 9 points
PANEL_TITLE, TITLE, LEGEND_ROW = 0.30, 0.36, 0.24


def draw_panels(
    points: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray | None],
    styles: ClassStyles | None,
    texts: Mapping[str, str],
    caption: Sequence[str],
    *,
    columns: int,
    title: str | None = None,
):
    """The figure of `plot_features`: one panel large, with names on its clusters; several small, with one legend for all.

    Parameters
    ----------
    points : panel title to array (n, 2)
    labels : panel title to integer array (n,) or None
    styles : ClassStyles of all panels, or None without labels
    texts : what stands below each panel
    caption : lines below the figure
    columns : panels in a row, at most
    title : above the figure
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    single = len(points) == 1
    columns = min(columns, len(points))
    rows = -(-len(points) // columns)
    columns = -(-len(points) // rows)  # five panels in two rows stand as 3 + 2
    side = SINGLE_INCHES if single else PANEL_INCHES
    width = max(columns * (side + MARGIN) + MARGIN, 5.0)
    wrap = int(width * 72 / (0.53 * 9))
    lines = {name: textwrap.wrap(text, wrap) if single else text.split("\n") for name, text in texts.items()}
    caption = [part for line in caption for part in textwrap.wrap(line, wrap)]
    shown = styles if styles is not None and (not single or styles.num_others > 0) else None
    legend_columns, legend_rows = legend_shape(shown, width) if shown is not None else (1, 0)

    height = side * panel_aspect(points)
    below = LINE * max(map(len, lines.values())) + 0.12
    bottom = MARGIN + LINE * len(caption) + 0.06 + LEGEND_ROW * legend_rows
    total = bottom + rows * (PANEL_TITLE + height + below) + (TITLE if title else 0) + 0.02
    figure = Figure(figsize=(width, total), facecolor="white")
    FigureCanvasAgg(figure)
    left = (width - columns * (side + MARGIN) + MARGIN) / 2
    for i, name in enumerate(points):
        row, column = divmod(i, columns)
        x, y = left + column * (side + MARGIN), bottom + (rows - 1 - row) * (PANEL_TITLE + height + below) + below
        axes = figure.add_axes((x / width, y / total, side / width, height / total))
        scatter(axes, points[name], labels[name], styles=styles, names=False, title=shorten(name, 80 if single else 34))
        figure.text((x + side / 2) / width, (y - 0.06) / total, "\n".join(lines[name]), ha="center", va="top", fontsize=9, linespacing=1.25)
    if title:
        figure.text(0.5, 1 - 0.1 / total, title, ha="center", va="top", fontsize=13, parse_math=False)
    figure.text(0.5, MARGIN / total, "\n".join(caption), ha="center", va="bottom", fontsize=9, linespacing=1.25, parse_math=False)
    if shown is not None:
        place = (0.5, (MARGIN + LINE * len(caption) + 0.06 + LEGEND_ROW * legend_rows / 2) / total)
        add_legend(figure, shown, loc="center", bbox_to_anchor=place, ncols=legend_columns, fontsize=10, borderpad=0)
    name = next(iter(points))
    alone = labels[name] if single else None
    if alone is not None and styles is not None:
        name_clusters(figure.axes[0], points[name], alone, styles)
    return figure


def panel_aspect(points: Mapping[str, np.ndarray]) -> float:
    """Height over width of the panels, so that the usual picture fills its panel."""
    extents = [np.ptp(each, axis=0) for each in points.values()]
    return float(np.clip(np.median([high / max(wide, 1e-12) for wide, high in extents]), 0.6, 1.1))


def legend_shape(styles: ClassStyles, width: float) -> tuple[int, int]:
    """Columns and rows of a legend that fits a width in inches."""
    names = [shorten(styles.class_names[label]) for label in styles.highlighted] + ["other classes ..."] * bool(styles.num_others)
    longest = 0.5 + 0.085 * max(map(len, names))  # inches of an entry
    columns = int(np.clip((width - 0.4) // longest, 1, min(6, len(names))))
    rows = -(-len(names) // columns)
    return -(-len(names) // rows), rows
