"""What do a million vectors cost? Time to build, memory and speed of indexes; called by retrieval.py --scale."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np

from bigr_features.evaluate.retrieval import index_recall
from bigr_features.nearest.binarize import fit_binarizer
from bigr_features.nearest.exact import nearest_by_cosine
from bigr_features.nearest.index import BitIndex, VectorIndex
from bigr_features.nearest.search import Searcher

log = logging.getLogger("retrieval")

SCALE_WIDTH = 1024
SCALE_QUERIES = 1000


def scale_rows(features: dict, args: argparse.Namespace) -> list[dict]:
    """Time to build, memory and speed of indexes of many vectors; each index in a process of its own, so that its memory can be seen."""
    rng = np.random.default_rng(args.seed)
    base, other = (np.concatenate(list(features[split].values()), axis=1)[:, :SCALE_WIDTH] for split in ("train", "test"))
    if base.shape[1] < SCALE_WIDTH:
        raise ValueError(f"the layers of {args.model} have {base.shape[1]} features together; --scale needs {SCALE_WIDTH}.")
    spread = args.noise * base.std(0)
    features.clear()
    with tempfile.TemporaryDirectory(dir=args.out.parent if args.out.parent.is_dir() else None) as folder:
        vectors_file, bits_file = Path(folder) / "vectors.npy", Path(folder) / "bits.npy"
        vectors = np.lib.format.open_memmap(vectors_file, "w+", np.float16, (args.scale, SCALE_WIDTH))
        bits = np.lib.format.open_memmap(bits_file, "w+", np.uint8, (args.scale, SCALE_WIDTH // 8))
        binarizer = fit_binarizer("sign", noisy(base, rng.integers(len(base), size=20_000), spread, rng))
        for start in range(0, args.scale, 20_000):
            end = min(start + 20_000, args.scale)
            rows = noisy(base, rng.integers(len(base), size=end - start), spread, rng)
            vectors[start:end], bits[start:end] = rows, binarizer.bits(rows)
        vectors.flush(), bits.flush()
        queries = noisy(other, rng.integers(len(other), size=SCALE_QUERIES), spread, rng)
        log.info("made %d vectors; searching them exactly", args.scale)
        exact = nearest_by_cosine(queries, vectors, 10)[1]
        del vectors, bits
        lists = min(2048, 2 ** round(np.log2(4 * args.scale**0.5)))
        plans = [
            (
                "BFlat",
                [("sign bits, Hamming, flat", "hamming", None), *(("+ re-rank from disk", "two_stage", n) for n in (100, 300, 1000))],
            ),
            (f"IVF{lists},SQfp16", [(f"IVF{lists}, 16 bits a feature", "cosine", n) for n in (2, 4, 8, 16)]),
        ]
        rows = []
        for plan in plans:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                files = vectors_file, bits_file
                rows += pool.apply(measure, (*plan, *files, queries, binarizer.bits(queries), exact, args.threads, args.seconds))
            log.info("  %s done", plan[0])
    return rows


def noisy(base: np.ndarray, picked: np.ndarray, spread: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Real features plus noise."""
    return base[picked] + spread * rng.standard_normal((len(picked), base.shape[1]), dtype=np.float32)


def measure(factory, ways, vectors_file, bits_file, queries, query_bits, exact, threads, seconds) -> list[dict]:
    """Build one index in this process, and search it in several ways."""
    import faiss

    faiss.omp_set_num_threads(threads)
    vectors, bits = np.load(vectors_file, mmap_mode="r"), np.load(bits_file, mmap_mode="r")
    index = BitIndex(bits.shape[1], factory) if factory.startswith("B") else VectorIndex(vectors.shape[1], factory)
    before, start = memory(), time.perf_counter()
    index.build(bits if index.metric == "hamming" else vectors)
    built, held = time.perf_counter() - start, memory() - before
    rows = []
    for name, metric, effort in ways:
        searcher = Searcher(metric, vectors, bits, index, effort if metric == "two_stage" else 1)
        if metric == "cosine":
            index.set_effort(effort)

        def search(which: slice, k: int, searcher=searcher) -> np.ndarray:
            none = [np.empty(0, int)] * len(queries[which])
            return searcher.search(queries[which], query_bits[which], k, None, none)[1]

        found = np.concatenate([search(slice(i, i + 250), 10) for i in range(0, len(queries), 250)])
        result = {"method": name, "effort": effort, "index_recall_at_10": index_recall(found, exact), "megabytes": held / 1e6}
        rows.append({**result, "build_seconds": built, **speed(search, len(queries), seconds)})
    return rows


def memory() -> int:
    """Bytes of this process's own memory; mapped files are not counted, for the system can drop them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


def speed(search, count: int, seconds: float) -> dict:
    """Median milliseconds of one query; queries a second, 256 at a time, of the clock and of one core's time."""
    single = []
    for i in range(min(100, count)):
        start = time.perf_counter()
        search(slice(i, i + 1), 10)
        single.append(time.perf_counter() - start)
    done, start, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        place = done % max(1, count - 256)
        search(slice(place, place + 256), 10)
        done += min(256, count)
    elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "latency_ms": 1000 * float(np.median(single)),
        "queries_per_second": done / elapsed,
        "queries_per_cpu_second": done / cpu,  # of one core, whatever else the machine does
    }


def print_scale(rows: list[dict], args: argparse.Namespace) -> None:
    print(f"\n{args.scale} vectors of {SCALE_WIDTH} features, {args.threads} threads")
    print(f"{'':<32}{'effort':>8}{'recall@10':>11}{'MB':>8}{'build s':>9}{'ms':>8}{'queries/s':>11}{'a core':>8}")
    for line in rows:
        print(
            f"{line['method']:<32}{line['effort'] or '':>8}{line['index_recall_at_10']:>11.3f}{line['megabytes']:>8.0f}"
            f"{line['build_seconds']:>9.0f}{line['latency_ms']:>8.2f}{line['queries_per_second']:>11.0f}"
            f"{line['queries_per_cpu_second']:>8.0f}"
        )
