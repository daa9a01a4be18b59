"""Do classes form clusters, and where? t-SNE of every block of bigr_nano, and of trained features beside pixels, bits and random weights.

Writes two pictures and the scores of every panel, in feature space and in the picture; with --timing also how long t-SNE takes. With no
arguments it runs in a few minutes on a CPU, on images that need no download.

    python benchmarks/cluster_plots.py
    python benchmarks/cluster_plots.py --timing 5000 --out runs/clusters
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import timm
import torch

import bigr_features  # noqa: F401  (registers the models)
from bigr_features.checkpoints import fingerprint
from bigr_features.data import SAMPLES, Sample, load_sample
from bigr_features.evaluate.reports import array_hash, environment, write_json
from bigr_features.features.extract import extract_features
from bigr_features.features.inputs import model_inputs
from bigr_features.plots import cluster_scores, embed, plot_features

VERSIONS = ("bigr-features", "torch", "timm", "numpy", "scikit-learn", "openTSNE", "matplotlib")


def main() -> None:
    args = parse_arguments()
    sample = load_sample(args.dataset)
    model = timm.create_model(args.model, pretrained=True, num_classes=0).eval()
    torch.manual_seed(args.seed)
    random = timm.create_model(args.model.partition(".")[0], num_classes=0).eval()
    chosen = np.sort(np.random.default_rng(args.seed).permutation(len(sample.test_labels))[: args.items])
    images, labels = sample.test_images[chosen], sample.test_labels[chosen]
    inputs = model_inputs(images, model)
    by_layer = extract_features(model, inputs, progress=False)
    layer = purest_layer(model, sample, args.items)
    settings = dict(class_names=sample.class_names, seed=args.seed, perplexity=args.perplexity)
    about = f"{sample.source}, test images"

    depth = {f"block {block}": x for block, x in by_layer.items()}
    note = f"{args.model}, mean over the image tokens after each block. {about}"
    rows = draw(depth, labels, args.out / f"clusters_depth_{args.dataset}", title="Classes over depth", note=note, **settings)
    models = {
        "raw pixels": images.reshape(len(images), -1).astype(np.float32) / 255,
        "tokenizer bits": encoded(model, inputs),
        f"random weights, block {layer}": extract_features(random, inputs, layers=[layer], progress=False)[layer],
        f"trained, block {layer}": by_layer[layer],
    }
    note = f"{args.model}; pixels and bits keep the layout of the image, block features are means over its tokens. {about}"
    rows += draw(models, labels, args.out / f"clusters_models_{args.dataset}", title="Pixels, bits, blocks", note=note, **settings)

    result = {
        "benchmark": "cluster_plots",
        "model": args.model,
        "weights_sha256": fingerprint(model),
        "dataset": {"name": sample.name, "source": sample.source, "test": len(labels), "sha256": array_hash(images, labels)},
        "protocol": {
            "features": "mean over image tokens of the residual stream after the block, null class, nothing hidden, no final norm",
            "layer_beside_pixels": f"block {layer}: highest 10-NN purity on {args.items} training images",
            "embedding": f"t-SNE (scikit-learn), perplexity {args.perplexity:g}, seed {args.seed}, 50 principal components, init PCA",
            "scores": "all items; features: before PCA; plane: in the picture",
        },
        "rows": rows,
        "timing": timing(model, sample, args) if args.timing else None,
        "environment": environment(VERSIONS),
    }
    write_json(args.out / f"clusters_{args.dataset}.json", result)
    print(f"wrote {args.out / f'clusters_{args.dataset}.json'} and two pictures")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bigr_nano.fashion_mnist", help="a BiGR model with its tag (default: %(default)s)")
    parser.add_argument("--dataset", choices=SAMPLES, default="fashion_mnist")
    parser.add_argument("--items", type=int, default=2000, help="test images drawn (default: %(default)s)")
    parser.add_argument("--perplexity", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0, help="seed of random weights, draw and t-SNE (default: %(default)s)")
    parser.add_argument("--timing", type=int, metavar="N", help="also time t-SNE of N items, both backends")
    parser.add_argument("--out", type=Path, default=Path("runs/cluster_plots"), help="folder (default: %(default)s)")
    return parser.parse_args()


@torch.no_grad()
def encoded(model: torch.nn.Module, inputs: torch.Tensor) -> np.ndarray:
    """Bits of all tokens (n, N K), bool."""
    return torch.cat([model.encode(batch).flatten(1) for batch in inputs.split(256)]).numpy().astype(bool)


def purest_layer(model: torch.nn.Module, sample: Sample, items: int) -> int:
    """The block whose features have the highest 10-NN purity on training images, so that the test images do not choose."""
    chosen = np.random.default_rng(1).permutation(len(sample.train_labels))[:items]
    features = extract_features(model, model_inputs(sample.train_images[chosen], model), progress=False)
    purity = {
        layer: cluster_scores(x, embed(x, "pca").points, sample.train_labels[chosen]).features.purity for layer, x in features.items()
    }
    return max(purity, key=purity.get)


def draw(features: dict[str, np.ndarray], labels: np.ndarray, path: Path, **settings) -> list[dict]:
    """Write the picture, print the scores, and return a row for each panel."""
    figure, embeddings, scores = plot_features(features, labels, backend="sklearn", **settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_suffix(".png"), dpi=150)
    for name in features:
        print(f"{name:<26}{scores[name].describe()}")
    shapes = {name: x.shape[1] for name, x in features.items()}
    return [
        {"picture": f"{path.name}.png", "features": name, "dimensions": shapes[name], "embedding": embeddings[name].settings}
        | {"scores": scores[name].to_dict()}
        for name in features
    ]


def timing(model: torch.nn.Module, sample: Sample, args: argparse.Namespace) -> dict:
    """Seconds of one t-SNE of training and test images, PCA included."""
    images = np.concatenate([sample.train_images, sample.test_images])[: args.timing]
    if len(images) < args.timing:
        raise SystemExit(f"--timing {args.timing}: {sample.name} has {len(images)} images; give at most that many.")
    layer = len(model.generator.trunk.blocks) - 1
    x = extract_features(model, model_inputs(images, model), layers=[layer], progress=False)[layer]
    seconds = {}
    for backend in ("sklearn", "opentsne"):
        embed(x[:200], perplexity=10, backend=backend)  # imports
        start = time.perf_counter()
        embed(x, perplexity=args.perplexity, seed=args.seed, backend=backend)
        seconds[backend] = time.perf_counter() - start
        print(f"t-SNE of {len(x):,} items, {backend}: {seconds[backend]:.1f} s")
    return {"items": len(x), "dimensions": x.shape[1], "seconds": seconds}


if __name__ == "__main__":
    main()
