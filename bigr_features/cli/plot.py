"""`bigr plot`: pictures of the features in a store."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from ..functional.printing import one_line
from .classes import class_number

log = logging.getLogger(__name__)

FORMATS = (".png", ".pdf", ".svg", ".jpg")
MAX_PANELS = 24
OF_METHOD = ("perplexity", "n_neighbors", "backend")


@dataclass(frozen=True)
class PlotConfig:
    """Class clusters of stored features in the plane: one picture, small multiples over layers, or models side by side.

    Parameters
    ----------
    stores : tuple of str
        Feature stores, one for each model to compare; STORE:FEATURE takes one feature of a store, such as a:block5_mean b:head.
    names : tuple of str
        Features, such as block3_mean block5_mean; all of each store by default. Not needed of stores that name theirs.
    method : str
        tsne, umap or pca.
    out : Path
        Picture: .png, .pdf, .svg or .jpg.
    html : Path, optional
        Also write an interactive page with thumbnails on hover (one store, one name).
    scores : Path, optional
        Also write scores and settings as JSON.
    max_items : int
        Items drawn from each store if it holds more.
    seed : int, optional
        Seed of that draw and of the method; None gives another picture each time.
    perplexity : float, optional
        Effective number of neighbours in t-SNE; 30 by default.
    n_neighbors : int, optional
        Neighbours of each item in UMAP; 15 by default.
    metric : str, optional
        euclidean, cosine, or hamming for bits under UMAP.
    backend : str
        Library of t-SNE: auto (default; opentsne where it is installed, the faster one), sklearn or opentsne.
    highlight : tuple of str
        Up to ten classes in colour over grey, by name or label; the ten largest by default where there are more than ten.
    columns : int
        Panels per row, at most.
    title : str
        Text above the figure.
    images : str, optional
        Where the images lie, if not where the store has them from; for --html.
    thumbnails : bool
        Put images into the page.
    dpi : int
        Dots per inch.
    """

    stores: Annotated[tuple[str, ...], tyro.conf.Positional]
    names: tuple[str, ...] = ()
    method: Literal["tsne", "umap", "pca"] = "tsne"
    out: Path = Path("plot.png")
    html: Path | None = None
    scores: Path | None = None
    max_items: int = 2000
    seed: int | None = 0
    perplexity: float | None = None
    n_neighbors: int | None = None
    metric: str | None = None
    backend: Literal["auto", "sklearn", "opentsne"] | None = None
    highlight: tuple[str, ...] = ()
    columns: int = 4
    title: str = ""
    images: str | None = None
    thumbnails: bool = True
    dpi: int = 150


def plot(config: PlotConfig) -> None:
    """Draw what the settings ask for, and print the scores."""
    from ..features.store import FeatureStore
    from ..plots import class_styles, plot_features, write_html

    check(config)
    stores = [FeatureStore(split_store(text)[0]) for text in config.stores]
    panels = choose_panels(stores, config)
    class_names = common_classes(stores)
    drawn = {count: draw_items(count, config) for count in set(map(len, stores))}  # the same items of stores of one length
    rows = [drawn[len(store)] for store in stores]
    images = image_loader(stores[0], rows[0], config.images) if config.html is not None and config.thumbnails else None
    features = {title: feature_rows(stores[i], name, rows[i]) for title, i, name in panels}
    labels = {title: None if (own := stores[i].labels) is None else own[rows[i]] for title, i, _ in panels}
    highlight = [class_number(choice, class_names) for choice in config.highlight] or None
    figure, embeddings, scores = plot_features(
        features,
        labels,
        class_names=class_names,
        method=config.method,
        highlight=highlight,
        columns=config.columns,
        title=config.title or None,
        note=note(stores, config),
        seed=config.seed,
        metric=config.metric,
        **{name: value for name in OF_METHOD if (value := getattr(config, name)) is not None},
    )
    config.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(config.out, dpi=config.dpi)
    for title in features:
        print(f"{title}: {scores[title].describe()}")
    print(f"wrote {config.out}")
    if config.scores is not None:
        write_scores(config.scores, stores, panels, embeddings, scores)
        print(f"wrote {config.scores}")
    if config.html is not None:
        title, (store, chosen) = next(iter(features)), (stores[0], rows[0])
        styles = None if store.labels is None else class_styles(store.labels, class_names, highlight)
        write_html(
            config.html,
            embeddings[title].points,
            labels[title],
            styles=styles,
            images=images,
            item_names=[one_line(source) for source in store.sources[chosen]],
            title=config.title or f"{store.manifest.get('model')}, {title}",
            caption=f"{len(chosen):,} items, {embeddings[title].describe()}; {scores[title].describe()}.",
        )
        print(f"wrote {config.html} ({config.html.stat().st_size / 1e6:.1f} MB)")


def check(config: PlotConfig) -> None:
    """Refuse at once what would fail after minutes of work."""
    if not config.stores:
        raise ValueError("give one feature store or more: bigr plot STORE; `bigr extract` makes them.")
    if config.out.suffix.lower() not in FORMATS:
        raise ValueError(f"--out {config.out.name} is no picture that can be written; end it in {', '.join(FORMATS)}.")
    if config.html is not None and config.html.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--html {config.html.name}; end it in .html.")
    if config.max_items < 3 or config.dpi < 30 or config.columns < 1:
        raise ValueError(f"--max-items {config.max_items} --dpi {config.dpi} --columns {config.columns}; expected at least 3, 30 and 1.")


def choose_panels(stores: list, config: PlotConfig) -> list[tuple[str, int, str]]:
    """(title, number of the store, name of the feature) of each panel; the same features of several stores stand side by side."""
    named = [split_store(text) for text in config.stores]
    unnamed = [store for store, (_, own) in zip(stores, named, strict=True) if own is None]
    names = config.names or tuple(dict.fromkeys(name for store in unnamed for name in store.names))
    if config.names and all(own for _, own in named):
        raise ValueError(f"--names {' '.join(config.names)} has no effect, because every store names its feature; leave it out.")
    wanted = [(i, own) for i, (_, own) in enumerate(named) if own]
    wanted += [(i, name) for name in names for i, (_, own) in enumerate(named) if not own]
    panels = []
    for i, name in wanted:
        folder = named[i][0]
        if name not in stores[i].names:
            raise ValueError(f"{folder} has no feature {name!r}; it has {', '.join(stores[i].names)}.")
        alike = len({name for _, name in wanted}) == 1
        several = len({path for path, _ in named}) > 1
        panels.append(((f"{folder.name}: {pretty(name)}" if not alike else folder.name) if several else pretty(name), i, name))
    if len({title for title, _, _ in panels}) < len(panels):
        raise ValueError(f"two panels would have one title; give names once, and stores in folders of different names: {config.stores}.")
    if len(panels) > MAX_PANELS:
        raise ValueError(f"{len(panels)} panels are too many for one figure (at most {MAX_PANELS}); choose some by --names.")
    if config.html is not None and len(panels) > 1:
        raise ValueError(f"--html shows one feature, but {len(panels)} are asked for; give one store and one of --names {' '.join(names)}.")
    return panels


def split_store(text) -> tuple[Path, str | None]:
    """Folder and feature of "STORE:FEATURE"; None for the feature of a folder alone."""
    folder, colon, feature = str(text).rpartition(":")
    return (Path(folder), feature) if colon and folder and not Path(text).exists() else (Path(text), None)


def pretty(name: str) -> str:
    """ "block5_mean" as "block 5, mean"."""
    layer, _, pooling = name.partition("_")
    return f"block {layer.removeprefix('block')}, {pooling}" if layer.startswith("block") and pooling else name


def common_classes(stores: list) -> list[str] | None:
    """The class names that all stores share, so that a colour means the same class in all panels."""
    first = stores[0]
    for store in stores[1:]:
        if store.class_names != first.class_names or (store.labels is None) != (first.labels is None):
            raise ValueError(f"{first.folder} and {store.folder} have other classes; compare stores of the same data.")
    return first.class_names


def draw_items(count: int, config: PlotConfig) -> np.ndarray:
    """Numbers of the items drawn, rising."""
    if count <= config.max_items:
        return np.arange(count)
    return np.sort(np.random.default_rng(config.seed).choice(count, config.max_items, replace=False))


def feature_rows(store, name: str, rows: np.ndarray) -> np.ndarray:
    """Rows of a feature: float32, or bool for bits."""
    return np.asarray(store.features(name)[rows]).astype(bool if name == "bits" else np.float32)


def note(stores: list, config: PlotConfig) -> str:
    """Model and images, as the caption has them."""
    models = dict.fromkeys(str(store.manifest.get("model")) + weights(store) for store in stores)
    images = dict.fromkeys(
        ", ".join(filter(None, (Path(str(store.manifest.get("source"))).name, store.manifest.get("split")))) for store in stores
    )
    total = max(map(len, stores))
    drawn = f" (drawn from {total:,} items)" if total > config.max_items else ""
    return one_line(f"{' and '.join(models)}. {' and '.join(images)}{drawn}")


def weights(store) -> str:
    """A model with random weights is called so."""
    return " (random weights)" if store.manifest.get("weights") == "random" else ""


def image_loader(store, rows: np.ndarray, source: str | None):
    """A function that loads the image of the i-th drawn item; None for one that cannot be read any more."""
    from ..data.modes import upright
    from ..data.sources import open_items

    source = source or store.manifest["source"]
    try:
        manifest = store.manifest
        items = open_items(source, manifest["split"] or "train", manifest.get("labelled", True))
        items = items.limited(manifest.get("limit"))
    except (OSError, ValueError) as error:
        raise type(error)(f"thumbnails: {error} Give --images with the place of the images, or --no-thumbnails.") from error
    positions = store.positions[rows]
    if positions.max() >= len(items):
        raise ValueError(f"{source} holds {len(items)} images, but the store has one from place {positions.max()}; the source was changed.")

    def load(i: int):
        try:
            return upright(items.load(int(positions[i])))
        except (OSError, ValueError) as error:
            log.warning("no thumbnail of %s: %s", one_line(store.sources[rows[i]]), one_line(error))
            return None

    return load


def write_scores(path: Path, stores: list, panels: list, embeddings: dict, scores: dict) -> None:
    """Scores and settings of each panel, with what made the features."""
    from ..evaluate.reports import environment, write_json

    rows = [
        {
            "panel": title,
            "feature": name,
            "model": stores[i].manifest.get("model"),
            "weights_sha256": stores[i].manifest.get("weights_sha256"),
            "store_fingerprint": stores[i].fingerprint,
            "method": embeddings[title].method,
            "settings": embeddings[title].settings,
            "scores": scores[title].to_dict(),
        }
        for title, i, name in panels
    ]
    write_json(path, {"command": "plot", "rows": rows, "environment": environment()})
