"""How exact and how large is feature extraction with a big model? Cosine to float64, and peak memory.

One image, batch 1, random weights (seeded), each precision in a process of its own, so that its peak memory is its own.

    python benchmarks/precision.py
    python benchmarks/precision.py --model bigr_xl --out runs
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from pathlib import Path

import numpy as np

from bigr_features.evaluate.reports import environment, write_json

PRECISIONS = ("float64", "float32", "bfloat16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bigr_l")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/precision"), help="folder for the JSON (default: %(default)s)")
    args = parser.parse_args()

    context = multiprocessing.get_context("spawn")
    rows = {}
    for precision in PRECISIONS:
        with context.Pool(1) as pool:
            rows[precision] = pool.apply(measure, (args.model, precision, args.seed))
    exact = rows["float64"]
    results = []
    print(f"{args.model}, one image\n{'precision':<10}{'cosine to float64':>20}{'bits that differ':>18}{'seconds':>9}{'peak GiB':>10}")
    for precision, row in rows.items():
        feature, reference = row["feature"], exact["feature"]
        cosine = float(feature @ reference / np.linalg.norm(feature) / np.linalg.norm(reference))
        differing = float(np.mean(row["codes"] != exact["codes"]))
        results.append(
            {
                "precision": precision,
                "cosine_to_float64": min(cosine, 1.0),
                "bits_differing": differing,
                "seconds": row["seconds"],
                "peak_memory_gib": row["peak_memory_gib"],
            }
        )
        print(f"{precision:<10}{cosine:>20.9f}{differing:>17.3%} {row['seconds']:>8.2f}{row['peak_memory_gib']:>10.2f}")
    protocol = {
        "input": "one image of smooth colour noise, pixels in [0, 1]",
        "weights": "random, official initialisation",
        "peak memory": "largest resident set of the process, interpreter and libraries included; generative parts kept",
        "seed": args.seed,
    }
    result = {"benchmark": "precision", "model": args.model, "protocol": protocol, "rows": results, "environment": environment()}
    write_json(args.out / "precision.json", result)
    print(f"wrote {args.out / 'precision.json'}")


def measure(name: str, precision: str, seed: int) -> dict:
    """Pooled feature, codes, time and peak memory of one image in one precision."""
    import timm
    import torch
    import torch.nn.functional as F

    import bigr_features  # noqa: F401  (registers the models)

    torch.manual_seed(seed)
    model = timm.create_model(name, num_classes=0).eval()
    side = model.img_size
    noise = torch.rand(1, model.in_chans, 16, 16, generator=torch.Generator().manual_seed(seed))
    dtype = getattr(torch, precision)
    model, image = model.to(dtype), F.interpolate(noise, size=side, mode="bicubic").clamp(0, 1).to(dtype)
    with torch.inference_mode():
        start = time.perf_counter()
        feature = model(image)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
        codes = model.encode(image)
    return {
        "feature": feature[0].double().numpy(),
        "codes": codes[0].double().numpy() > 0.5,
        "seconds": seconds,
        "peak_memory_gib": peak,
    }


if __name__ == "__main__":
    main()
