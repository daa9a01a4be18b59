"""Accuracy over the depth of a model."""

from __future__ import annotations

from collections.abc import Mapping

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933", "#000000")


def accuracy_over_depth(axes, curves: Mapping[str, Mapping[int, float]], levels: Mapping[str, float] | None = None):
    """Draw one line for each curve on the axes given, and return them.

    Parameters
    ----------
    axes : matplotlib Axes
    curves : mapping of label to {layer: accuracy in 0..1}
        Layers are 0-based blocks.
    levels : mapping of label to accuracy, optional
        What belongs to no layer, such as raw pixels: a broken horizontal line.
    """
    for (label, points), color in zip(curves.items(), _cycle(COLORS), strict=False):
        layers = sorted(points)
        axes.plot(layers, [100 * points[layer] for layer in layers], "o-", color=color, label=label)
    for (label, value), color in zip((levels or {}).items(), _cycle(COLORS[::-1]), strict=False):
        axes.axhline(100 * value, color=color, linestyle="--", label=label)
    ticks = sorted({layer for points in curves.values() for layer in points})
    axes.set(xlabel="block (0-based)", ylabel="accuracy, %", xticks=ticks[:: max(1, len(ticks) // 12)])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return axes


def _cycle(colors):
    while True:
        yield from colors
