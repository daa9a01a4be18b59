"""The section of README.md on speed beside a plain implementation, for `tables.py`, and its picture.

python benchmarks/speed_tables.py       (draws results/speed.png from results/speed_*.json)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PARTS = ("extraction", "training", "sampling", "decode", "evaluators")
MEASURED = all((RESULTS / f"speed_{part}.json").is_file() for part in PARTS)


def timed(part: str) -> list[dict]:
    """The rows of a part of speed.py."""
    return json.loads((RESULTS / f"speed_{part}.json").read_text())["rows"]


def beside_plain_section(table: Callable, number: Callable, made_by: Callable) -> str:
    """Tables of speed_*.json."""
    rows = []
    for part in PARTS:
        for row in timed(part):
            above = row.get("objective_above_minimum", {}).get(row["variant"])
            variant = row["variant"] if above is None else f"{row['variant']}, stops {100 * above:.1g} % above the minimum"
            floor = "" if row["floor_share"] is None else number(1 / row["floor_share"], digits=1)
            rows.append(
                [
                    row["what"],
                    variant,
                    f"{1e3 * row['cpu_seconds']:.{0 if row['cpu_seconds'] >= 0.1 else 1}f}",
                    number(row["ratio"]),
                    floor,
                ]
            )
    kept = next((row["neighbours_kept"] for row in timed("extraction") if "neighbours_kept" in row), None)
    near = (
        ""
        if kept is None
        else " ".join(
            ["Of the 10 nearest neighbours among 2,000 test images, by the trained nano's features,"]
            + [
                f"{name} keeps {kept['of images'][name]:.1%}, and {kept['of the same codes'][name]:.1%} where the bits come from fp32" + end
                for name, end in (("bf16", ";"), ("int8", "."))
            ]
        )
    )
    return "\n\n".join(
        [
            "Beside the paper written down in plain PyTorch (`plain_bigr.py`, fp32; of evaluators: scikit-learn, faiss, openTSNE), the same "
            "weights, in one process, calls alternating, one thread, in CPU seconds. *Of plain*: the median ratio to the first line of "
            "each group. *Times the floor*: the time over that of the counted multiplications at the rate of a large matrix product in "
            "the same precision. Other programs shared the core, so wall seconds (in the files) say little. Estimators stop by their own "
            "default rules.",
            table(["what", "variant", "CPU ms", "of plain", "times the floor"], rows),
            "![time of each variant over that of the plain one](results/speed.png)",
            *([near] if near else []),
            made_by(*(f"speed_{part}" for part in PARTS)),
            *([grown] if (grown := growth_of_extraction(table, number, made_by)) else []),
            *([kinds] if (kinds := kinds_of_processor(table, number, made_by)) else []),
        ]
    )


def growth_of_extraction(table: Callable, number: Callable, made_by: Callable) -> str:
    """Tables of speed_growth.json; nothing without it."""
    path = RESULTS / "speed_growth.json"
    if not path.is_file():
        return ""
    found = json.loads(path.read_text())
    images = [
        [
            f"{row['images']:,}",
            row["loop"],
            str(row["threads"]),
            str(row["runs"]),
            f"{row['images_per_second']:.0f}",
            "" if row["of_plain"] is None else number(row["of_plain"]),
            f"{row['peak_mib']:,.0f}",
            f"{row['beyond_first_shard_mib']:.0f}",
        ]
        for row in found["images"]
    ]
    sizes = [
        [row["what"], row["variant"], f"{1e3 * row['seconds_per_image']:.2f}", number(row["ratio"]), f"{row['added_mib']:.0f}"]
        for part in ("tokens", "models")
        for row in found[part]
    ]
    protocol = found["protocol"]
    return "\n\n".join(
        [
            f"`bigr extract` of JPEG files of {protocol['pixels']} x {protocol['pixels']} pixels with `{protocol['model']}` beside a plain loop (torch's "
            "DataLoader, Pillow, the same transform and precision), each run a process of its own, in seconds of the clock; medians of the runs.",
            table(["images", "loop", "threads", "runs", "images a second", "of plain", "peak MiB", "beyond the first shard, MiB"], images),
            "Codes to features in fp32, over tokens (nano) and width:",
            table(["what", "variant", "CPU ms an image", "of plain", "MiB a call adds"], sizes),
            made_by("speed_growth"),
        ]
    )


def kinds_of_processor(table: Callable, number: Callable, made_by: Callable) -> str:
    """The table of speed_kinds.json; nothing without it."""
    path = RESULTS / "speed_kinds.json"
    if not path.is_file():
        return ""
    found = json.loads(path.read_text())
    rows = [
        [
            row["kind"],
            row["command"],
            *(f"{row['cpu_seconds'][name]:.1f}" for name in ("no option", "fp32", "bf16")),
            number(row["over_best"]),
        ]
        for row in found["rows"]
    ]
    protocol = found["protocol"]
    return "\n\n".join(
        [
            "Commands without a precision, which then choose it by measuring, beside both named by hand, in CPU seconds, medians of "
            f"{protocol['rounds']}, {protocol['images']:,} images or {protocol['steps']} steps of `bigr_nano`. *AVX2 only*: the same "
            f"processor, kept from wider instructions by {' '.join(f'`{name}={value}`' for name, value in protocol['narrow'].items())}; "
            f"bf16 ran there on {protocol['bf16_share']:.3g} of the work, its time scaled up.",
            table(["processor", "command", "no option", "fp32", "bf16", "no option over the best"], rows),
            made_by("speed_kinds"),
        ]
    )


def presets_of_sampling(table: Callable, number: Callable, percent: Callable, made_by: Callable) -> str:
    """The table of sampling_presets.json; nothing without it."""
    path = RESULTS / "sampling_presets.json"
    if not path.is_file():
        return ""
    found = json.loads(path.read_text())
    rows = [
        [
            row["name"],
            row.get("order", "entropy"),
            str(row["images"]),
            f"{1e3 * row['cpu_seconds_per_image']:.0f}",
            f"{row['of_plain']:.3f}",
            number(row["frechet"], row["frechet_interval"]),
            percent(row["recognised"], row["recognised_interval"]),
        ]
        for row in found["presets"]
    ]
    return "\n\n".join(
        [
            "Presets of `bigr generate` with `bigr_nano.fashion_mnist`, 50 images at a time, fp32, one thread, decoder included. fast and "
            f"fastest were chosen among {len(found['candidates'])} candidates by the Frechet distance of "
            f"{found['protocol']['choice_images']} images each, of another seed, to training images; here are distances to test images. "
            "Guidance of 2.5 in every step puts the exact images farther off, and makes them easier to recognise. "
            "Distances fall with the number of images, so compare rows of equal numbers. *Of plain*: over the time of the paper's "
            "algorithm done plainly.",
            table(["preset", "order", "images", "CPU ms an image", "of plain", "Frechet distance", "recognised, %"], rows),
            made_by("sampling_presets"),
        ]
    )


def _shade(row: dict) -> str:
    """Grey for what others made."""
    return "#999999" if row["ratio"] == 1 else "#cccccc" if row["variant"].startswith(("scikit-learn", "faiss", "openTSNE")) else "#0072b2"


def draw(path: Path) -> None:
    """Bars of the ratios, a panel a part."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    parts = {part: timed(part) for part in PARTS}
    heights = [len(rows) for rows in parts.values()]
    figure, panels = plt.subplots(
        len(parts), 1, figsize=(8, 0.23 * sum(heights) + 2), layout="constrained", sharex=True, height_ratios=heights
    )
    for axes, (part, rows) in zip(panels, parts.items(), strict=True):
        names = [f"{row['what'].removesuffix(': ' + part)}  |  {row['variant']}" for row in rows]
        axes.barh(names, [row["ratio"] for row in rows], color=[_shade(row) for row in rows], height=0.7)
        axes.axvline(1, color="black", linewidth=0.8)
        for place, row in enumerate(rows):
            axes.text(1.03 * max(row["ratio"], 1), place, f"{row['ratio']:.2f}", va="center", fontsize=7)
        axes.set_xscale("log")
        axes.invert_yaxis()
        axes.tick_params(labelsize=7)
        axes.set_title(part, fontsize=9, loc="left")
    panels[-1].set_xlim(0.2, 8)
    panels[-1].set_xticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
    panels[-1].minorticks_off()
    panels[-1].set_xlabel("CPU seconds over those of the first line of each group (grey)", fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    draw(RESULTS / "speed.png")
