"""A gallery as a table for other programs: Parquet, and LanceDB for collections beyond memory.   n items, D features, K bits"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..storage.atomic import replacing
from .contents import Contents


def to_parquet(gallery: Contents, path: str | Path) -> None:
    """Write id, label, class_name, source, metadata (JSON), features (D floats) and bits (packed) as one Parquet file.

    Raises
    ------
    ImportError
        Without pyarrow.
    """
    pq = _pyarrow("parquet")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, pq.ParquetWriter(temporary, _schema(gallery)) as writer:
        for batch in _batches(gallery):
            writer.write_batch(batch)


def to_lance(gallery: Contents, uri: str | Path, table: str = "gallery"):
    """Write the items as a new table of a LanceDB folder or address; returns the table.

    By cosine, search it with `table.search(vector, vector_column_name="features").distance_type("cosine")`; by Hamming distance with
    `table.search(packed_bits, vector_column_name="bits").distance_type("hamming")`. `where("label = 3")` filters.

    Raises
    ------
    ImportError
        Without lancedb, the extra [lance].
    ValueError
        If there is such a table already, or the gallery is empty.
    """
    try:
        import lancedb
    except ImportError as error:
        raise ImportError("writing a LanceDB table needs lancedb: pip install bigr-features[lance]") from error
    if not len(gallery):
        raise ValueError(f"the gallery {gallery.folder} is empty; there is nothing to write.")
    database = lancedb.connect(str(uri))
    try:
        return database.create_table(table, data=_batches(gallery, lists=True), schema=_schema(gallery, lists=True))
    except (ValueError, OSError) as error:
        if "already exists" not in str(error):
            raise
        raise ValueError(f"{uri} has a table {table!r} already; drop it, or give another name.") from error


def to_fiftyone(gallery: Contents, folder: str | Path) -> Path:
    """FIFTYONE"""
    return Path(folder)


def _pyarrow(part: str):
    from importlib import import_module

    try:
        return import_module(f"pyarrow.{part}" if part else "pyarrow")
    except ImportError as error:
        raise ImportError("writing tables needs pyarrow, which comes with datasets: pip install pyarrow") from error


def _schema(gallery: Contents, lists: bool = False):
    """Columns; bits as bytes, or as lists of bytes, which LanceDB compares."""
    pa = _pyarrow("")
    columns = [("id", pa.string()), ("label", pa.int64()), ("class_name", pa.string()), ("source", pa.string()), ("metadata", pa.string())]
    if gallery.dim is not None:
        columns.append(("features", pa.list_(pa.float32(), gallery.dim)))
    if gallery.num_bits is not None:
        size = -(-gallery.num_bits // 8)
        columns.append(("bits", pa.list_(pa.uint8(), size) if lists else pa.binary(size)))
    about = {"embedding": gallery.embedding, "settings": gallery.settings.as_json(), "num_bits": gallery.num_bits}
    return pa.schema(columns, metadata={"bigr_features": json.dumps(about)})


def _batches(gallery: Contents, lists: bool = False) -> Iterator:
    pa = _pyarrow("")
    schema = _schema(gallery, lists)
    for batch in gallery.batches():
        items = batch["items"]
        columns = {name: [item[name] for item in items] for name in ("id", "label", "class_name", "source")}
        columns["metadata"] = [json.dumps(item["metadata"]) for item in items]
        arrays = [pa.array(columns[name], schema.field(name).type) for name in columns]
        if gallery.dim is not None:
            values = pa.array(np.asarray(batch["features"], np.float32).ravel())
            arrays.append(pa.FixedSizeListArray.from_arrays(values, gallery.dim))
        if gallery.num_bits is not None:
            bits = np.ascontiguousarray(batch["bits"])
            size = bits.shape[1]
            as_bytes = pa.array([row.tobytes() for row in bits], pa.binary(size))
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(bits.ravel()), size) if lists else as_bytes)
        yield pa.record_batch(arrays, schema=schema)
