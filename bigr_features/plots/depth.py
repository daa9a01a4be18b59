"""Accuracy over the depth of a model."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

LEVELS = (("black", "--"), ("gray", "--"), ("black", ":"), ("gray", ":"), ("black", "-."), ("gray", "-."))
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933", "#000000")


def accuracy_over_depth(
    axes,
    curves: Mapping[str, Mapping[int, float]],
    levels: Mapping[str, float] | None = None,
    variants: Mapping[str, str] | None = None,
):
    """Draw one line for each curve on the axes given, and return them.

    Parameters
    ----------
    axes : matplotlib Axes
    curves : mapping of label to {layer: accuracy in 0..1}
        Layers are 0-based blocks.
    levels : mapping of label to accuracy, optional
        What belongs to no layer, such as raw pixels: a broken horizontal line.
    variants : mapping of label to label, optional
        Curves that have the colour of another one, and open squares: the same model, read in another way.
    """
    variants = {label: base for label, base in (variants or {}).items() if label in curves and base in curves}
    colors = dict(zip((label for label in curves if label not in variants), cycle(COLORS), strict=False))
    for label, points in curves.items():
        layers = sorted(points)
        style = {"marker": "s", "markerfacecolor": "white", "linestyle": "--"} if label in variants else {"marker": "o"}
        axes.plot(layers, [100 * points[layer] for layer in layers], color=colors[variants.get(label, label)], label=label, **style)
    for (label, value), (color, line) in zip((levels or {}).items(), cycle(LEVELS), strict=False):
        axes.axhline(100 * value, color=color, linestyle=line, linewidth=1.2, label=label)
    ticks = sorted({layer for points in curves.values() for layer in points})
    axes.set(xlabel="block (0-based)", ylabel="accuracy, %", xticks=ticks[:: max(1, len(ticks) // 12)])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return axes
