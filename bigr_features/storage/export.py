"""A gallery for other programs: Parquet, LanceDB for collections beyond memory, FiftyOne.   n items, D features, K bits"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .atomic import replacing, write_atomically
from .json_files import json_bytes

PNG = b"\x89PNG"


def to_parquet(gallery, path: str | Path) -> None:
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


def to_lance(gallery, uri: str | Path, table: str = "gallery"):
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


def to_fiftyone(gallery, folder: str | Path) -> Path:
    """Write a data set that FiftyOne opens: `fiftyone.Dataset.from_dir(folder, dataset_type=fiftyone.types.FiftyOneDataset)`.

    Samples have filepath, gallery_id, ground_truth, metadata as `about`, and the features as `embedding`. Images stay where they are; one
    that is no file of its own is written below `data`, from its thumbnail.

    Parameters
    ----------
    gallery : Gallery
    folder : str or Path
        New or empty.

    Raises
    ------
    FileExistsError
        If there is something in the folder.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is there already, and not empty; give a new folder.")
    (folder / "data").mkdir(parents=True, exist_ok=True)
    about = {"embedding": gallery.embedding, "settings": gallery.settings.as_json()}
    metadata = {"name": gallery.folder.name, "media_type": "image", "info": {"bigr_features": about}}
    write_atomically(folder / "metadata.json", json_bytes(metadata))
    with replacing(folder / "samples.json") as temporary, temporary.open("w") as file:
        separator = '{"samples": ['
        for batch in gallery.batches():
            for i, item in enumerate(batch["items"]):
                vector = None if batch["features"] is None else batch["features"][i].astype(float).tolist()
                file.write(separator + "\n" + json.dumps(_sample(gallery, item, vector, folder), allow_nan=False))
                separator = ","
        file.write("\n]}\n" if separator == "," else '{"samples": []}\n')
    return folder


def _sample(gallery, item: dict, vector: list[float] | None, folder: Path) -> dict:
    path = Path(item["source"] or "")
    if not path.is_file():
        picture = gallery.thumbnail(item["id"]) or b""
        path = Path("data") / f"{hashlib.sha256(item['id'].encode()).hexdigest()[:32]}{'.png' if picture[:4] == PNG else '.jpg'}"
        (folder / path).write_bytes(picture)
    named = item["class_name"] or (None if item["label"] is None else str(item["label"]))
    truth: dict | None = None if named is None else {"_cls": "Classification", "tags": [], "label": named}
    sample = {"filepath": str(path), "tags": [], "metadata": None, "_media_type": "image", "gallery_id": item["id"], "ground_truth": truth}
    return {**sample, "about": item["metadata"], **({} if vector is None else {"embedding": vector})}


def _pyarrow(part: str):
    from importlib import import_module

    try:
        return import_module(f"pyarrow.{part}" if part else "pyarrow")
    except ImportError as error:
        raise ImportError("writing tables needs pyarrow, which comes with datasets: pip install pyarrow") from error


def _schema(gallery, lists: bool = False):
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


def _batches(gallery, lists: bool = False) -> Iterator:
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
