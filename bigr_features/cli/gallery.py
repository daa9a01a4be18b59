"""`bigr index`, `bigr add` and `bigr remove`: galleries, image collections on disk that are searched by features or by bits."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..functional.printing import one_line
from .gallery_model import ReadingOptions, described, embedder_for, embedder_of
from .model_choice import model_for, warn_of_unseen

log = logging.getLogger(__name__)

DATABASE = "gallery.sqlite3"


@dataclass(frozen=True, kw_only=True)
class IndexConfig(ReadingOptions):
    """Make a gallery of the images of a folder or data set, for `bigr search`.

    Parameters
    ----------
    out : Path
        Folder of the gallery, new; or one that this command began with the same settings and was interrupted.
    source : str, optional
        Images: a folder (a subfolder for each class, or flat), a file or folder of parquet or arrow, "sample:fashion_mnist", or the id
        of a data set on the Hub.
    store : Path, optional
        Feature store to take instead, of `bigr extract`, also with Ray; then give --feature.
    feature : str, optional
        Name of a feature of the store, such as block5_mean.
    split : str
        Split of the data set.
    limit : int, optional
        Number of images to take, drawn by class; by default all.
    labels : bool
        Take labels from class folders or columns; with --no-labels there are none, and images beside class folders count too.
    pooling : str
        Pooling of the layer's tokens: mean, cls, max, concat or quarters.
    metric : str
        Comparison: cosine (of features), hamming (of bits) or two_stage (bits give a shortlist, cosine ranks it).
    binarize : str, optional
        Making of bits from features, for hamming and two_stage: sign or itq; by default the codes of the tokenizer of a BiGR model.
    num_bits : int, optional
        Number of bits that itq makes; by default as many as there are features.
    index : str
        Kind of index: flat (exact), auto (by size), or a faiss factory string such as HNSW32, IVF1024,SQfp16, BIVF256.
    effort : int, optional
        Lists searched for each query (nprobe of IVF; by default a 32nd of them, at least 8) or candidates kept (efSearch of HNSW; by
        default 128): more finds more, slower.
    shortlist : int
        Number of images that two_stage ranks by cosine.
    thumbnail_size : int
        Pixels per side of the pictures kept for result sheets; 0 for none.
    precision : str
        Precision of the forward pass: fp32, bf16, int8, or auto, the faster of the first two on this machine: bf16 only where features
        agree with those of fp32 on the first images, and never for bits or the head. The gallery keeps it, for what is added, too.
    commit_every : int
        Number of images after which the gallery is written, at least every minute; the same command goes on from there.
    """

    former_names = {"dataset": "source"}  # noqa: RUF012  (no setting)

    out: Path
    source: str | None = None
    store: Path | None = None
    feature: str | None = None
    split: str = "train"
    limit: int | None = None
    labels: bool = True
    pooling: Literal["mean", "cls", "max", "concat", "quarters"] = "mean"
    metric: Literal["cosine", "hamming", "two_stage"] = "cosine"
    binarize: Literal["sign", "itq"] | None = None
    num_bits: int | None = None
    index: str = "auto"
    effort: int | None = None
    shortlist: int = 1000
    thumbnail_size: int = 128
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    commit_every: int = 20_000


@dataclass(frozen=True, kw_only=True)
class AddConfig(ReadingOptions):
    """Add images to a gallery, with the model that made it; those that are there already are left out.

    Parameters
    ----------
    gallery : Path
        Folder of the gallery.
    sources : tuple of str
        Folders, image files or data sets.
    split : str
        Split of the data sets.
    limit : int, optional
        Number of images to take of each, drawn by class; by default all.
    labels : bool
        Take labels from class folders or columns; with --no-labels there are none, and images beside class folders count too.
    thumbnail_size : int
        Pixels per side of the pictures kept for result sheets; 0 for none.
    commit_every : int
        Number of images after which the gallery is written, at least every minute.
    """

    gallery: Annotated[Path, tyro.conf.Positional]
    sources: Annotated[tuple[str, ...], tyro.conf.Positional]
    split: str = "train"
    limit: int | None = None
    labels: bool = True
    thumbnail_size: int = 128
    commit_every: int = 20_000


@dataclass(frozen=True, kw_only=True)
class RemoveConfig:
    """Remove images from a gallery; all that are named, or none if one is unknown.

    Parameters
    ----------
    gallery : Path
        Folder of the gallery.
    ids : tuple of str
        Ids, or beginnings that belong to one image only.
    sources : tuple of str
        Images by file instead; a folder means all images below it.
    """

    gallery: Annotated[Path, tyro.conf.Positional]
    ids: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    sources: tuple[str, ...] = ()


def index(config: IndexConfig) -> None:
    """Run `bigr index`."""
    from ..data.sources import require_source
    from ..gallery import Gallery, GallerySettings
    from ..gallery.images import first_images

    if (config.source is None) == (config.store is None):
        raise ValueError("give --source with images, or --store with a feature store: one of them.")
    fields = {name: getattr(config, name) for name in ("metric", "binarize", "num_bits", "index", "effort", "shortlist")}
    settings = GallerySettings(**fields)
    if config.store is not None:
        from ..features.store import FeatureStore

        gallery = Gallery.from_store(config.out, FeatureStore(config.store), config.feature, **fields)
        print(described(gallery))
        return
    assert config.source is not None
    require_source(config.source, config.split)
    embedder = embedder_of(config, settings, model_for(config.model, config.source, config.split), config.layer, config.pooling)
    embedder.check_index()
    if (config.out / DATABASE).is_file():
        gallery = _begun(config, settings, embedder)
    else:
        first = partial(first_images, config.source, config.split, embedder, config.limit, config.labels)
        embedder.choose_precision(config.precision, first)
        # many additions are cheap while the index is flat; it is chosen when all images are there
        gallery = Gallery.create(config.out, settings.replaced(index="flat"), embedding=embedder.description)
    try:
        _add(gallery, embedder, config.source, config)
    except (ValueError, OSError):
        if not len(gallery):
            gallery.close()
            _discard(config.out)
        raise
    if gallery.settings != settings and settings.index != "flat":
        gallery.reindex(index=settings.index)
    print(described(gallery))


def _begun(config: IndexConfig, settings, embedder):
    """A gallery that an earlier `bigr index` left unfinished, or finished; FileExistsError if it was made otherwise."""
    from ..gallery import Gallery

    gallery = Gallery(config.out)
    if gallery.settings not in (settings, settings.replaced(index="flat")):
        found = gallery.settings.as_json()
        found |= {"index": settings.index} if found["index"] == "flat" else {}  # of a gallery that is not finished
        from ..functional.checks import differences

        differing = "; ".join(differences(settings.as_json(), found))
        raise FileExistsError(f"{config.out} holds a gallery of other settings: {differing}. Give another --out, or `bigr add`.")
    recorded = (gallery.embedding or {}).get("dtype") or "fp32"
    embedder.set_precision(recorded if config.precision == "auto" else config.precision)
    gallery.check_embedding(embedder.description)
    log.info("%s is there already, with %d images; going on", config.out, len(gallery))
    return gallery


def _discard(folder: Path) -> None:
    """Delete the empty gallery that a failed `bigr index` has begun."""
    for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"):
        (folder / name).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def add(config: AddConfig) -> None:
    """Run `bigr add`."""
    from ..gallery import Gallery

    gallery = Gallery(config.gallery)
    embedder = embedder_for(gallery, config)
    embedder.set_precision(embedder.dtype)  # says where that is slow here
    for source in config.sources:
        _add(gallery, embedder, source, config)
    print(described(gallery))


def remove(config: RemoveConfig) -> None:
    """Run `bigr remove`."""
    from ..gallery import Gallery

    gallery = Gallery(config.gallery)
    if not config.ids and not config.sources:
        raise ValueError("give the ids of the images to remove, or --sources with files or folders.")
    ids = gallery.resolve(config.ids)
    for source in config.sources:
        path = str(Path(source).resolve())
        found = [item["id"] for item in gallery.items() if f"{item['source']}/".startswith(f"{path}/")]
        if not found:
            raise ValueError(f"no image of the gallery comes from {path}.")
        ids += found
    print(f"removed {gallery.remove(ids)}; {described(gallery)}")


def _add(gallery, embedder, source: str, config) -> None:
    """Add a source, and say what became of its images."""
    from ..data.sources import open_items
    from ..gallery.images import add_images

    made = embedder.description
    own_weights = made["weights"] != "pretrained"
    warn_of_unseen(embedder.model, made["model"], own_weights, open_items(source, config.split, config.labels))
    report = add_images(
        gallery, embedder, source, config.split, limit=config.limit, labelled=config.labels, batch_size=config.batch_size,
        commit_every=config.commit_every, thumbnail_size=config.thumbnail_size, num_workers=config.num_workers,
    )  # fmt: skip
    counts = f"{report.known} there already, {len(report.duplicates)} copies, {len(report.skipped)} unreadable"
    print(one_line(f"{source}: {len(report.ids)} added, {counts}"))
    for new, first in list(report.duplicates.items())[:10]:
        print(one_line(f"  copy: {gallery.item(new)['source']} = {gallery.item(first)['source'] if first in gallery else first}"))
    for name, reason in report.skipped[:10]:
        print(one_line(f"  unreadable: {name} ({reason})"))
    rest = max(0, len(report.duplicates) - 10), max(0, len(report.skipped) - 10)
    if any(rest):
        print(f"  and {rest[0]} more copies, {rest[1]} more unreadable ones")
