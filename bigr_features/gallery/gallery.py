"""A searchable set of images on disk: vectors, bits, ids, labels and an index that always belong together.   D features, K bits"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn

from ..data.pixels import thumbnail_of
from ..data.reopened import opened
from ..features.embedder import Embedder, embedding_of
from ..features.explanation import Explanation, explain
from ..nearest.settings import GallerySettings
from ..plots.cards import Card
from ..storage.export import to_fiftyone, to_lance, to_parquet
from .changes import Changes, check_free
from .hits import Hits
from .images import add_images
from .mixed import search_mixed
from .sheets import item_image

STORE_BATCH = 20_000


class Gallery(Changes):
    """A gallery, opened; `Gallery.create` makes an empty one, `Gallery.from_folder` one of images. A context manager.

    It is a snapshot: what other processes write is seen after `refresh`, or after a change of one's own.

    Parameters
    ----------
    folder : str or Path
    verify : bool, optional
        Compare the checksums of all vectors and the structure of the database now; by default if they are small.
    wait : float
        Seconds for which a change waits for another writer.

    Raises
    ------
    FileNotFoundError, ValueError, OSError
        If there is no gallery, it is of another layout, or a file is missing, cut short or damaged. A missing or damaged index is made
        again instead.
    """

    _embedder: Embedder | None = None

    @classmethod
    def from_folder(
        cls,
        source: str | Path,
        model: nn.Module | str,
        out: str | Path | None = None,
        *,
        layer: int | str | None = None,
        pooling: str = "mean",
        split: str = "train",
        progress: bool = True,
        **fields,
    ) -> Gallery:
        """A new gallery of the images of a folder, or of any other source of images.

        Parameters
        ----------
        source, split : str
            As in `open_images`.
        model : timm model, or the name of a pretrained one
        out : str or Path, optional
            New folder of the gallery; by default a temporary one, which is deleted at the end of the program.
        layer, pooling : int, str
            As for `Embedder`.
        progress : bool
            Show a progress bar.
        **fields
            Of `GallerySettings`.
        """
        settings = GallerySettings().replaced(**fields)
        embedder = Embedder.of(model, settings, layer=layer, pooling=pooling)
        temporary = tempfile.TemporaryDirectory(prefix="gallery_") if out is None else None
        folder = out if temporary is None else temporary.name
        assert folder is not None
        gallery = cls.create(folder, settings, embedding=embedder.description)
        gallery._embedder, gallery._temporary = embedder, temporary
        add_images(gallery, embedder, source, split, progress=progress)
        return gallery

    @classmethod
    def from_store(cls, folder: str | Path, store, feature: str | None = None, bits: str = "bits", **fields) -> Gallery:
        """A new gallery of everything in a feature store, which Ray workers may have written.

        Parameters
        ----------
        folder : str or Path
            New or empty.
        store : FeatureStore
        feature : str, optional
            Which of its features, such as "block5_mean"; not needed if bits are compared alone.
        bits : str
            Which of its features holds bits, for metric "hamming" or "two_stage" without `binarize`.
        **fields
            Of `GallerySettings`.
        """
        settings = GallerySettings().replaced(**fields)
        if settings.has_features and feature is None:
            raise ValueError(f"metric {settings.metric!r} compares features; give one of {', '.join(store.names)} as `feature`.")
        vectors = store.features(feature) if settings.has_features else None
        packed = store.features(bits, packed=True) if settings.takes_bits else None
        check_free(Path(folder))
        made_of = feature if settings.has_features else bits
        assert made_of is not None
        embedding = embedding_of(store.manifest, made_of)
        gallery = cls.create(folder, settings, embedding=embedding, class_names=store.class_names)

        def batches():
            for start in range(0, len(store), STORE_BATCH):
                part = slice(start, start + STORE_BATCH)
                rows = [None if given is None else given[part] for given in (vectors, packed)]
                labels = None if store.labels is None else store.labels[part]
                yield (*rows, store.ids[part].tolist(), labels, store.sources[part].tolist(), None, None, None, "refuse", None)

        gallery._add_batches(batches(), None)
        return gallery

    @property
    def embedder(self) -> Embedder:
        """The model that made the gallery, ready to read queries; set it where the gallery does not say how to make it."""
        if self._embedder is None:
            self._embedder = Embedder.from_description(self.embedding, self.settings)
        return self._embedder

    @embedder.setter
    def embedder(self, embedder: Embedder) -> None:
        self.check_embedding(embedder.description)
        self._embedder = embedder

    def search(self, features: Any = None, *, bits: np.ndarray | None = None, k: int = 10, **options) -> Hits:
        """The k nearest items of each query.

        Parameters
        ----------
        features : float array or tensor (Q, D), image, id, or a list of images or ids
            An image is a path, a Pillow image or uint8 pixels (H, W) or (H, W, 3), which the gallery's own model reads. Ids are of items
            of the gallery, which do not find themselves.
        bits : uint8 array (Q, ceil(K / 8))
            As for `add`.
        k : int
            At most the number of items to choose from.
        **options
            Of `Queries.search`: label, exclude, combine, embedding.

        Raises
        ------
        FileNotFoundError, TypeError, ValueError
            For a text that is neither a file nor an id, images and ids in one list, ..., and as `Queries.search`.
        """
        queries = features.detach().cpu().float().numpy() if isinstance(features, Tensor) else features
        if (isinstance(queries, np.ndarray) and _is_image(queries)) or not isinstance(queries, np.ndarray | type(None) | list | tuple):
            queries = [queries]
        if not isinstance(queries, list | tuple):
            return super().search(queries, bits=bits, k=k, **options)
        if not queries:
            raise ValueError("there is no query; give an image, an id, or a list of them.")
        if all(isinstance(query, np.ndarray) and query.ndim == 1 and query.dtype.kind == "f" for query in queries):
            return super().search(np.stack(queries), bits=bits, k=k, **options)
        kinds = {"image" if _is_image(query) else self._kind_of(query) for query in queries}
        if len(kinds) > 1:
            raise ValueError("the queries are images and ids; search by one kind at a time.")
        if kinds == {"id"}:
            cards = [Card(self.thumbnail(item), (f"query {item[:12]}",)) for item in queries]
            return self._with_cards(self.search_ids(queries, k=k, **options), cards, options)
        images = [Image.fromarray(query) if isinstance(query, np.ndarray) else opened(query) for query in queries]
        vectors = self.embedder.embed_images(images)
        hits = super().search(vectors.get("features"), bits=vectors.get("bits"), k=k, **{"embedding": self.embedder.description, **options})
        names = [Path(query).name if isinstance(query, str | Path) else "query" for query in queries]
        return self._with_cards(hits, [Card(thumbnail_of(image, 128), (name,)) for image, name in zip(images, names, strict=True)], options)

    def _with_cards(self, hits: Hits, cards: Sequence[Card], options: dict) -> Hits:
        cards = cards[:1] if options.get("combine") else cards
        return Hits(hits.ids, hits.scores, hits.labels, self, tuple(cards))

    def _kind_of(self, query) -> str:
        if not isinstance(query, str | Path):
            expected = "expected a float array (Q, D), an image, a path, an id, or a list of images or ids"
            raise TypeError(f"a query is a {type(query).__name__}; {expected}.")
        if Path(query).is_file():
            return "image"
        try:
            self._items.row_of(str(query))
        except ValueError as error:
            raise FileNotFoundError(f"{str(query)!r} is neither an image file nor an id ({error})") from error
        return "id"

    def explain(self, query: Any, hit: str) -> Explanation:
        """Why an item is found by a query, an image or an id: the tokens of both that are alike, as heat maps; a notebook shows them."""
        if not _is_image(query) and self._kind_of(query) == "id":
            image = item_image(self, query)
        else:
            image = Image.fromarray(query) if isinstance(query, np.ndarray) else opened(query)
        return explain(self.embedder, image, item_image(self, hit))

    to_parquet, to_lance, to_fiftyone, search_mixed = to_parquet, to_lance, to_fiftyone, search_mixed


def _is_image(query) -> bool:
    if isinstance(query, np.ndarray):
        return query.dtype == np.uint8 and (query.ndim == 2 or (query.ndim == 3 and query.shape[2] == 3))
    return isinstance(query, Image.Image)
