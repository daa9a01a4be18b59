"""How did a training go? Loss and validation over steps, from the run folders of `bigr train-tokenizer` and `bigr train`.

Writes the settings and the curves as JSON, and a picture.

    python benchmarks/training_curves.py runs/tokenizer runs/generator --name bigr_nano_fashion_mnist
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bigr_features.evaluate.reports import portable_command, write_json

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--name", default="training", help="of the files written (default: %(default)s)")
    parser.add_argument("--points", type=int, default=200, help="points kept of each training curve (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/training_curves"), help="folder (default: %(default)s)")
    args = parser.parse_args()
    runs = [read_run(path, args.points) for path in args.runs]
    write_json(args.out / f"{args.name}_training.json", {"benchmark": "training_curves", "runs": runs})
    plot(runs, args.out / f"{args.name}_training.png")
    for run in runs:
        last = run["validation"][-1] if run["validation"] else run["train"][-1]
        print(f"{run['name']}: " + "  ".join(f"{key} {value:.5g}" for key, value in last.items() if isinstance(value, int | float)))
    print(f"wrote {args.out / args.name}_training.json and .png")


def read_run(path: Path, points: int) -> dict:
    """Settings, environment, the validation curve, and the training curve thinned to `points`."""
    for name in ("log.jsonl", "config.json"):
        if not (path / name).is_file():
            raise SystemExit(f"{path} has no {name}; give the run folder of a training command.")
    lines = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    curves = {split: [without(line, "split") for line in lines if line["split"] == split] for split in ("train", "validation")}
    stride = max(1, len(curves["train"]) // points)
    curves["train"] = curves["train"][stride - 1 :: stride]
    settings = json.loads((path / "config.json").read_text())["settings"]
    settings = {key: value for key, value in settings.items() if not is_path(key)}
    environment = path / "environment.json"
    about = json.loads(environment.read_text()) if environment.is_file() else {}
    if "command" in about:
        about["command"] = portable_command(about["command"])
    return {"name": path.name, "settings": settings, "environment": about, **curves}


def without(line: dict, key: str) -> dict:
    return {name: value for name, value in line.items() if name != key}


def is_path(key: str) -> bool:
    """Settings that say where something lies on the machine of the run."""
    return key in ("source", "out", "codes", "tokenizer", "weights", "config")


def plot(runs: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    columns = min(3, len(runs))
    rows = -(-len(runs) // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(5.2 * columns, 3.8 * rows), layout="constrained", squeeze=False)
    for axes in panels.flat[len(runs) :]:
        axes.remove()
    for axes, run in zip(panels.flat, runs, strict=False):
        axes.plot(
            [point["step"] for point in run["train"]], [point["loss"] for point in run["train"]], color=COLORS[0], label="training loss"
        )
        axes.set(xlabel="step", ylabel="loss", title=run["name"], yscale="log")
        metric = next((key for key in ("psnr", "loss") if run["validation"] and key in run["validation"][0]), None)
        steps = [point["step"] for point in run["validation"]]
        if metric == "psnr":
            other = axes.twinx()
            other.plot(steps, [point["psnr"] for point in run["validation"]], "o-", color=COLORS[1], label="validation PSNR, dB")
            other.set_ylabel("PSNR, dB")
            other.legend(loc="center right", fontsize=8)
        elif metric == "loss":
            values = [point["loss"] for point in run["validation"]]
            axes.plot(steps, values, "o-", color=COLORS[1], label="validation loss (averaged weights)")
        axes.grid(alpha=0.3)
        axes.legend(loc="upper right", fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
