"""`bigr sync`, `bigr reindex` and `bigr duplicates`: a gallery that follows its folder, its model and its copies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..functional.printing import one_line
from .gallery_model import ReadingOptions, described, embedder_for, embedder_of, short_id

NAMED = 20  # lines of a kind that are printed


@dataclass(frozen=True, kw_only=True)
class SyncConfig(ReadingOptions):
    """Synchronise a gallery with a folder: images that were added, changed or deleted there are so in the gallery.

    Parameters
    ----------
    gallery : Path
        Folder of the gallery.
    folder : Path
        Folder of images.
    split : str
        Split, if the folder holds folders of splits.
    dry_run : bool
        Print what would be done, and write nothing.
    thumbnail_size : int
        Side in pixels of the pictures kept for result sheets; 0 for none.
    """

    gallery: Annotated[Path, tyro.conf.Positional]
    folder: Annotated[Path, tyro.conf.Positional]
    split: str = "train"
    dry_run: bool = False
    thumbnail_size: int = 128


@dataclass(frozen=True, kw_only=True)
class ReindexConfig(ReadingOptions):
    """Make the index of a gallery anew, without the images removed since; with --model or --layer, embed its images anew.

    Images keep their ids. The gallery serves as it is until the new vectors are whole; the same command goes on after an interruption.

    Parameters
    ----------
    gallery : Path
        Folder of the gallery.
    pooling : str, optional
        Pooling of the layer's tokens: mean, cls, max, concat or quarters; by default as before.
    metric : str, optional
        Comparison: cosine, hamming or two_stage; by default as before, as for the following ones.
    binarize : str, optional
        Making of bits from features: sign or itq; none for given bits.
    num_bits : int, optional
        Number of bits that itq makes.
    index : str, optional
        Kind of index: flat, auto, or a faiss factory string such as HNSW32.
    effort : int, optional
        Lists searched for each query (nprobe of IVF) or candidates kept (efSearch of HNSW).
    shortlist : int, optional
        Number of images that two_stage ranks by cosine.
    drop_missing : bool
        Remove images whose source cannot be read any more or was changed, instead of stopping.
    """

    gallery: Annotated[Path, tyro.conf.Positional]
    pooling: str | None = None
    metric: str | None = None
    binarize: str | None = None
    num_bits: int | None = None
    index: str | None = None
    effort: int | None = None
    shortlist: int | None = None
    drop_missing: bool = False


@dataclass(frozen=True, kw_only=True)
class DuplicatesConfig:
    """Find copies, near copies and outliers in a gallery.

    Parameters
    ----------
    gallery : Path
        Folder of the gallery.
    threshold : float
        Similarity from which two images are near copies: a cosine, or a share of equal bits, in (0, 1].
    outliers : int
        Number of images to name that are least like any other.
    """

    gallery: Annotated[Path, tyro.conf.Positional]
    threshold: float = 0.98
    outliers: int = 5


def sync(config: SyncConfig) -> None:
    """Run `bigr sync`."""
    from ..gallery import Gallery
    from ..gallery.lifecycle import plan_sync
    from ..gallery.lifecycle import sync as synchronise

    gallery = Gallery(config.gallery)
    plan = plan_sync(gallery, config.folder, config.split)
    for word, paths in (("added", plan.added), ("changed", plan.changed), ("gone", plan.gone), ("unreadable", plan.unreadable)):
        for path in list(paths)[:NAMED]:
            print(one_line(f"{word}: {path}") + (f" ({plan.unreadable[path]})" if word == "unreadable" else ""))
        if len(paths) > NAMED:
            print(f"{word}: and {len(paths) - NAMED} more")
    counts = f"{len(plan.added)} added, {len(plan.changed)} changed, {len(plan.gone)} gone, {plan.same} as they were"
    if config.dry_run:
        print(f"{config.folder}: {counts}; nothing was written")
        return
    options = {"batch_size": config.batch_size, "num_workers": config.num_workers, "thumbnail_size": config.thumbnail_size}
    embedder = embedder_for(gallery, config) if plan.positions else None
    synchronise(gallery, embedder, config.folder, plan, config.split, **options)
    print(f"{config.folder}: {counts}; {described(gallery)}")


def reindex(config: ReindexConfig) -> None:
    """Run `bigr reindex`."""
    from ..functional.pooling import layer_and_pooling
    from ..gallery import Gallery
    from ..gallery.lifecycle import reembed

    gallery = Gallery(config.gallery)
    names = ("metric", "binarize", "num_bits", "index", "effort", "shortlist")
    fields = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    if fields.get("binarize") == "none" or fields.get("metric") == "cosine":
        fields |= {"binarize": None, "num_bits": None}
    if config.model is None and config.layer is None and config.pooling is None and not config.random and not config.weights:
        gallery.reindex(**fields)
        gallery.compact()
        print(described(gallery))
        return
    made = gallery.embedding or {}
    layer, pooling = layer_and_pooling(str(made.get("feature")))
    name = config.model or str(made.get("model") or "").partition(" ")[0]
    if not name:
        raise ValueError(f"the gallery {config.gallery} does not say which model made it; give --model.")
    layer = config.layer if config.layer is not None or config.model is not None else layer
    settings = gallery.settings.replaced(**fields)
    embedder = embedder_of(config, settings, name, layer, config.pooling or pooling or "mean", made.get("dtype") or "fp32")
    embedder.check_index()
    lost = reembed(gallery, embedder, settings, drop_missing=config.drop_missing, batch_size=config.batch_size)
    print((f"removed {len(lost)} whose sources cannot be read; " if lost else "") + described(gallery))


def duplicates(config: DuplicatesConfig) -> None:
    """Run `bigr duplicates`."""
    from ..gallery import Gallery
    from ..gallery.duplicates import find_duplicates

    gallery = Gallery(config.gallery)
    found = find_duplicates(gallery, config.threshold, config.outliers)
    titles = [f"copies: {len(group)} images of the same pixels" for group in found.exact]
    titles += [f"near copies: similarity {similarity:.4f}" for similarity in found.similarities]
    for title, group in zip(titles, [*found.exact, *found.near], strict=True):
        print(title)
        for item in group:
            print(one_line(f"  {short_id(item)}  {gallery.item(item)['source'] or ''}"))
    for item, similarity in found.outliers:
        source = gallery.item(item)["source"] or ""
        print(one_line(f"outlier: similarity {similarity:.4f} to the nearest  {short_id(item)}  {source}"))
    print(f"{len(found.exact)} groups of copies, {len(found.near)} of near copies (similarity {config.threshold:g} or more)")
