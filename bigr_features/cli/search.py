"""`bigr search`: what looks like this, in a gallery of images."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..functional.printing import one_line
from .classes import class_number
from .gallery_model import ModelOptions, embedder_for, how, short_id

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SearchConfig(ModelOptions):
    """Search a gallery by images, by ids of its own, or by a class.

    Parameters
    ----------
    gallery : Path
        Folder of the gallery.
    queries : tuple of Path
        Image files.
    ids : tuple of str
        Images of the gallery instead, by id or the beginning of one; they do not find themselves.
    by_class : str, optional
        Mean of a class instead, by name or label.
    k : int
        Number of results for each query.
    label : tuple of str
        Classes to search in, by name or label; by default all.
    combine : bool
        Search by all queries together, as one.
    sheet : Path, optional
        File for the results: a page (.html) or a contact sheet (.png).
    json : bool
        Print the results as JSON instead of lines: for each query its hits with rank, id, score, label, class_name and source.
    explain : bool
        Show in the sheet which parts of query and result are alike, as heat maps on both.
    """

    gallery: Annotated[Path, tyro.conf.Positional]
    queries: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    ids: tuple[str, ...] = ()
    by_class: str | None = None
    k: int = 10
    label: tuple[str, ...] = ()
    combine: bool = False
    sheet: Path | None = None
    json: bool = False
    explain: bool = False


def search(config: SearchConfig) -> None:
    """Run `bigr search`."""
    from ..gallery import Gallery

    ways = {"image files": bool(config.queries), "--ids": bool(config.ids), "--by-class": config.by_class is not None}
    if sum(ways.values()) != 1:
        raise ValueError(f"give one of {', '.join(ways)} to search by; {sum(ways.values())} were given.")
    if config.explain and (config.sheet is None or config.by_class is not None or config.combine):
        raise ValueError("--explain compares each query with its results: it needs --sheet, and image files or --ids without --combine.")
    gallery = Gallery(config.gallery)
    if not len(gallery):
        raise ValueError(f"the gallery {config.gallery} is empty; add images first.")
    label, embedder = [_label(name, gallery) for name in config.label] or None, None
    if config.by_class is not None:
        hits = gallery.search_class(_label(config.by_class, gallery), k=config.k, among=label)
    elif config.ids:
        hits = gallery.search_ids(config.ids, k=config.k, label=label, combine=config.combine)
    else:
        embedder = embedder_for(gallery, config)
        vectors = embedder.embed_images(config.queries)
        hits = gallery.search(**vectors, k=config.k, label=label, combine=config.combine, embedding=embedder.description)
    cards, labels = _query_cards(gallery, config)
    queries = [card.lines[0] for card in cards]
    if config.json:
        _print_json(gallery, hits, queries)
    else:
        _print_hits(gallery, hits, queries)
    if config.sheet is not None:
        from ..gallery.sheets import explained, item_image, results_of
        from ..plots.result_sheet import write_sheet

        results = results_of(gallery, hits, cards, labels)
        if config.explain:
            from ..data.reopened import opened

            images = [item_image(gallery, item) for item in config.ids] if config.ids else [opened(path) for path in config.queries]
            results = explained(gallery, embedder or embedder_for(gallery, config), results, hits, images)
        title = f"{len(gallery)} images searched by {gallery.settings.metric.replace('_', '-')} similarity"
        path = write_sheet(config.sheet, results, title, how(gallery))
        log.info("wrote %s", path) if config.json else print(f"wrote {path}")


def _query_cards(gallery, config: SearchConfig) -> tuple[list, list[int | None]]:
    """A card for each row of hits, and the class of its query, if known."""
    from ..data.pixels import thumbnail_of
    from ..data.reopened import opened
    from ..plots.cards import Card

    if config.by_class is not None:
        label = _label(config.by_class, gallery)
        number = gallery.class_names.index(label) if isinstance(label, str) else label
        return [Card(None, (f"mean of {config.by_class}",))], [number]
    if config.ids:
        items = [gallery.item(item) for item in config.ids]
        captions = [(f"query {short_id(item['id'])}", item["class_name"] or "") for item in items]
        cards = [Card(gallery.thumbnail(item["id"]), text, item["source"]) for item, text in zip(items, captions, strict=True)]
        labels = [item["label"] for item in items]
    else:
        cards = [Card(thumbnail_of(opened(path), 128), (one_line(path.name), "query"), str(path)) for path in config.queries]
        labels = [None] * len(cards)
    if config.combine and len(cards) > 1:
        first, shared = cards[0], labels[0] if len(set(labels)) == 1 else None
        return [Card(first.picture, (f"{len(cards)} queries together", first.lines[0]), first.link)], [shared]
    return cards, labels


def _label(name: str, gallery) -> int | str:
    """A class by name, in any case, or by number."""
    number, names = class_number(name, gallery.class_names), gallery.class_names or []
    return names[number] if number < len(names) else number


def _print_json(gallery, hits, queries: list[str]) -> None:
    from ..storage.json_files import json_bytes

    results = []
    for query, ids, scores in zip(queries, hits.ids, hits.scores, strict=True):
        items = [gallery.item(item) for item in ids]
        rows = [
            {"rank": rank, "id": about["id"], "score": float(score), **{name: about[name] for name in ("label", "class_name", "source")}}
            for rank, (about, score) in enumerate(zip(items, scores, strict=True), 1)
        ]
        results.append({"query": one_line(query), "hits": rows})
    content = {"gallery": str(gallery.folder), "metric": gallery.settings.metric, "results": results}
    print(json_bytes(content).decode(), end="")


def _print_hits(gallery, hits, queries: list[str]) -> None:
    for query, ids, scores in zip(queries, hits.ids, hits.scores, strict=True):
        print(one_line(query))
        for rank, (item, score) in enumerate(zip(ids, scores, strict=True), 1):
            about = gallery.item(item)
            named = about["class_name"] or ("" if about["label"] is None else str(about["label"]))
            print(f"{rank:>4}  {score:7.4f}  {short_id(item):<14}  {one_line(named):<14}  {one_line(about['source'] or '')}")
