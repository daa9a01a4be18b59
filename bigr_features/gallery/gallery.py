"""A searchable set of images on disk: vectors, bits, ids, labels and an index that always belong together.   D features, K bits"""

from __future__ import annotations

from pathlib import Path

from .changes import Changes, check_free
from .embedding import embedding_of
from .export import to_fiftyone, to_lance, to_parquet
from .settings import GallerySettings

STORE_BATCH = 20_000


class Gallery(Changes):
    """A gallery, opened. `Gallery.create` makes a new one, `Gallery.from_folder` one of a folder of images.

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
        embedding = embedding_of(store.manifest, feature if settings.has_features else bits)
        gallery = cls.create(folder, settings, embedding=embedding, class_names=store.class_names)

        def batches():
            for start in range(0, len(store), STORE_BATCH):
                part = slice(start, start + STORE_BATCH)
                rows = [None if given is None else given[part] for given in (vectors, packed)]
                labels = None if store.labels is None else store.labels[part]
                yield (*rows, store.ids[part].tolist(), labels, store.sources[part].tolist(), None, None, None, "refuse", None)

        gallery._add_batches(batches(), None)
        return gallery

    def to_parquet(self, path: str | Path) -> None:
        """Write ids, labels, sources, metadata, features and bits as one Parquet file; see `export.to_parquet`."""
        to_parquet(self, path)

    def to_lance(self, uri: str | Path, table: str = "gallery"):
        """Write the items as a table of LanceDB, for collections beyond memory; see `export.to_lance`."""
        return to_lance(self, uri, table)

    def to_fiftyone(self, folder: str | Path) -> Path:
        """Write the items as a data set of FiftyOne; see `export.to_fiftyone`."""
        return to_fiftyone(self, folder)
