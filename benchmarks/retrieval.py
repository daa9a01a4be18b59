"""What does searching with fewer bytes cost? Quality, memory and speed of ways to find images of the same class.

Queries are the test images, the gallery is the training images. The layer is chosen on held-out training images; the test images are used
once. Without arguments it takes a few minutes on a CPU, on images that need no download.

    python benchmarks/retrieval.py
    python benchmarks/retrieval.py --data path/to/fashion_mnist --out benchmarks/results
    python benchmarks/retrieval.py --scale 1000000 --data path/to/fashion_mnist --out benchmarks/results

`--scale` adds an experiment: so many vectors of 1,024 features, made from real features plus noise; time to build, memory, speed.
`--life 100000 1000000` adds another: opening, adding to and removing from a gallery, beside LanceDB and hnswlib (pip install both).
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import timm
import torch
from retrieval_life import ADDED, HNSW, REPEATS, WIDTH, life_part
from retrieval_scale import SCALE_WIDTH, print_scale, scale_rows, speed

import bigr_features  # noqa: F401  (registers the models)
from bigr_features.checkpoints import fingerprint
from bigr_features.data import load_sample, open_images
from bigr_features.evaluate.reports import array_hash, environment, write_json
from bigr_features.evaluate.retrieval import average_precision, evaluate_retrieval, mean_interval, rank_all, relevance
from bigr_features.features.extract import extract_features
from bigr_features.features.inputs import model_inputs
from bigr_features.functional.packing import pack_bits
from bigr_features.functional.vectors import unit_length
from bigr_features.nearest.binarize import fit_binarizer
from bigr_features.nearest.index import BitIndex, VectorIndex
from bigr_features.nearest.search import Searcher

log = logging.getLogger("retrieval")

CUT = 100  # ranks of mAP@100, which indexes can be asked for
SHORTLISTS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5)  # shares of the gallery
PACKAGES = ("bigr-features", "torch", "timm", "numpy", "faiss-cpu")
PEERS = ("hnswlib", "lancedb")


def main() -> None:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("faiss").setLevel(logging.WARNING)
    import faiss

    torch.set_num_threads(args.threads)
    faiss.omp_set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = timm.create_model(args.model, pretrained=not args.random, num_classes=0).eval()
    weights = "random, never trained" if args.random else "trained"
    images, labels, dataset = load(args)
    features, bits = read(model, images)
    result = {
        "model": args.model,
        "weights": weights,
        "weights_sha256": fingerprint(model),
        "dataset": dataset,
        "threads": args.threads,
        "seed": args.seed,
    }
    if not args.scale_only:
        quality_part(images, features, bits, labels, result, weights, args)
    for count in args.life:
        life(features, count, result, args)
    if args.scale:
        rows = scale_rows(features, args)
        print_scale(rows, args)
        made = {
            "vectors": args.scale,
            "features": SCALE_WIDTH,
            "made": f"all layers side by side, cut to {SCALE_WIDTH}, plus {args.noise} standard deviations of noise",
            "queries": "made so of test images",
            "megabytes": "of the process's own memory (RssAnon) after building less before; mapped files are not counted",
            "effort": "re-ranked rows, or lists searched",
        }
        scale = {"benchmark": "retrieval_scale", **result, "protocol": made, "rows": rows, "environment": environment(PACKAGES)}
        write_json(args.out / "retrieval_scale.json", scale)
        print(f"wrote {args.out / 'retrieval_scale.json'}")


def quality_part(images: dict, features: dict, bits: dict, labels: dict, result: dict, weights: str, args: argparse.Namespace) -> None:
    """The layer, the table, the picture."""
    layers = layer_scores(features["train"], labels["train"], args.seed)
    layer = max(layers, key=layers.get)
    rows, curve = quality_rows(images, {part: features[part][layer] for part in features}, bits, labels, args)
    print_rows(rows, curve, layer, args.model, weights, result["dataset"])
    protocol = {
        "queries": "test images",
        "gallery": "training images",
        "layer": layer,
        "chosen": "highest mAP of up to 1,000 training images among the others",
        "held_out_map_of_layers": layers,
        "mAP": "over the whole ranking, ties in random order; interval: 95 % bootstrap over queries",
        "bytes": "of the index in memory, for one image",
        "latency": "median of one query at a time, k = 10; queries/s: 256 at a time",
    }
    path = args.out / f"retrieval_{result['dataset']['name']}"
    quality = {"benchmark": "retrieval", **result, "protocol": protocol, "rows": rows, "two_stage_curve": curve}
    write_json(path.with_suffix(".json"), {**quality, "environment": environment(PACKAGES)})
    plot(rows, curve, result["dataset"], weights, path.with_suffix(".png"))
    print(f"wrote {path}.json and .png")


def life(features: dict, count: int, result: dict, args: argparse.Namespace) -> None:
    """Our gallery, LanceDB and hnswlib at a number of vectors, and flat search beside faiss."""
    made = {
        "features": args.width,
        "made": f"all layers side by side, cut to {args.width}, plus {args.noise} standard deviations of noise; "
        "beyond 200,000 kept as float16",
        "open": f"median of {REPEATS}, files in the system's cache",
        "add, remove": f"{ADDED} rows as one change that is on disk at the end, median of 3; hnswlib writes its whole file, once",
        "megabytes": "of the process's own memory (RssAnon) after opening and one search, less before; mapped files are not counted, "
        "nor what is put where building in the same process has freed memory",
        "effort": "the least with recall@10 of 0.95: candidates (HNSW), lists (IVF; LanceDB re-ranks 10 k), or re-ranked rows (two stages)",
        "speed": "median of one query at a time; queries/s: 256 at a time, k = 10",
        "hnswlib": HNSW,
        "beside_faiss": "flat gallery and faiss.IndexFlatIP of the same normalised array in turn; medians, and the median ratio of pairs",
    }
    path = args.out / f"retrieval_life_{count}.json"

    def save(rows: list[dict], beside: dict) -> None:
        content = {"benchmark": "retrieval_life", **result, "vectors": count, "protocol": made, "rows": rows, "beside_faiss": beside}
        load = {"load": f"the machine had other work: {os.getloadavg()[2]:.1f} runnable processes in the last 15 minutes"}
        write_json(path, {**content, "environment": environment((*PACKAGES, *PEERS)) | load})

    life_part(features, count, args, save)
    print(f"wrote {path}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bigr_nano.fashion_mnist", help="name of a BiGR model (default: %(default)s)")
    parser.add_argument("--random", action="store_true", help="leave the weights random, as a baseline")
    parser.add_argument(
        "--source",
        "--data",
        dest="data",
        help="images with splits train and test, as `bigr` takes them (default: the sample of Fashion-MNIST)",
    )
    parser.add_argument("--queries", type=int, help="take so many test images, at random (default: all)")
    parser.add_argument("--images", type=int, help="take so many training images, at random (default: all)")
    parser.add_argument("--scale", type=int, default=0, help="number of vectors of the scale experiment (default: none)")
    parser.add_argument("--life", type=int, nargs="*", default=[], help="numbers of vectors of the experiment with LanceDB and hnswlib")
    parser.add_argument("--width", type=int, default=WIDTH, help="features of the vectors of --life (default: %(default)s)")
    parser.add_argument("--scale-only", action="store_true", help="leave the first experiment out")
    parser.add_argument(
        "--noise", type=float, default=0.3, help="noise of --scale, in standard deviations of a feature (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=1, help="time each speed so long (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/retrieval"), help="folder for JSON and picture (default: %(default)s)")
    args = parser.parse_args()
    if args.scale_only and not (args.scale or args.life):
        parser.error("--scale-only leaves nothing to do without --scale or --life")
    return args


# ------------------------------------------------------------------------------------------------------------------------ features


def load(args: argparse.Namespace) -> tuple[dict, dict, dict]:
    """Images (n, H, W) and labels by split, and what they are."""
    if args.data is None:
        sample = load_sample("fashion_mnist")
        images = {"train": sample.train_images, "test": sample.test_images}
        labels = {"train": sample.train_labels, "test": sample.test_labels}
        name, source = "fashion_mnist_sample", sample.source
    else:
        sets = {split: open_images(args.data, split, size=28, in_chans=1) for split in ("train", "test")}
        images = {split: found.read(np.arange(len(found)))[0][..., 0] for split, found in sets.items()}
        labels = {split: found.labels for split, found in sets.items()}
        name = source = Path(args.data).name
    for split, count in (("train", args.images), ("test", args.queries)):
        if count:
            picked = np.sort(np.random.default_rng(args.seed).permutation(len(labels[split]))[:count])
            images[split], labels[split] = images[split][picked], labels[split][picked]
    sizes = {split: len(labels[split]) for split in labels}
    hashed = array_hash(images["train"], labels["train"], images["test"], labels["test"])
    return images, labels, {"name": name, "source": source, **sizes, "sha256": hashed}


def read(model: torch.nn.Module, images: dict) -> tuple[dict, dict]:
    """Pooled features of every layer, and packed token codes, by split."""
    features, bits = {}, {}
    for split, pixels in images.items():
        parts = [model_inputs(pixels[i : i + 2048], model) for i in range(0, len(pixels), 2048)]
        found = [extract_features(model, part, bits=True, progress=False) for part in parts]
        bits[split] = np.concatenate([pack_bits(part.pop("bits")[:, None]) for part in found])
        features[split] = {layer: np.concatenate([part[layer] for part in found]) for layer in found[0]}
        log.info("%s: features of %d images", split, len(pixels))
    return features, bits


def layer_scores(features: dict, labels: np.ndarray, seed: int) -> dict:
    """mAP by layer of up to 1,000 training images among the other ones."""
    order = np.random.default_rng(seed).permutation(len(labels))
    queries, gallery = np.split(order, [min(1000, len(order) // 4)])
    return {
        layer: evaluate_retrieval(x[queries], x[gallery], labels[queries], labels[gallery], seed=seed).mean_average_precision
        for layer, x in features.items()
    }


# ------------------------------------------------------------------------------------------------------------------------- quality


def quality_rows(images: dict, features: dict, bits: dict, labels: dict, args: argparse.Namespace) -> tuple[list[dict], list[dict]]:
    """A row for each way to search, and how re-ranking more brings two stages nearer to exact search."""
    pixels = {split: x.reshape(len(x), -1).astype(np.float32) / 255 for split, x in images.items()}
    width, count = features["train"].shape[1], len(labels["train"])
    itq, sign = (fit_binarizer(kind, features["train"][:50_000], seed=args.seed) for kind in ("itq", "sign"))
    half = fit_binarizer("itq", features["train"][:50_000], width // 2, seed=args.seed)
    made = {name: {split: b.bits(x) for split, x in features.items()} for name, b in (("itq", itq), ("sign", sign), ("half", half))}
    lists = 2 ** round(np.log2(count**0.5))
    rows = [
        row("raw pixels, flat", VectorIndex(pixels["train"].shape[1], "Flat"), pixels, labels, args),
        row("features, flat", VectorIndex(width, "Flat"), features, labels, args),
        row("features, HNSW32", VectorIndex(width, "HNSW32"), features, labels, args),
        row(
            f"features, IVF{lists},PQ{width // 2}x4", VectorIndex(width, f"IVF{lists},PQ{width // 2}x4", lists // 8), features, labels, args
        ),
        row("token codes, Hamming", BitIndex(bits["train"].shape[1], "BFlat"), bits, labels, args),
        row(f"features, sign, {width} bits", BitIndex(-(-width // 8), "BFlat"), made["sign"], labels, args),
        row(f"features, ITQ, {width} bits", BitIndex(-(-width // 8), "BFlat"), made["itq"], labels, args),
        row(f"features, ITQ, {half.num_bits} bits", BitIndex(-(-half.num_bits // 8), "BFlat"), made["half"], labels, args),
    ]
    for name, code in ((f"ITQ {width} bits + re-rank 1,000", made["itq"]), ("token codes + re-rank 1,000", bits)):
        rows.append(row(name, BitIndex(code["train"].shape[1], "BFlat"), code, labels, args, rerank=features))
    curve = two_stage_curve(made["itq"], features, labels, args)
    return rows, curve


def row(name: str, index: VectorIndex, rows: dict, labels: dict, args: argparse.Namespace, rerank: dict | None = None) -> dict:
    """Quality, memory and speed of an index of the training images, searched by the test images."""
    start = time.perf_counter()
    index.build(rows["train"])
    built = time.perf_counter() - start
    hamming, queries = index.metric == "hamming", rows["test"]
    metric = "two_stage" if rerank else index.metric
    floats = rerank["train"] if rerank else None if hamming else rows["train"]
    searcher = Searcher(metric, floats, rows["train"] if hamming else None, index)
    vectors = rerank["test"] if rerank else None if hamming else queries

    def search(which: slice, k: int) -> np.ndarray:
        part = None if vectors is None else vectors[which]
        return searcher.search(part, queries[which] if hamming else None, k, None, [np.empty(0, int)] * len(queries[which]))[1]

    found = np.concatenate([search(slice(i, i + 500), CUT) for i in range(0, len(queries), 500)])
    relevant = relevance(found, labels["test"], labels["train"])
    totals = np.bincount(labels["train"])[labels["test"]]
    cut = average_precision(relevant, totals, CUT)
    result = {
        "method": name,
        "map_at_100": float(cut.mean()),
        "map_at_100_interval": mean_interval(cut),
        "recall_at_1": float(relevant[:, 0].mean()),
        "recall_at_10": float(relevant[:, :10].any(1).mean()),
        "bytes": bytes_of(index) / len(index),
        "build_seconds": built,
        **speed(search, len(queries), args.seconds),
    }
    exhaustive = index.is_flat and rerank is None
    if exhaustive:
        scores = evaluate_retrieval(queries, rows["train"], labels["test"], labels["train"], metric=index.metric, seed=args.seed)
        result |= {"map": scores.mean_average_precision, "map_interval": scores.interval}
    log.info("  %-32s mAP@100 %.3f", name, result["map_at_100"])
    return result


def bytes_of(index: VectorIndex) -> int:
    """Size of an index as faiss writes it, which is what it holds in memory."""
    with tempfile.TemporaryDirectory() as folder:
        index.write(Path(folder) / "index")
        return (Path(folder) / "index").stat().st_size


def two_stage_curve(bits: dict, features: dict, labels: dict, args: argparse.Namespace) -> list[dict]:
    """mAP over the whole ranking, its first part ranked again by cosine, for longer and longer first parts."""
    count, queries = len(labels["train"]), unit_length(features["test"])
    gallery = unit_length(features["train"])
    sizes = [round(share * count) for share in SHORTLISTS]
    found = {size: [] for size in (0, *sizes)}
    for part, order in rank_all(bits["test"], bits["train"], metric="hamming", seed=args.seed):
        cosines = queries[part] @ gallery.T  # (q, n)
        for size in found:
            again = order
            if size:
                first = order[:, :size]
                best = np.argsort(-np.take_along_axis(cosines, first, 1), axis=1, kind="stable")
                again = np.concatenate([np.take_along_axis(first, best, 1), order[:, size:]], axis=1)
            found[size].append(average_precision(relevance(again, labels["test"][part], labels["train"])))
    return [{"shortlist": size, "map": float(np.concatenate(parts).mean())} for size, parts in found.items()]


# -------------------------------------------------------------------------------------------------------------------------- output


def print_rows(rows: list[dict], curve: list[dict], layer: int, model: str, weights: str, dataset: dict) -> None:
    print(f"\n{dataset['source']}: {dataset['test']} queries, {dataset['train']} images; {model}, weights: {weights}, block {layer}")
    print(f"{'':<32}{'mAP':>7}{'mAP@100':>9}{'recall@1':>10}{'@10':>7}{'bytes':>8}{'ms':>8}{'queries/s':>11}")
    for line in rows:
        whole = f"{line['map']:>7.3f}" if "map" in line else f"{'':>7}"
        print(
            f"{line['method']:<32}{whole}{line['map_at_100']:>9.3f}{line['recall_at_1']:>10.3f}{line['recall_at_10']:>7.3f}"
            f"{line['bytes']:>8.0f}{line['latency_ms']:>8.2f}{line['queries_per_second']:>11.0f}"
        )
    print("two stages, share of exact mAP by length of the shortlist:")
    exact = next(line["map"] for line in rows if line["method"] == "features, flat")
    print("   ".join(f"{point['shortlist']}: {point['map'] / exact:.3f}" for point in curve))


def plot(rows: list[dict], curve: list[dict], dataset: dict, weights: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained", width_ratios=[3, 2])
    colors = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442", "#999999", "#882255")
    for line, color, marker in zip(rows, colors, "osD^vP*XdH", strict=False):
        low, high = line["map_at_100_interval"]
        value = line["map_at_100"]
        left.errorbar(line["bytes"], value, [[value - low], [high - value]], fmt=marker, color=color, capsize=2, ms=8, label=line["method"])
    left.set(
        xscale="log", xlabel="bytes in memory an image", ylabel=f"mAP@{CUT}", title=f"{dataset['test']} queries, {dataset['train']} images"
    )
    left.grid(alpha=0.3)
    left.legend(fontsize=7.5, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    exact = next(line["map"] for line in rows if line["method"] == "features, flat")
    right.plot(
        [100 * point["shortlist"] / dataset["train"] for point in curve], [point["map"] / exact for point in curve], "o-", color="#0072B2"
    )
    right.axhline(0.98, color="#D55E00", linestyle="--", label="0.98")
    right.set(xlabel="re-ranked, % of the gallery", ylabel="mAP / exact mAP", title="ITQ bits, then cosine on a shortlist")
    right.grid(alpha=0.3)
    right.legend(fontsize=8)
    figure.suptitle(f"{dataset['name']}, weights: {weights}", fontsize=10)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
