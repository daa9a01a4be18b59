"""How does the speed of extraction grow with images, tokens and the size of the model, beside plain loops, and what memory does it take?

images: `bigr extract` of JPEG files (made here, 64 x 64 pixels) with `bigr_nano.fashion_mnist`, beside a plain loop: torch's DataLoader
over the files, Pillow and the same timm transform, `model(images)`, one `numpy.save`. Both give the same features, in the same precision,
from listing the folder to the finished files; each run is a process of its own. tokens and models: codes to features, ours beside
plain_bigr.py, calls alternating. Runs of several calls add up in the same JSON, and medians are taken over all of them.

    python benchmarks/speed_growth.py --sizes 200 2000
    python benchmarks/speed_growth.py --only images --sizes 20000 --rounds 1
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from bigr_features.evaluate.reports import environment, write_json

PARTS = ("images", "tokens", "models")
SIZES = (200, 2_000, 20_000)
MODEL = "bigr_nano.fashion_mnist"
SIDE = 64  # pixels of the JPEG files
TOKENS = {64: 32, 256: 8, 1024: 2}  # images of a batch, by tokens an image
MODELS = {"bigr_nano": {}, "width 256": {"width": 256, "num_heads": 4}, "width 512": {"width": 512, "num_heads": 8}}
LOOPS = ("plain loop", "bigr extract")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="numbers of images (default: 200 2000 20000)")
    parser.add_argument("--loops", nargs="+", choices=LOOPS, default=LOOPS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the model (default: %(default)s)")
    parser.add_argument("--files", type=Path, help="folder to keep the JPEG files in (default: a temporary one)")
    parser.add_argument("--out", type=Path, default=Path("runs/speed"), help="folder for the JSON (default: %(default)s)")
    args = parser.parse_args()
    if min(args.rounds, args.threads, *args.sizes) < 1:
        parser.error("every number must be 1 or more")
    path = args.out / "speed_growth.json"
    kept = json.loads(path.read_text()) if path.is_file() else {}
    runs, rows = kept.get("runs", []), {part: kept.get(part, []) for part in PARTS[1:]}
    for part in args.only:
        if part != "images":
            rows[part] = growth(part, args.rounds, args.threads)
            continue
        with tempfile.TemporaryDirectory() as folder:
            for size in args.sizes:
                for number in range(args.rounds):
                    for loop in args.loops[:: 1 if number % 2 else -1]:
                        runs.append(measured(loop, make_jpegs((args.files or Path(folder)) / str(size), size), args.threads))
                        print(runs[-1], flush=True)
    protocol = {
        "model": MODEL, "pixels": SIDE, "precision": "fp32", "batch_size": 64, "features": "mean over tokens after the feature layer",
        "num_workers": "plain loop 0, bigr extract auto",
    }  # fmt: skip
    result = {
        "benchmark": "speed_growth",
        "protocol": protocol,
        "runs": runs,
        "images": summary(runs),
        **rows,
        "environment": environment(),
    }
    write_json(path, result)
    for row in result["images"]:
        print(row)
    for part in PARTS[1:]:
        for row in rows[part]:
            print(f"{part:<8}{row['what']:<28}{row['variant']:<8}{1e3 * row['seconds_per_image']:>9.2f} ms{row['ratio']:>7.2f}")


def summary(runs: list[dict]) -> list[dict]:
    """Medians of each number of images, threads and loop, and speed beside the plain loop."""
    rows = []
    for size, threads in sorted({(run["images"], run["threads"]) for run in runs}):
        speeds = {}
        for loop in LOOPS:
            here = [run for run in runs if (run["images"], run["threads"], run["loop"]) == (size, threads, loop)]
            if not here:
                continue
            speeds[loop] = size / statistics.median(run["seconds"] for run in here)
            row = {"images": size, "threads": threads, "loop": loop, "runs": len(here), "images_per_second": speeds[loop]}
            row["images_per_cpu_second"] = size / statistics.median(run["cpu_seconds"] for run in here)
            row["of_plain"] = speeds[loop] / speeds[LOOPS[0]] if LOOPS[0] in speeds else None
            row |= {name: max(run[name] for run in here) for name in ("peak_mib", "beyond_first_shard_mib")}
            rows.append(row)
    return rows


def make_jpegs(folder: Path, count: int) -> Path:
    """A folder with so many JPEG files: pictures of the sample, enlarged and shifted."""
    from PIL import Image

    from bigr_features.data import load_sample

    if folder.is_dir() and len(list(folder.iterdir())) == count:
        return folder
    folder.mkdir(parents=True)
    pictures, draw = load_sample("fashion_mnist").train_images, np.random.default_rng(0)
    for i in range(count):
        left, top = draw.integers(0, 9, 2)
        large = Image.fromarray(pictures[i % len(pictures)]).resize((SIDE + 8, SIDE + 8), Image.Resampling.BICUBIC)
        large.crop((left, top, left + SIDE, top + SIDE)).convert("RGB").save(folder / f"{i:06d}.jpg", quality=90)
    return folder


def measured(loop: str, folder: Path, threads: int) -> dict:
    """Seconds and memory of one run, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(run, (loop, folder, threads))


def run(loop: str, folder: Path, threads: int) -> dict:
    import timm
    import torch

    import bigr_features  # noqa: F401  (registers the models)

    torch.set_num_threads(threads)
    model = timm.create_model(MODEL, pretrained=True, num_classes=0).eval()
    with tempfile.TemporaryDirectory() as out:
        first = FirstShard(Path(out) / "store")
        start = time.perf_counter(), cpu_seconds()
        (plain_loop if loop == LOOPS[0] else library)(model, folder, Path(out) / "store")
        seconds, cpu = time.perf_counter() - start[0], cpu_seconds() - start[1]
        found = {"loop": loop, "images": len(list(folder.iterdir())), "threads": threads, "seconds": seconds, "cpu_seconds": cpu}
        return found | {"peak_mib": peak_mib(), "beyond_first_shard_mib": peak_mib() - first.peak_mib()}


def cpu_seconds() -> float:
    """Of this process and of the worker processes that have ended."""
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


class FirstShard:
    """Notes the peak memory when the first shard of a store is there."""

    def __init__(self, store: Path):
        self.marker, self.peak = store / "shard_00000.json", 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self.marker.is_file():
            time.sleep(0.02)
        self.peak = peak_mib()

    def peak_mib(self) -> float:
        """At the first shard; of a loop without shards, now."""
        return self.peak or peak_mib()


def plain_loop(model, folder: Path, out: Path) -> None:
    import timm
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    class Pictures(Dataset):
        def __init__(self):
            self.paths = sorted(folder.glob("*.jpg"))
            self.transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))

        def __len__(self):
            return len(self.paths)

        def __getitem__(self, i):
            return self.transform(Image.open(self.paths[i]).convert("RGB"))

    with torch.inference_mode():
        features = [model(images).numpy() for images in DataLoader(Pictures(), batch_size=64)]
    out.mkdir()
    np.save(out / "features.npy", np.concatenate(features))


def library(model, folder: Path, out: Path) -> None:
    from bigr_features.features.extraction import ExtractionSettings, extract_to_store

    settings = ExtractionSettings(source=str(folder), layers=(model.feature_layer,), precision="fp32")
    extract_to_store(model, out, settings, progress=False)


def growth(part: str, rounds: int, threads: int) -> list[dict]:
    """Codes to features in fp32, ours beside the plain one, over numbers of tokens or sizes of the model."""
    import torch
    from speed import alternated, matmul_rate, pair, trunk_gmac

    torch.set_num_threads(threads)
    rate, rows = matmul_rate(torch.float32), []
    for what, config, images in configs(part):
        torch.manual_seed(0)
        ours, plain = (model.eval() for model in pair(config))
        codes, labels = codes_of(config, images)
        with torch.no_grad():
            cosine = torch.nn.functional.cosine_similarity(of_ours(ours, codes).mean(1), plain.hidden(codes, labels).mean(1)).min().item()
            calls = {"plain": lambda p=plain, c=codes, y=labels: p.hidden(c, y), "ours": lambda m=ours, c=codes: of_ours(m, c)}
            floor = trunk_gmac(config, images) / rate
            found = alternated(what, calls, rounds, dict.fromkeys(calls, floor), images=images, least_cosine=cosine)
        for row in found:
            peak = memory_of(part, what, row["variant"])
            rows.append(row | {"tokens": config.num_tokens, "seconds_per_image": row["cpu_seconds"] / images, "added_mib": peak})
    return rows


def configs(part: str):
    """What varies, the configuration and the images of a batch."""
    from bigr_features.models.presets import preset_configs

    quiet = {"residual_dropout": 0.0, "ffn_dropout": 0.0, "token_dropout": 0.0, "drop_path": 0.0}
    nano = replace(preset_configs("bigr_nano")[1], **quiet)
    if part == "tokens":
        return [(f"{n:,} tokens", replace(nano, grid_size=round(n**0.5)), images) for n, images in TOKENS.items()]
    return [(name, replace(nano.without_derived(), **changes), 16) for name, changes in MODELS.items()]


def codes_of(config, images: int):
    import torch

    return torch.randint(2, (images, config.num_tokens, config.code_dim)).float(), torch.full((images,), config.null_class)


def of_ours(model, codes):
    return model.hidden_states(codes, layers=[model.config.depth - 1])[0]


def memory_of(part: str, what: str, variant: str) -> float:
    """MiB that one call adds to the peak of a process that has the model already."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(added_by_a_call, (part, what, variant))


def added_by_a_call(part: str, what: str, variant: str) -> float:
    import torch
    from speed import pair

    torch.set_num_threads(1)
    _, config, images = next(found for found in configs(part) if found[0] == what)
    ours, plain = (model.eval() for model in pair(config))
    codes, labels = codes_of(config, images)
    before = peak_mib()
    with torch.no_grad():
        of_ours(ours, codes) if variant == "ours" else plain.hidden(codes, labels)
    return peak_mib() - before


if __name__ == "__main__":
    main()
