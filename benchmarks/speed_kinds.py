"""Is a command slower without options than with the best precision named by hand, on processors of either kind?

Each command runs in one process as a user gives it, without a precision and with fp32 and bf16 named, alternating; what counts is the
median of its CPU seconds. Once as the processor is, and once kept from instructions wider than AVX2 by the variables of torch and oneDNN,
which is what most laptops have. bf16 runs there once, on a share of the work, and its time is scaled up: it takes many times as long.

    taskset -c 1 python benchmarks/speed_kinds.py
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bigr_features.evaluate.reports import environment, write_json
from bigr_features.functional.precision import instruction_sets

NARROW = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
KINDS = {"as it is": {}, "AVX2 only": NARROW}
PRECISIONS = ("no option", "fp32", "bf16")
SOURCE = "sample:fashion_mnist"
SHARE = 8  # an eighth of the work is done in bf16 where there are no instructions for it
IMAGES, STEPS = 1_000, 8


def commands(work: Path, share: int) -> dict[str, list[str]]:
    """Lines of `bigr`, with a share of the work."""
    images, steps, out = str(IMAGES // share), str(max(1, STEPS // share)), str(work / "out")
    quiet = ["--device", "cpu", "--threads", "1"]
    nano = ["--model", "bigr_nano.fashion_mnist", "--source", SOURCE, "--limit", images]
    made = ["--tokenizer", str(work / "tokenizer"), "--trackers"]
    return {
        "train-tokenizer": [
            "train-tokenizer", "--source", SOURCE, "--out", out, "--steps", steps, "--batch-size", "32", "--trackers", *quiet,
        ],
        "encode": ["encode", "--tokenizer", str(work / "tokenizer"), "--source", SOURCE, "--out", out, "--limit", images, *quiet],
        "train": ["train", "--codes", str(work / "codes"), "--out", out, "--steps", steps, "--batch-size", "64", *made, *quiet],
        "extract": ["extract", *nano, "--out", out, "--num-workers", "0", *quiet],
        "index": ["index", *nano, "--out", out, *quiet],
    }  # fmt: skip


def main() -> None:
    args = parse_arguments()
    if args.child is not None:
        print(json.dumps(measured(args.rounds, "AVX2" in args.child, args.only)))
        return
    if "avx512f" not in instruction_sets():
        print("this processor has nothing wider than AVX2; both kinds are the same here")
    found = {}
    for kind, variables in KINDS.items():
        line = [sys.executable, __file__, "--child", kind, "--rounds", str(args.rounds), "--only", *args.only]
        done = subprocess.run(line, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True, check=True)
        found[kind] = json.loads(done.stdout.splitlines()[-1])
    rows = [{"kind": kind, **row} for kind, own in found.items() for row in own]
    print(f"{'kind':<12}{'command':<18}{'no option':>11}{'fp32':>9}{'bf16':>9}{'over the best':>15}")
    for row in rows:
        print(f"{row['kind']:<12}{row['command']:<18}" + "".join(f"{row['cpu_seconds'][name]:>9.2f}  " for name in PRECISIONS), end="")
        print(f"{row['over_best']:>11.2f}", flush=True)
    protocol = {
        "rounds": args.rounds,
        "threads": 1,
        "images": IMAGES,
        "steps": STEPS,
        "narrow": NARROW,
        "bf16_share": 1 / SHARE,
    }
    write_json(
        args.out / "speed_kinds.json", {"benchmark": "speed_kinds", "protocol": protocol, "rows": rows, "environment": environment()}
    )


def measured(rounds: int, narrow: bool, only: list[str]) -> list[dict]:
    """A row for each command: medians of CPU seconds in each precision."""
    import torch

    from bigr_features.cli import main as bigr

    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        _prepare(work)
        for name in only:
            seconds: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
            for number in range(rounds + 1):  # the first round warms up
                for precision in PRECISIONS:
                    share = SHARE if narrow and precision == "bf16" else 1
                    if share > 1 and number != 1:
                        continue
                    line = commands(work, share)[name] + ([] if precision == "no option" else ["--precision", precision])
                    shutil.rmtree(work / "out", ignore_errors=True)
                    started = time.process_time()
                    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                        bigr(line)
                    if number:
                        seconds[precision].append(share * (time.process_time() - started))
            middle = {precision: statistics.median(values) for precision, values in seconds.items()}
            best = min(middle["fp32"], middle["bf16"])
            rows.append({"command": name, "cpu_seconds": middle, "over_best": middle["no option"] / best, "all": seconds})
    return rows


def _prepare(work: Path) -> None:
    """The shipped tokenizer as a folder, and codes of it."""
    import timm

    from bigr_features.checkpoints import save_model
    from bigr_features.cli import main as bigr

    save_model(timm.create_model("bigr_nano.fashion_mnist", pretrained=True).tokenizer, work / "tokenizer")
    with contextlib.redirect_stdout(io.StringIO()):
        bigr(["encode", "--tokenizer", str(work / "tokenizer"), "--source", SOURCE, "--out", str(work / "codes"), "--limit", "600"])


def parse_arguments() -> argparse.Namespace:
    names = list(commands(Path(), 1))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/speed"), help="folder of the JSON (default: %(default)s)")
    parser.add_argument("--child", choices=list(KINDS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds {args.rounds} was given; give 1 or more")
    return args


if __name__ == "__main__":
    main()
