"""Life of a gallery beside LanceDB and hnswlib: open, add, remove, memory and speed at equal recall; called by retrieval.py --life.

Every system has a process of its own, so that its memory can be seen, and the same vectors on disk.   n vectors, D features
"""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from retrieval_scale import memory, noisy

from bigr_features import Gallery
from bigr_features.evaluate.retrieval import index_recall
from bigr_features.functional.vectors import unit_length
from bigr_features.nearest.exact import nearest_by_cosine

log = logging.getLogger("retrieval")

WIDTH = 1024  # by default
ADDED = 1000  # rows that are added and removed
QUERIES = 512
AT_A_TIME = 256
K = 10
RECALL = 0.95  # the smallest effort that reaches it is reported
REPEATS = 7
SHORTLISTS = (100, 300, 1000, 3000, 10_000, 30_000)
EFFORTS = (2, 4, 8, 16, 32, 64, 128, 256, 512)
HNSW = {"M": 16, "ef_construction": 200}  # the defaults of hnswlib
PART = 20_000  # rows that are added at a time
LARGE = 200_000  # vectors from which they are kept as float16, and flat float32 and graphs are left out


def life_part(features: dict, count: int, args, save: Callable[[list[dict], dict], None]) -> None:
    """Flat search beside faiss alone, then a row for each system at `count` vectors; what is known so far is saved after each."""
    rows, beside = [], {}
    with tempfile.TemporaryDirectory(dir=args.out.parent if args.out.parent.is_dir() else None) as folder:
        file = Path(folder) / "vectors.npy"
        queries = make(file, features, count, args)
        vectors = np.load(file, mmap_mode="r")
        log.info("made %d vectors; searching them exactly", count)
        exact = nearest_by_cosine(queries, vectors[:count], K)[1]
        del vectors
        if count <= LARGE:
            systems = [GalleryLife("flat"), GalleryLife("IVF1024,SQfp16"), GalleryLife("HNSW16")]
            systems += [LanceLife(None), LanceLife("IVF_PQ"), HnswlibLife()]
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                beside = pool.apply(beside_faiss, (file, queries, count, args.threads))
        else:
            systems = [GalleryLife("flat", metric="two_stage", binarize="sign"), LanceLife("IVF_PQ"), GalleryLife("IVF1024,SQfp16")]
        for system in systems:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows.append(pool.apply(lived, (system, file, queries, exact, count, args.threads, args.seconds)))
            print_row(rows[-1])
            save(rows, beside)


def make(file: Path, features: dict, count: int, args) -> np.ndarray:
    """Write vectors, and as many more as are added later; returns queries. float16, as extraction stores features."""
    rng = np.random.default_rng(args.seed)
    width = min(len(np.concatenate([rows[0] for rows in features["train"].values()])), args.width)
    if width < args.width:
        raise ValueError(f"the layers of {args.model} have {width} features together; --life needs {args.width}, or a smaller --width.")
    base, other = (np.concatenate(list(features[split].values()), axis=1)[:, : args.width] for split in ("train", "test"))
    spread = args.noise * base.std(0)
    vectors = np.lib.format.open_memmap(file, "w+", np.float16 if count > LARGE else np.float32, (count + ADDED, args.width))
    for start in range(0, len(vectors), PART):
        part = vectors[start : start + PART]
        part[:] = noisy(base, rng.integers(len(base), size=len(part)), spread, rng)
    vectors.flush()
    return noisy(other, rng.integers(len(other), size=QUERIES), spread, rng)


# ------------------------------------------------------------------------------------------------------------------------- systems


class GalleryLife:
    """Our gallery with one kind of index; effort is lists or candidates, of two stages the rows that are ranked again."""

    def __init__(self, index: str, **settings):
        self.name, self.index, self.settings = ", ".join(["gallery", *settings.values(), index]), index, settings
        self.efforts = SHORTLISTS if settings else (None,) if index == "flat" else EFFORTS

    def build(self, folder: Path, vectors: np.ndarray, count: int) -> None:
        gallery = Gallery.create(folder / "gallery", index="flat", **self.settings)
        for start in range(0, count, PART):
            rows = vectors[start : min(start + PART, count)]
            gallery.add(rows, ids=ids(start, len(rows)))
        if self.index != "flat":
            gallery.reindex(index=self.index)
        gallery.close()

    def open(self, folder: Path) -> None:
        self.gallery = Gallery(folder / "gallery")

    def close(self) -> None:
        self.gallery.close()

    def set_effort(self, effort: int | None) -> None:
        searcher = self.gallery._searcher()
        if self.settings:
            searcher.shortlist = effort
        elif effort is not None:
            searcher.base.set_effort(effort)

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        return self.gallery.search(queries, k=k).ids.astype(np.int64)

    def add(self, rows: np.ndarray, names: list[str]) -> None:
        self.gallery.add(rows, ids=names)

    def remove(self, names: list[str]) -> None:
        self.gallery.remove(names)


class HnswlibLife:
    """hnswlib: an index in one file, whole in memory; labels are numbers, and a change counts when the file is written again."""

    name, efforts = "hnswlib", tuple(effort for effort in EFFORTS if effort >= K)

    def build(self, folder: Path, vectors: np.ndarray, count: int) -> None:
        import hnswlib

        index = hnswlib.Index("cosine", vectors.shape[1])
        index.init_index(max_elements=count + ADDED, **HNSW)
        for start in range(0, count, PART):
            stop = min(start + PART, count)
            index.add_items(vectors[start:stop], np.arange(start, stop))
        index.save_index(str(folder / "hnswlib.bin"))

    def open(self, folder: Path) -> None:
        import hnswlib

        self.path = str(folder / "hnswlib.bin")
        self.index = hnswlib.Index("cosine", self.width)
        self.index.load_index(self.path, max_elements=self.room)

    def close(self) -> None:
        del self.index

    def set_effort(self, effort: int) -> None:
        self.index.set_ef(effort)

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        return self.index.knn_query(queries, k)[0].astype(np.int64)

    def add(self, rows: np.ndarray, names: list[str]) -> None:
        self.index.add_items(rows, np.array(names, np.int64))
        self.index.save_index(self.path)

    def remove(self, names: list[str]) -> None:
        for name in names:
            self.index.mark_deleted(int(name))
        self.index.save_index(self.path)


class LanceLife:
    """A table of LanceDB, searched exactly or through its inverted lists with product quantisation; effort is lists, re-ranked tenfold."""

    def __init__(self, index: str | None):
        self.name, self.index = f"LanceDB, {index or 'no index'}", index
        self.efforts = (None,) if index is None else EFFORTS

    def build(self, folder: Path, vectors: np.ndarray, count: int) -> None:
        import lancedb

        database = lancedb.connect(str(folder / "lance"))
        table = database.create_table("gallery", data=tables_of(vectors, count))
        if self.index is not None:
            table.create_index(metric="cosine", index_type=self.index, vector_column_name="features")
        table.create_scalar_index("id")

    def open(self, folder: Path) -> None:
        import lancedb

        self.table, self.effort = lancedb.connect(str(folder / "lance")).open_table("gallery"), None

    def close(self) -> None:
        del self.table

    def set_effort(self, effort: int | None) -> None:
        self.effort = effort

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        query = self.table.search(list(queries) if len(queries) > 1 else queries[0], vector_column_name="features")
        query = query.distance_type("cosine").select(["id", "_distance"]).limit(k)
        if self.effort is not None:
            query = query.nprobes(self.effort).refine_factor(10)
        found = query.to_arrow()
        numbers = np.array(found["id"].to_pylist(), np.int64)
        if "query_index" not in found.column_names:
            return numbers[None]
        order = np.argsort(found["query_index"].to_numpy(), kind="stable")
        return numbers[order].reshape(len(queries), k)

    def add(self, rows: np.ndarray, names: list[str]) -> None:
        self.table.add(table_of(rows, names))

    def remove(self, names: list[str]) -> None:
        self.table.delete("id IN (" + ", ".join(f"'{name}'" for name in names) + ")")


def table_of(rows: np.ndarray, names: list[str]):
    import pyarrow as pa

    values = pa.array(np.asarray(rows, np.float32).ravel())
    return pa.table({"id": names, "features": pa.FixedSizeListArray.from_arrays(values, rows.shape[1])})


def tables_of(vectors: np.ndarray, count: int) -> Iterator:
    for start in range(0, count, PART):
        rows = vectors[start : min(start + PART, count)]
        yield from table_of(rows, ids(start, len(rows))).to_batches()


def ids(start: int, count: int) -> list[str]:
    """Numbers as ids of a fixed length."""
    return [f"{number:07d}" for number in range(start, start + count)]


# ------------------------------------------------------------------------------------------------------------------------ measures


def lived(system, file: Path, queries: np.ndarray, exact: np.ndarray, count: int, threads: int, seconds: float) -> dict:
    """Build a system in this process, then open, search, add and remove."""
    limit(threads)
    vectors, folder, system.room = np.load(file, mmap_mode="r"), Path(tempfile.mkdtemp(dir=file.parent)), count + ADDED
    system.width = vectors.shape[1]
    row = {"system": system.name, "vectors": count, "build_seconds": timed(lambda: system.build(folder, vectors, count))}
    row["disk_megabytes"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    openings = []
    for _ in range(REPEATS):
        openings.append(timed(lambda: system.open(folder)))
        system.close()
    before = memory()
    system.open(folder)
    row["open_seconds"] = float(np.median(openings))
    row["first_search_seconds"] = timed(lambda: system.search(queries[:1], K))
    row["megabytes"] = (memory() - before) / 1e6
    for effort in system.efforts:
        system.set_effort(effort)
        found = np.concatenate([system.search(queries[i : i + AT_A_TIME], K) for i in range(0, len(queries), AT_A_TIME)])
        recall = index_recall(found, exact)
        if recall >= RECALL:
            break
    if isinstance(system, GalleryLife) and system.index == "flat":
        row["lance_export_seconds"] = timed(lambda: system.gallery.to_lance(folder / "lance"))
    row |= {"effort": effort, "index_recall_at_10": recall, **speeds(system.search, queries, seconds)}
    names = ids(count, ADDED)
    adding, removing = [], []
    for _ in range(3):
        adding.append(timed(lambda: system.add(vectors[count:], names)))
        assert system.search(vectors[count : count + 1].astype(np.float32), 1)[0, 0] == count, "what was added is not found"
        removing.append(timed(lambda: system.remove(names)))
        assert system.search(vectors[count : count + 1].astype(np.float32), 1)[0, 0] < count, "what was removed is found"
        if isinstance(system, HnswlibLife):  # it cannot add what is only marked as deleted
            break
    row |= {"add_seconds": float(np.median(adding)), "remove_seconds": float(np.median(removing))}
    system.close()
    shutil.rmtree(folder)
    return row


def limit(threads: int) -> None:
    """Threads of faiss; LanceDB and hnswlib take all cores."""
    import faiss

    faiss.omp_set_num_threads(threads)


def timed(work: Callable) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def speeds(search: Callable, queries: np.ndarray, seconds: float) -> dict:
    """Median milliseconds of one query; queries a second, many at a time."""
    single = [timed(lambda i=i: search(queries[i : i + 1], K)) for i in range(30)]
    many, start = [], time.perf_counter()
    while len(many) < 3 or time.perf_counter() - start < seconds:
        many.append(timed(lambda: search(queries[:AT_A_TIME], K)))
    return {"latency_ms": 1000 * float(np.median(single)), "queries_per_second": AT_A_TIME / float(np.median(many))}


def beside_faiss(file: Path, queries: np.ndarray, count: int, threads: int) -> dict:
    """Flat search of a gallery, and of a faiss index of the same normalised array, in turn: median of the ratios of pairs."""
    import faiss

    limit(threads)
    vectors = np.load(file, mmap_mode="r")
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        GalleryLife("flat").build(Path(folder), vectors, count)
        gallery, index, unit = Gallery(Path(folder) / "gallery"), faiss.IndexFlatIP(vectors.shape[1]), unit_length(queries)
        index.add(unit_length(vectors[:count]))
        gallery.search(queries[:2], k=K)
        ratios = {}
        for batch, repeats in ((1, 40), (32, 20), (AT_A_TIME, 15)):
            pairs = []
            for i in range(repeats):
                ours, alone = partial(gallery.search, queries[:batch], k=K), partial(index.search, unit[:batch], K)
                first, second = (timed(work) for work in ((ours, alone) if i % 2 else (alone, ours)))
                pairs.append((first, second) if i % 2 else (second, first))
            times = np.array(pairs)
            ratios[str(batch)] = {
                "gallery_ms": 1000 * float(np.median(times[:, 0])),
                "faiss_ms": 1000 * float(np.median(times[:, 1])),
                "ratio": float(np.median(times[:, 0] / times[:, 1])),
            }
        gallery.close()
    return ratios


def print_row(row: dict) -> None:
    """One line for each system."""
    print(
        f"{row['system']:<28}{row['vectors']:>9,}  build {row['build_seconds']:.0f} s  open {row['open_seconds']:.4f} s  first search "
        f"{row['first_search_seconds']:.2f} s  {row['megabytes']:,.0f} MB  add {row['add_seconds']:.3f} s  remove "
        f"{row['remove_seconds']:.3f} s  recall {row['index_recall_at_10']:.3f} at {row['effort']}: {row['latency_ms']:.1f} ms, "
        f"{row['queries_per_second']:,.0f}/s",
        flush=True,
    )
