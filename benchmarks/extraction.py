"""How fast are features extracted, and what does reading every layer cost beside reading the last one?

Images a second from the source to the store for `bigr_nano`; then, for a large model with random weights, one pass over a few images that
reads all layers against one that reads the last layer only, in turns, and the peak memory of each in a process of its own. Costs are
compared in CPU seconds of one thread, which other programs on the machine disturb little; wall-clock times stand beside them.

    python benchmarks/extraction.py
    python benchmarks/extraction.py --model bigr_xl --images 4 --out runs
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bigr_features.evaluate.reports import environment, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bigr_l", help="model of the sweep over layers (default: %(default)s)")
    parser.add_argument("--images", type=int, default=8, help="images of the sweep (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=4, help="images per batch of the sweep (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of either pass, of which the median counts (default: %(default)s)")
    parser.add_argument("--nano-images", type=int, default=1000, help="images of the sample, for bigr_nano (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/extraction"), help="folder for the JSON (default: %(default)s)")
    args = parser.parse_args()
    if min(args.images, args.batch_size, args.repeats, args.nano_images, args.threads) < 1:
        parser.error("every number must be 1 or more")

    print(f"bigr_nano, {args.nano_images} images of the sample, store included")
    speeds = []
    for name, settings in {
        "all 8 layers, mean": {},
        "layer 3, mean": {"layers": (3,)},
        "all 8 layers, mean, cls, max and concat, and bits": {"pooling": ("mean", "cls", "max", "concat"), "bits": True},
        "all 8 layers, mean, bf16": {"precision": "bf16"},
    }.items():
        row = {"features": name, **throughput(args.nano_images, settings, args.repeats, args.threads)}
        speeds.append(row)
        speed = f"{row['images_per_second']:>8.0f} images/s{row['images_per_cpu_second']:>8.0f} a CPU second"
        print(f"  {name:<52}{speed}{row['bytes_per_image']:>9.0f} bytes an image")

    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        wall, cpu = pool.apply(sweep, (args.model, args.images, args.batch_size, args.repeats, args.threads))
    passes = []
    print(f"{args.model}, {args.images} images, batch {args.batch_size}, random weights, median of {args.repeats}")
    for which in wall:
        with context.Pool(1) as pool:
            peak = pool.apply(peak_memory, (args.model, args.images, args.batch_size, which))
        medians = {"median_seconds": float(np.median(wall[which])), "median_cpu_seconds": float(np.median(cpu[which]))}
        passes.append({"layers": which, **medians, "seconds": wall[which], "cpu_seconds": cpu[which], "peak_memory_gib": peak})
        print(f"  {which:<8}{medians['median_cpu_seconds']:>8.2f} CPU s{medians['median_seconds']:>8.2f} s{peak:>8.2f} GiB")
    ratio = passes[0]["median_cpu_seconds"] / passes[1]["median_cpu_seconds"]
    wall_ratio = passes[0]["median_seconds"] / passes[1]["median_seconds"]
    in_turns = [all_layers / last for all_layers, last in zip(*cpu.values(), strict=True)]
    print(f"  all layers cost {ratio:.3f} of the last one (pairs {min(in_turns):.3f} to {max(in_turns):.3f}; wall clock {wall_ratio:.3f})")

    result = {
        "benchmark": "extraction",
        "protocol": {
            "throughput": "images decoded, transformed, run and written to a store with fsync, one process, median after a warm-up; "
            "weights of bigr_nano.fashion_mnist",
            "sweep": "extract_features with mean pooling, both passes in turns after one warm-up each, first of a pair alternating",
            "threads": args.threads,
            "peak memory": "largest resident set of a process that does only this pass; interpreter, libraries and model included",
        },
        "throughput": {"model": "bigr_nano.fashion_mnist", "images": args.nano_images, "batch_size": 64, "rows": speeds},
        "sweep": {
            "model": args.model,
            "images": args.images,
            "batch_size": args.batch_size,
            "passes": passes,
            "ratio_of_median_cpu_seconds": ratio,
            "ratio_of_median_seconds": wall_ratio,
            "ratios_of_pairs": in_turns,
        },
        "environment": environment(),
    }
    write_json(args.out / "extraction.json", result)
    print(f"wrote {args.out / 'extraction.json'}")


def throughput(images: int, settings: dict, repeats: int, threads: int) -> dict:
    """Images a second of an extraction (median over repeats), and bytes of the store an image."""
    import timm
    import torch

    import bigr_features  # noqa: F401  (registers the models)
    from bigr_features.features.extraction import Extraction, ExtractionSettings

    torch.set_num_threads(threads)
    model = timm.create_model("bigr_nano.fashion_mnist", pretrained=True, num_classes=0)
    chosen = ExtractionSettings(source="sample:fashion_mnist", limit=images, **{"precision": "fp32", **settings})
    with tempfile.TemporaryDirectory() as folder:
        warm = ExtractionSettings(source="sample:fashion_mnist", limit=min(images, 64), **{"precision": "fp32", **settings})
        Extraction(model, Path(folder) / "warm", warm).run([0], progress=False)
        wall, cpu = [], []
        for repeat in range(repeats):
            store = Path(folder) / f"store_{repeat}"
            extraction = Extraction(model, store, chosen)
            start = time.perf_counter(), time.process_time()
            extraction.run(extraction.writer.pending(), progress=False)
            extraction.writer.finish()
            wall.append(time.perf_counter() - start[0])
            cpu.append(time.process_time() - start[1])
        size = sum(path.stat().st_size for path in store.iterdir())
    return {
        "images_per_second": images / float(np.median(wall)),
        "images_per_cpu_second": images / float(np.median(cpu)),
        "seconds": wall,
        "cpu_seconds": cpu,
        "bytes_per_image": size / images,
    }


def model_and_images(name: str, count: int):
    """A model with seeded random weights, and images of smooth colour noise."""
    import timm
    import torch
    import torch.nn.functional as F

    import bigr_features  # noqa: F401  (registers the models)

    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, generative=False, feature_layer=-1).eval()
    noise = torch.rand(count, model.in_chans, 16, 16, generator=torch.Generator().manual_seed(0))
    return model, F.interpolate(noise, size=model.img_size, mode="bicubic").clamp(0, 1)


def chosen_layers(which: str) -> int | None:
    """What `extract_features` takes for "all" and "last"."""
    return {"all": None, "last": -1}[which]


def sweep(name: str, count: int, batch_size: int, repeats: int, threads: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Wall-clock and CPU seconds of each pass, all layers and the last one, in turns."""
    import torch

    from bigr_features import extract_features

    torch.set_num_threads(threads)
    model, images = model_and_images(name, count)
    wall: dict[str, list[float]] = {"all": [], "last": []}
    cpu: dict[str, list[float]] = {"all": [], "last": []}
    for repeat in range(repeats + 1):
        for which in list(wall)[:: 1 if repeat % 2 else -1]:
            start = time.perf_counter(), time.process_time()
            extract_features(model, images, layers=chosen_layers(which), batch_size=batch_size, progress=False)
            if repeat:  # the first is the warm-up
                wall[which].append(time.perf_counter() - start[0])
                cpu[which].append(time.process_time() - start[1])
    return wall, cpu


def peak_memory(name: str, count: int, batch_size: int, which: str) -> float:
    """Largest resident set in GiB of a process that does one pass."""
    from bigr_features import extract_features

    model, images = model_and_images(name, count)
    extract_features(model, images, layers=chosen_layers(which), batch_size=batch_size, progress=False)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


if __name__ == "__main__":
    main()
