"""Are the evaluators faster than scikit-learn, and do they give the same? Both sides in one run, on the same made-up features.

- Linear probe: a path of regularisations by LinearProbe's solver, beside as many fresh scikit-learn fits; single fits side by side.
- k-NN: neighbours of every query, beside KNeighborsClassifier(algorithm="brute", metric="cosine").

    python benchmarks/evaluators.py
    python benchmarks/evaluators.py --samples 4000 --features 128 --classes 10 --gallery 5000 --queries 500
    python benchmarks/evaluators.py --parts knn --out runs/evaluators
"""

from __future__ import annotations

import argparse
import logging
import os
import time
import warnings
from pathlib import Path

import numpy as np

log = logging.getLogger("evaluators")
PARTS = ("probe", "knn")


def main() -> None:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    set_threads(args.threads)
    from bigr_features.evaluate.reports import environment, write_json

    result = {
        "benchmark": "evaluators",
        "data": {
            "what": "class centres and variation on a low-rank subspace with falling spectrum, plus noise in all directions; float32",
            "features": args.features,
            "classes": args.classes,
            "rank": args.rank,
            "separation": args.separation,
            "seed": args.seed,
        },
        "threads": args.threads,
    }
    if "probe" in args.parts:
        result["probe"] = compare_probes(args)
    if "knn" in args.parts:
        result["knn"] = compare_neighbours(args)
    result["environment"] = environment(("bigr-features", "torch", "numpy", "scipy", "scikit-learn", "faiss-cpu"))
    name = "_".join(["evaluators", *(args.parts if len(args.parts) < len(PARTS) else [])])
    write_json(args.out / f"{name}.json", result)
    print_table(result)
    print(f"wrote {args.out / name}.json")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to compare (default: all)")
    parser.add_argument("--samples", type=int, default=50_000, help="training samples of the probe (default: %(default)s)")
    parser.add_argument("--test-samples", type=int, default=10_000, help="samples for the accuracies (default: %(default)s)")
    parser.add_argument("--gallery", type=int, default=60_000, help="items of the k-NN gallery (default: %(default)s)")
    parser.add_argument("--queries", type=int, default=10_000, help="k-NN queries (default: %(default)s)")
    parser.add_argument("--neighbors", type=int, default=20)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--rank", type=int, default=64, help="directions in which classes differ (default: %(default)s)")
    parser.add_argument(
        "--separation", type=float, default=0.9, help="distance of class centres, beside a spread of 2 (default: %(default)s)"
    )
    parser.add_argument("--Cs", type=float, nargs="+", default=np.logspace(-5, 0.5, 12).round(8).tolist(), help="path of regularisations")
    parser.add_argument("--sklearn-max-iter", type=int, default=100, help="scikit-learn's own default; fits that reach it are marked")
    parser.add_argument(
        "--tol", type=float, default=1e-4, help="tolerance of our objective, relative to its minimum (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/evaluators"), help="folder of the JSON (default: %(default)s)")
    return parser.parse_args()


def set_threads(threads: int) -> None:
    """The same number for torch, faiss, and the BLAS and OpenMP of NumPy, SciPy and scikit-learn."""
    os.environ.update({name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")})
    import faiss
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    threadpool_limits(threads)


def make_features(n: int, args: argparse.Namespace, draw: int) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 (n, D) and labels (n,); the same classes for every draw."""
    world = np.random.default_rng(args.seed)
    spectrum = np.linspace(2, 0.2, args.rank)[:, None]
    directions = world.standard_normal((args.rank, args.features)) / np.sqrt(args.rank) * spectrum
    centres = world.standard_normal((args.classes, args.rank)) * args.separation
    rng = np.random.default_rng((args.seed, draw))
    labels = rng.integers(0, args.classes, n)
    features = (centres[labels] + 2 * rng.standard_normal((n, args.rank))) @ directions
    return (features + 0.7 * rng.standard_normal((n, args.features))).astype(np.float32), labels


def compare_probes(args: argparse.Namespace) -> dict:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    from bigr_features.evaluate.arrays import StandardizedRows
    from bigr_features.evaluate.logistic import fit_path

    (X, y), (X_test, y_test) = make_features(args.samples, args, 0), make_features(args.test_samples, args, 1)
    scaler = StandardScaler().fit(X)
    Z, Z_test = scaler.transform(X), scaler.transform(X_test)

    def ours(Cs):
        start = time.perf_counter()
        fits = fit_path(StandardizedRows(X), y, args.classes, Cs, tol=args.tol)
        return fits, time.perf_counter() - start

    def theirs(C):
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fit = LogisticRegression(C=C, max_iter=args.sklearn_max_iter).fit(StandardScaler().fit_transform(X), y)
        return fit, time.perf_counter() - start

    path, seconds = ours(args.Cs)
    log.info("path of %d by our solver: %.1f s", len(path), seconds)
    singles = {C: ours([C])[1] for C in sorted(args.Cs)[:: max(1, len(args.Cs) // 3)]}
    rows = []
    for fit in path:
        reference, reference_seconds = theirs(fit.C)
        mine, other = fit.weight.numpy(), reference.coef_
        rows.append(
            {
                "C": fit.C,
                "objective": objective(mine, fit.bias.numpy(), Z, y, fit.C),
                "sklearn_objective": objective(other, reference.intercept_, Z, y, fit.C),
                "accuracy": accuracy(mine, fit.bias.numpy(), Z_test, y_test),
                "sklearn_accuracy": accuracy(other, reference.intercept_, Z_test, y_test),
                "iterations": fit.n_iter,
                "sklearn_iterations": int(reference.n_iter_.max()),
                "sklearn_stopped_early": int(reference.n_iter_.max()) >= args.sklearn_max_iter,
                "single_fit_seconds": singles.get(fit.C),
                "sklearn_seconds": reference_seconds,
            }
        )
        log.info("C %-10g %s", fit.C, {key: round(value, 5) for key, value in rows[-1].items() if isinstance(value, float)})
    seconds = min(seconds, ours(args.Cs)[1])
    total = sum(row["sklearn_seconds"] for row in rows)
    return {
        "samples": args.samples,
        "protocol": "times include standardising; scikit-learn: StandardScaler, LogisticRegression(C) with its default tolerance; "
        f"ours: tol={args.tol:g} of the objective, the better of two runs",
        "rows": rows,
        "path_seconds": seconds,
        "sklearn_seconds": total,
        "speedup": total / seconds,
        "worst_objective_ratio": max(row["objective"] / row["sklearn_objective"] for row in rows),
        "single_fit_speedups": [row["sklearn_seconds"] / row["single_fit_seconds"] for row in rows if row["single_fit_seconds"]],
    }


def objective(weight: np.ndarray, bias: np.ndarray, Z: np.ndarray, y: np.ndarray, C: float) -> float:
    """mean cross-entropy + |W|^2 / (2 n C) in float64, whoever fitted."""
    from scipy.special import logsumexp

    weight, total = weight.astype(np.float64), 0.0
    for start in range(0, len(Z), 10_000):
        logits, labels = Z[start : start + 10_000] @ weight.T + bias, y[start : start + 10_000]
        total += (logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]).sum()
    return float(total / len(Z) + (weight**2).sum() / (2 * len(Z) * C))


def accuracy(weight: np.ndarray, bias: np.ndarray, Z: np.ndarray, y: np.ndarray) -> float:
    return float(((Z @ weight.T + bias).argmax(1) == y).mean())


def compare_neighbours(args: argparse.Namespace) -> dict:
    from sklearn.neighbors import KNeighborsClassifier

    from bigr_features import KNNClassifier

    (X, y), (X_test, y_test) = make_features(args.gallery, args, 0), make_features(args.queries, args, 1)

    def timed(classifier):
        start = time.perf_counter()
        found = classifier.fit(X, y).kneighbors(X_test, args.neighbors)
        return found, time.perf_counter() - start

    probe = KNNClassifier(n_neighbors=args.neighbors)
    (similarities, indices), seconds = timed(probe)
    again = timed(probe)[1]
    reference = KNeighborsClassifier(args.neighbors, algorithm="brute", metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07))
    (distances, expected), reference_seconds = timed(reference)
    shared = np.array([len(np.intersect1d(mine, other)) for mine, other in zip(indices, expected, strict=True)]) / args.neighbors
    return {
        "gallery": args.gallery,
        "queries": args.queries,
        "neighbors": args.neighbors,
        "protocol": "time of fit and kneighbors; ours: the better of two runs",
        "seconds": min(seconds, again),
        "sklearn_seconds": reference_seconds,
        "speedup": reference_seconds / min(seconds, again),
        "same_neighbours": float(shared.mean()),
        "largest_similarity_difference": float(np.abs(similarities - (1 - distances)).max()),
        "searched_again_in_float32": probe._search.num_unproven,
        "accuracy": float(probe.score(X_test, y_test)),
        "sklearn_accuracy": float((reference.classes_[votes(expected, distances, y, args)] == y_test).mean()),
    }


def votes(indices: np.ndarray, distances: np.ndarray, y: np.ndarray, args: argparse.Namespace) -> np.ndarray:
    """Winning class of scikit-learn's neighbours, without searching again."""
    totals = np.zeros((len(indices), args.classes))
    np.add.at(totals, (np.arange(len(indices))[:, None], y[indices]), np.exp((1 - distances) / 0.07))
    return totals.argmax(1)


def print_table(result: dict) -> None:
    if "probe" in result:
        probe = result["probe"]
        widths = {
            "C": 10,
            "objective": 12,
            "sklearn": 12,
            "acc.": 8,
            "sklearn ": 9,
            "iter.": 7,
            " sklearn": 9,
            "sklearn s": 11,
            "one fit s": 11,
        }
        print("\n" + "".join(f"{name.strip():>{width}}" for name, width in widths.items()))
        for row in probe["rows"]:
            single = f"{row['single_fit_seconds']:.2f}" if row["single_fit_seconds"] else ""
            print(
                f"{row['C']:>10.3g}{row['objective']:>12.6f}{row['sklearn_objective']:>12.6f}{100 * row['accuracy']:>8.2f}"
                f"{100 * row['sklearn_accuracy']:>9.2f}{row['iterations']:>7}{row['sklearn_iterations']:>9}"
                f"{row['sklearn_seconds']:>11.2f}{single:>11}"
            )
        print(
            f"path of {len(probe['rows'])}: {probe['path_seconds']:.1f} s, scikit-learn {probe['sklearn_seconds']:.1f} s, "
            f"{probe['speedup']:.1f}x; objective at most {probe['worst_objective_ratio']:.5f} of scikit-learn's"
        )
    if "knn" in result:
        knn = result["knn"]
        print(
            f"k-NN: {knn['seconds']:.1f} s, scikit-learn {knn['sklearn_seconds']:.1f} s, {knn['speedup']:.1f}x; "
            f"{100 * knn['same_neighbours']:.3f} % the same neighbours, accuracy {100 * knn['accuracy']:.2f} and "
            f"{100 * knn['sklearn_accuracy']:.2f} %"
        )


if __name__ == "__main__":
    main()
