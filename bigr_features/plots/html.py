"""One HTML file to explore: points in the plane, thumbnails on hover, no network.   n items"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..storage.atomic import write_atomically
from .colors import GREY, ClassStyles, class_styles
from .naming import shorten

MAX_THUMBNAILS = 5000
BOKEH_MARKERS = {  # only markers with a filled area
    "o": "circle",
    "^": "triangle",
    "s": "square",
    "D": "diamond",
    "v": "inverted_triangle",
    "P": "plus",
    "X": "square_pin",
    "<": "hex",
    "p": "star",
    ">": "triangle_pin",
    ".": "dot",
}


def write_html(
    path: str | Path,
    points: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    class_names: Sequence[str] | None = None,
    highlight: Sequence[str | int] | None = None,
    styles: ClassStyles | None = None,
    images: Sequence | Callable | None = None,
    item_names: Sequence[str] | None = None,
    title: str = "Features",
    caption: str = "",
    thumbnail_size: int = 64,
    max_thumbnails: int = MAX_THUMBNAILS,
    seed: int = 0,
) -> Path:
    """Write an interactive plot into one file that needs nothing else: pan, zoom, classes off and on, an image on hover.

    Parameters
    ----------
    path : file to write, whole or not at all
    points : array (n, 2)
    labels, class_names, highlight, styles : as `scatter`
    images : n images, or a function of the item's number that gives one, or None
        uint8 arrays (H, W) or (H, W, 3), or Pillow images; None for an item without an image.
    item_names : n texts shown on hover, such as file names; None takes the item's number
    title, caption : plain text above the plot
    thumbnail_size : longest side in pixels; smaller images are kept as they are
    max_thumbnails : items with a thumbnail, about 1 to 2 kB each; of more items some are drawn with `seed`, and the page says so
    seed : of that draw

    Returns
    -------
    The path.

    Raises
    ------
    TypeError, ValueError
        For points or labels that `scatter` refuses, images that are no images, or another number of images or names.
    ImportError
        If bokeh is missing.
    """
    try:
        import bokeh.embed
        import bokeh.resources
    except ImportError as error:
        raise ImportError("an HTML plot needs bokeh: pip install bigr-features[plots]") from error
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or not np.isfinite(points).all():
        raise ValueError(f"points have shape {points.shape}; expected (n, 2) finite numbers, as `embed(...).points` gives.")
    for what, given in (("labels", labels), ("images", images), ("item_names", item_names)):
        if given is not None and not callable(given) and len(given) != len(points):
            raise ValueError(f"there are {len(points)} points and {len(given)} {what}; expected as many of each.")
    if not 8 <= thumbnail_size <= 256:
        raise ValueError(f"thumbnail_size={thumbnail_size}; expected 8 to 256 pixels.")
    if labels is not None:
        labels = np.asarray(labels)
        styles = styles or class_styles(labels, class_names, highlight)

    thumbnails, count = thumbnails_of(images, len(points), thumbnail_size, max_thumbnails, seed)
    if images is not None and count < len(points):
        caption = f"{caption} {count:,} of {len(points):,} items have a thumbnail.".strip()
    layout = _layout(points, labels, styles, thumbnails, item_names, title, caption, thumbnail_size)
    page = bokeh.embed.file_html(layout, bokeh.resources.INLINE, title=title)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode())
    return path


def thumbnails_of(images, n: int, size: int, limit: int, seed: int) -> tuple[list[str], int]:
    """A data URI for each of n items ("" for those without), and how many have one."""
    uris = [""] * n
    if images is None:
        return uris, 0
    chosen = range(n) if n <= limit else np.sort(np.random.default_rng(seed).choice(n, limit, replace=False))
    for i in map(int, chosen):
        image = images(i) if callable(images) else images[i]
        uris[i] = "" if image is None else data_uri(image, size)
    return uris, sum(uri != "" for uri in uris)


def data_uri(image, size: int = 64) -> str:
    """An image as WebP of `size` pixels on the longest side, in a data URI; a smaller image keeps its size."""
    from PIL import Image

    if not isinstance(image, Image.Image):
        image = np.asarray(image)
        image = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or not image.size:
            raise TypeError(f"an image has dtype {image.dtype} and shape {image.shape}; expected uint8 (H, W), (H, W, 1) or (H, W, 3).")
        image = Image.fromarray(image)
    image = image.convert("RGB")
    image.thumbnail((size, size))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _layout(points, labels, styles, thumbnails, item_names, title, caption, thumbnail_size):
    from bokeh.layouts import column
    from bokeh.models import ColumnDataSource, Div, HoverTool, Legend, LegendItem, WheelZoomTool
    from bokeh.plotting import figure

    plot = figure(
        width=980,
        height=660,
        match_aspect=True,
        tools="pan,wheel_zoom,box_zoom,reset,save",
        toolbar_location="above",
        output_backend="canvas",
    )
    plot.toolbar.active_scroll = plot.select_one(WheelZoomTool)
    plot.toolbar.logo = None
    plot.axis.visible = False
    plot.grid.visible = False
    numbers = np.arange(len(points))
    names = [f"item {i}" for i in numbers] if item_names is None else [str(name) for name in item_names]
    size = float(np.clip(400 / np.sqrt(len(points)), 5, 12))
    items = []
    for legend, label, chosen in _groups(labels, styles, numbers):
        color, marker = ("#0072B2", "o") if label is None else (GREY, ".") if label < 0 else (styles.color(label), styles.marker(label))
        data = {
            "x": points[chosen, 0].tolist(),
            "y": points[chosen, 1].tolist(),
            "thumbnail": [thumbnails[i] for i in chosen],
            "name": [names[i] for i in chosen],
            "class": ["" if labels is None else styles.class_names[labels[i]] for i in chosen],
        }
        glyph = {"marker": BOKEH_MARKERS[marker], "size": size, "color": color}
        muted = {"alpha": 0.4} if label is not None and label < 0 else {"alpha": 0.75}
        drawn = plot.scatter("x", "y", source=ColumnDataSource(data), line_width=0, **glyph, **muted)
        items.append(LegendItem(label={"value": shorten(legend)}, renderers=[drawn]))
    side = max(96, thumbnail_size)
    image = f'<img src="@thumbnail" alt="" width="{side}" style="display:block;image-rendering:pixelated;">' if any(thumbnails) else ""
    text = "<div><b>@class</b></div>" if labels is not None else ""
    plot.add_tools(HoverTool(tooltips=f'<div style="max-width:240px;overflow-wrap:anywhere">{image}{text}<div>@name</div></div>'))
    if labels is not None:
        plot.add_layout(Legend(items=items, click_policy="hide", border_line_alpha=0, title="Click to hide"), "right")
    head = f"<h2 style='margin:8px 0 0'>{html.escape(title)}</h2><p style='margin:4px 0'>{html.escape(caption)}</p>"
    return column(Div(text=head, styles={"font-family": "sans-serif"}, width=980), plot)


def _groups(labels, styles, numbers):
    """(legend, label, items) of each glyph: the grey others first, under the classes in colour; label -1 is all others."""
    if labels is None:
        return [("items", None, numbers)]
    others = numbers[~np.isin(labels, styles.highlighted)]
    classes = [(styles.class_names[label], label, numbers[labels == label]) for label in styles.highlighted]
    return ([(f"{styles.num_others:,} other classes", -1, others)] if len(others) else []) + [group for group in classes if len(group[2])]
