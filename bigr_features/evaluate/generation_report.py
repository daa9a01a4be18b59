"""Reports of generated images beside one another: what may be compared, and a table of it."""

from __future__ import annotations

from collections.abc import Mapping

# name in a report, name in a table, factor, decimals, and whether more or less is better
ROWS = (
    ("frechet", "Frechet distance", 1, 3, "less"),
    ("spatial_frechet", "spatial Frechet distance", 1, 3, "less"),
    ("kid", "KID x 1000", 1000, 3, "less"),
    ("inception_score", "Inception score", 1, 3, "more"),
    ("precision", "precision", 1, 3, "more"),
    ("recall", "recall", 1, 3, "more"),
    ("density", "density", 1, 3, "more"),
    ("coverage", "coverage", 1, 3, "more"),
    ("recognised", "recognised as its class", 1, 3, "more"),
    ("memorisation", "nearer to training images than test images are", 1, 3, "0.5"),
)


def comparison(network: dict, reference: dict, images: int, settings: dict) -> dict:
    """What two results must agree in to stand side by side."""
    names = ("sha256", "features", "spatial_layer", "spatial_channels", "transform")
    return {
        "network": {name: network.get(name) for name in names},
        "reference": {name: reference.get(name) for name in ("sha256", "images")},
        "images": images,
        "settings": settings,
    }


def check_comparable(reports: Mapping[str, dict]) -> None:
    """Refuse reports whose numbers cannot stand side by side.

    Parameters
    ----------
    reports : dict of name to report
        Each with "comparison", as `comparison` gives it.

    Raises
    ------
    ValueError
        Naming two reports and all in which they differ: network, reference, number of images, settings.
    """
    (first, base), *others = reports.items()
    for name, report in others:
        differing = [
            f"{part} ({_difference(base['comparison'][part], report['comparison'][part])})"
            for part in ("network", "reference", "images", "settings")
            if base["comparison"][part] != report["comparison"][part]
        ]
        if differing:
            raise ValueError(
                f"{first} and {name} differ in {', '.join(differing)}, so their numbers cannot stand side by side; "
                "evaluate both with the same network, reference, number of images and settings."
            )


def table(reports: Mapping[str, dict]) -> str:
    """Metrics in rows, reports in columns, with 95 % intervals.

    Parameters
    ----------
    reports : dict of name to report
        Comparable; each with "comparison" and "metrics", as `generation_metrics` gives them.

    Raises
    ------
    ValueError
        For reports that are not comparable.
    """
    check_comparable(reports)
    cells = {
        name: [_cell(report["metrics"].get(key), factor, digits) for key, _, factor, digits, _ in ROWS] for name, report in reports.items()
    }
    shown = [i for i in range(len(ROWS)) if any(column[i] for column in cells.values())]
    titles = [f"{ROWS[i][1]} ({ROWS[i][4]})" for i in shown]
    left = max(map(len, titles)) + 2
    widths = {name: max(len(name), *(len(column[i]) for i in shown)) + 3 for name, column in cells.items()}
    lines = ["".ljust(left) + "".join(name.rjust(widths[name]) for name in cells)]
    for title, i in zip(titles, shown, strict=True):
        lines.append(title.ljust(left) + "".join((column[i] or "-").rjust(widths[name]) for name, column in cells.items()))
    return "\n".join(lines)


def _column(metrics: dict) -> list[str]:
    return [_cell(metrics.get(key), factor, digits) for key, _, factor, digits, _ in ROWS]


def _cell(metric: dict | None, factor: float, digits: int) -> str:
    if metric is None:
        return ""
    text = f"{factor * metric['value']:.{digits}f}"
    if metric.get("interval"):
        text += f" [{factor * metric['interval'][0]:.{digits}f}, {factor * metric['interval'][1]:.{digits}f}]"
    return text


def _difference(one, other) -> str:
    if not isinstance(one, dict):
        return f"{one} and {other}"
    return ", ".join(
        f"{key} {_short(one.get(key))} and {_short(other.get(key))}" for key in {**one, **other} if one.get(key) != other.get(key)
    )


def _short(value) -> str:
    text = str(value)
    return text if len(text) <= 20 else f"{text[:12]}..."
