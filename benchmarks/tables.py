"""Write benchmarks/README.md: one table per question, every number read from results/*.json, none typed by hand.

usage: python benchmarks/tables.py [--check]      (--check exits 1 if the file on disk is not what the results give)"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from recipe_tables import recipe_sections
from speed_tables import MEASURED as TIMED
from speed_tables import beside_plain_section, presets_of_sampling
from system_tables import ABLATIONS, SCALING, UNIFORMITY, ablations_section, scaling_section, uniformity_section
from table_texts import INTRODUCTION, ODDITIES, RECIPES
from text_tables import MEASURED, text_section
from web_tables import PAGE, web_section

HERE = Path(__file__).parent
RESULTS = HERE / "results"
TARGET = HERE / "README.md"


def read(name: str) -> dict:
    """A committed result by its name without ending."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def percent(share: float, interval: Sequence[float] | None = None) -> str:
    """A share in percent with its interval."""
    around = "" if interval is None else f" ({100 * interval[0]:.1f}-{100 * interval[1]:.1f})"
    return f"{100 * share:.1f}{around}"


def number(value: float, interval: Sequence[float] | None = None, digits: int = 2) -> str:
    """A number with its interval."""
    around = "" if interval is None else f" ({interval[0]:.{digits}f}-{interval[1]:.{digits}f})"
    return f"{value:.{digits}f}{around}"


def made_by(*names: str) -> str:
    """Which command made results, where, and on what."""
    lines = []
    for name in names:
        about = read(name)["environment"]
        instructions = " ".join(about.get("instruction_sets", ()))
        machine = ", ".join(filter(None, [about["cpu"], f"{about['cores']} cores", f"torch {about['versions']['torch']}", instructions]))
        lines.append(f"[{name}.json](results/{name}.json): `{about['command']}` ({machine}; {about['date']})")
    return "  \n".join(lines)


def picture(name: str, text: str) -> str:
    return f"![{text}](results/{name}.png)"


def classifiers(name: str) -> str:
    """Accuracy of a linear probe and of k-NN on every set of features, mean and quarters."""
    found: dict[str, dict[str, str]] = {}
    for kind in ("linear_probe", "knn"):
        path = RESULTS / f"{kind}_{name}.json"
        for row in json.loads(path.read_text())["rows"] if path.is_file() else ():
            features, _, pooling = row["features"].partition(", quarters")
            column = f"{kind}, {'quarters' if row['features'].endswith('quarters') else 'mean'}"
            test = row["test"]
            found.setdefault(features + pooling, {})[column] = percent(test["top1"], test["top1_interval"])
    columns = ["linear_probe, mean", "linear_probe, quarters", "knn, mean", "knn, quarters"]
    rows = [[features, *(cells.get(column, "") for column in columns)] for features, cells in found.items()]
    return table(["features", "linear probe, mean", "linear probe, quarters", "k-NN, mean", "k-NN, quarters"], rows)


def features_section() -> str:
    sample, full = read("linear_probe_fashion_mnist"), read("linear_probe_fashion_mnist_full")
    data, whole = sample["dataset"], full["dataset"]
    return "\n\n".join(
        [
            f"Fashion-MNIST sample, {data['train']:,} training and {data['test']:,} test images. Top-1 in percent with its 95 % bootstrap interval "
            "over test images; layer and every setting are chosen on held-out training images, test images are used once. *Mean* is the paper's "
            "pooling, over all tokens; *quarters* are the means over the four quarters of the token grid; pixels and bits have no tokens and stand "
            "under *mean*.",
            classifiers("fashion_mnist"),
            picture("linear_probe_fashion_mnist", "Accuracy of a linear probe over depth"),
            made_by("linear_probe_fashion_mnist", "knn_fashion_mnist"),
            f"The full Fashion-MNIST, {whole['train']:,} and {whole['test']:,} images:",
            classifiers("fashion_mnist_full"),
            made_by("linear_probe_fashion_mnist_full", "knn_fashion_mnist_full"),
            f"Handwritten digits, {read('linear_probe_digits')['dataset']['train']:,} and {read('linear_probe_digits')['dataset']['test']:,} images, "
            "which no shipped weights have seen:",
            classifiers("digits"),
            made_by("linear_probe_digits", "knn_digits"),
        ]
    )


def curve(name: str) -> str:
    """Held-out accuracy of the mean over training."""
    result = read(name)
    steps = sorted({run["first_weights_had_steps"] + point["step"] for run in result["runs"] for point in run["points"]})
    rows = []
    for run in result["runs"]:
        best = {run["first_weights_had_steps"] + point["step"]: max(point["linear_probe"].values()) for point in run["points"]}
        rows.append([run["name"].replace("_", " "), *(percent(best[step]) if step in best else "" for step in steps)])
    return table(["run", *(f"{step:,}" for step in steps)], rows)


def training_section() -> str:
    protocol = read("bigr_nano_choices_curve")["protocol"]
    return "\n\n".join(
        [
            f"Best layer's linear probe on the mean over tokens, in percent, over optimiser steps: {protocol['fit']}, measured on {protocol['measured on']}. "
            "Four ways to start a short training without labels:",
            curve("bigr_nano_choices_curve"),
            picture("bigr_nano_choices_curve", "Held-out accuracy over training from four starts"),
            "The runs that made the shipped weights:",
            curve("bigr_nano_fashion_mnist_curve"),
            picture("bigr_nano_fashion_mnist_training", "Loss and validation over training"),
            made_by("bigr_nano_choices_curve", "bigr_nano_fashion_mnist_curve"),
        ]
    )


def retrieval_section() -> str:
    def qualities(name: str) -> str:
        rows = [
            [
                row["method"],
                number(row["map_at_100"], row.get("map_at_100_interval"), 3),
                number(row["recall_at_1"], digits=3),
                f"{row['bytes']:,.0f}",
                f"{row['queries_per_second']:,.0f}",
            ]
            for row in read(name)["rows"]
        ]
        return table(["index", "mAP@100", "recall@1", "bytes per image", "queries per second"], rows)

    scale = read("retrieval_scale")
    rows = [
        [
            row["method"],
            "" if row["effort"] is None else f"{row['effort']:,}",
            number(row["index_recall_at_10"], digits=3),
            f"{row['megabytes']:,.0f}",
            f"{row['queries_per_second']:,.0f}",
            number(row["latency_ms"], digits=1),
        ]
        for row in scale["rows"]
    ]
    full = read("retrieval_fashion_mnist")["dataset"]
    return "\n\n".join(
        [
            f"Full Fashion-MNIST, {full['test']:,} test images as queries in {full['train']:,}:",
            qualities("retrieval_fashion_mnist"),
            picture("retrieval_fashion_mnist", "Retrieval quality against bytes per image"),
            "The sample that ships with the package:",
            qualities("retrieval_fashion_mnist_sample"),
            f"{scale['protocol']['vectors']:,} vectors of {scale['protocol']['features']:,} features; index recall is against exact search, effort "
            "is the number of re-ranked rows or of lists searched:",
            table(["index", "effort", "recall@10", "MB", "queries per second", "ms, one query"], rows),
            made_by("retrieval_fashion_mnist", "retrieval_fashion_mnist_sample", "retrieval_scale"),
        ]
    )


def life_section() -> str:
    parts = []
    for name in ("retrieval_life_100000", "retrieval_life_1000000"):
        found = read(name)
        rows = [
            [
                row["system"],
                f"{row['build_seconds']:,.0f}",
                number(row["open_seconds"], digits=3),
                f"{row['megabytes']:,.0f}",
                number(row["add_seconds"], digits=2),
                number(row["remove_seconds"], digits=2),
                number(row["index_recall_at_10"], digits=3),
                f"{row['queries_per_second']:,.0f}",
                number(row["latency_ms"], digits=1),
            ]
            for row in found["rows"]
        ]
        about = found["protocol"]
        head = ["system", "build s", "open s", "MB", "add 1,000, s", "remove 1,000, s", "recall@10", "queries per second", "ms, one query"]
        effort = "Each approximate index is searched with the least effort that reaches a recall@10 of 0.95, or the largest tried"
        parts += [f"{found['vectors']:,} vectors of {about['features']:,} features. {effort}:", table(head, rows)]
        ratios = [f"{entry['ratio']:.2f} at {batch}" for batch, entry in found["beside_faiss"].items()]
        exported = [f"{row['lance_export_seconds']:.0f} s" for row in found["rows"] if "lance_export_seconds" in row]
        if exported:
            parts.append(f"`Gallery.to_lance` writes all of them as a LanceDB table in {exported[0]}.")
        if ratios:
            parts.append(f"Time of a flat gallery over that of faiss alone on the same array, by queries at a time: {', '.join(ratios)}.")
        parts.append(f"{found['environment']['load'][0].upper()}{found['environment']['load'][1:]}: compare systems, not absolute times.")
    return "\n\n".join([*parts, made_by("retrieval_life_100000", "retrieval_life_1000000")])


def generation_section() -> str:
    quality = read("bigr_nano_fashion_mnist")
    generated, tokenizer = quality["generation"], quality["tokenizer"]
    orders, unguided, chosen = read("sampling_orders"), read("sampling_orders_unguided"), read("sampling_orders_chosen")

    def by_name(rows):
        return {row["name"]: number(row["frechet"], row["frechet_interval"]) for row in rows}

    columns = [by_name(orders["order"]), by_name(unguided["order_unguided"]), by_name(chosen["order_chosen"])]
    names = list(dict.fromkeys(name for column in columns for name in column))
    sweeps = read("sampling_quality")
    parts = {
        "reveal": "reveal steps, entropy order",
        "reveal_random": "reveal steps, random order",
        "denoise": "denoise steps",
        "posterior": "reverse step",
    }
    swept = [
        [what, str(row["name"]), number(row["frechet"], row["frechet_interval"]), percent(row["recognised"], row["recognised_interval"])]
        for part, what in parts.items()
        for row in sweeps[part]
    ]
    kept = sweeps["inpainting"]["kept_class"]
    return "\n\n".join(
        [
            f"`{quality['model']}`: the tokenizer reaches {tokenizer['psnr_db']:.1f} dB on the test images, and every bit is 1 in "
            f"{percent(tokenizer['bit_usage_min'])} to {percent(tokenizer['bit_usage_max'])} % of tokens. Of {generated['images']:,} class-conditional "
            f"images a CNN that is right on {percent(quality['judge']['test_accuracy'])} % of real test images takes "
            f"{percent(generated['recognised'], generated['interval'])} % for the class asked for.",
            picture("bigr_nano_fashion_mnist", "Generated images and reconstructions"),
            made_by("bigr_nano_fashion_mnist"),
            f"Order of reveal: Frechet distance of CNN features to the sample's test images, {orders['protocol']['images']:,} images per setting, "
            f"{orders['protocol']['base']['num_reveal_steps']} reveal steps; the last column has the settings chosen on training images. "
            "The network is our own small CNN, so no number compares with published FIDs.",
            table(
                ["order", "guidance 2.5", "no guidance", "its best settings"],
                [[name, *(c.get(name, "") for c in columns)] for name in names],
            ),
            picture("sampling_orders_chosen", "Frechet distance by order of reveal"),
            f"Other choices, {sweeps['protocol']['images']} images each:",
            table(["choice", "value", "Frechet distance", "recognised, %"], swept),
            f"Class kept when {sweeps['inpainting']['hole']} are drawn anew, % of {sweeps['inpainting']['images']} images:",
            table(["how", "class kept, %"], [[how, percent(row["share"], row["interval"])] for how, row in kept.items()]),
            made_by("sampling_orders", "sampling_orders_unguided", "sampling_orders_chosen", "sampling_quality"),
            *([presets] if (presets := presets_of_sampling(table, number, percent, made_by)) else []),
        ]
    )


def speed_section() -> str:
    evaluators, knn, extraction = read("evaluators"), read("evaluators_knn")["knn"], read("extraction")
    sampling = read("sampling_speed_bigr_nano_fashion_mnist")["batches"][0]["seconds_per_image"]
    clusters = read("clusters_fashion_mnist")["timing"]
    rows = [
        [
            f"linear probe, path of {len(evaluators['probe']['rows'])} regularisations, {evaluators['probe']['samples']:,} x {evaluators['data']['features']:,}",
            f"{evaluators['probe']['path_seconds']:.1f} s",
            f"{evaluators['probe']['sklearn_seconds']:.1f} s, fits by scikit-learn",
        ],
        [
            f"k-NN, {knn['queries']:,} queries on {knn['gallery']:,} x {evaluators['data']['features']:,}",
            f"{knn['seconds']:.1f} s",
            f"{knn['sklearn_seconds']:.1f} s, scikit-learn's brute force",
        ],
        [
            f"all layers of `{extraction['sweep']['model']}` in one pass",
            f"{extraction['sweep']['ratio_of_median_cpu_seconds']:.2f}x",
            "1, a pass to the last layer",
        ],
        [
            "an image of 20 x 100 steps, one core, float32",
            f"{sampling['ours']:.1f} s; {sampling['ours, halton order']:.1f} s in Halton order",
            f"{sampling['plain']:.1f} s, the paper's algorithm done plainly",
        ],
        [
            f"t-SNE of {clusters['items']:,} images, one thread",
            f"{clusters['seconds']['sklearn']:.1f} s (scikit-learn)",
            f"{clusters['seconds']['opentsne']:.1f} s (openTSNE)",
        ],
    ]
    throughput = []
    for name in ("bf16", "bf16_4_timesteps", "bf16_16_timesteps", "fp32"):
        result = read(f"training_throughput_bigr_nano_cpu_{name}")
        for row in result["rows"]:
            throughput.append(
                [
                    result["protocol"]["precision"],
                    str(result["protocol"]["timesteps_per_token"]),
                    row["transcoder on"],
                    f"{row['step_milliseconds']:.0f}",
                    f"{row['transcoder_milliseconds']:.0f}",
                    number(row["peak_memory_gib"], digits=1),
                ]
            )
    precision = [
        [
            row["precision"],
            f"{row['cosine_to_float64']:.9f}",
            percent(row["bits_differing"]),
            number(row["seconds"], digits=1),
            number(row["peak_memory_gib"], digits=1),
        ]
        for row in read("precision")["rows"]
    ]
    extracted = [[row["features"], f"{row['images_per_second']:.0f}"] for row in extraction["throughput"]["rows"]]
    return "\n\n".join(
        [
            table(["task", "here", "beside it"], rows),
            "A training step of `bigr_nano`, batch 64:",
            table(
                ["precision", "noise levels per token", "transcoder on", "step, ms", "transcoder alone, ms", "peak memory, GiB"], throughput
            ),
            f"`{extraction['throughput']['model']}` from images on disk to a feature store, one thread:",
            table(["features", "images per second"], extracted),
            "`bigr_l` on one 256 x 256 image, CPU:",
            table(["precision", "cosine to float64", "bits differing, %", "seconds", "peak memory, GiB"], precision),
            made_by(
                "evaluators",
                "evaluators_knn",
                "extraction",
                "sampling_speed_bigr_nano_fashion_mnist",
                "precision",
                "clusters_fashion_mnist",
            ),
        ]
    )


def clusters_section() -> str:
    rows = [
        [
            row["features"],
            number(row["scores"]["features"]["purity"], digits=3),
            number(row["scores"]["plane"]["purity"], digits=3),
            number(row["scores"]["features"]["silhouette"], digits=3),
            number(row["scores"]["plane"]["silhouette"], digits=3),
            number(row["scores"]["trustworthiness"], digits=3),
        ]
        for row in read("clusters_fashion_mnist")["rows"]
    ]
    return "\n\n".join(
        [
            "Purity is the share of the 10 nearest neighbours that are of the same class. A picture can look better than its features, so both are "
            "scored.",
            table(["features", "purity", "in the picture", "silhouette", "in the picture", "trustworthiness"], rows),
            picture("clusters_depth_fashion_mnist", "t-SNE of every block"),
            made_by("clusters_fashion_mnist"),
        ]
    )


SECTIONS: list[tuple[str, Callable[[], str]]] = [
    ("What are the features worth?", features_section),
    ("What does training bring, and how fast?", training_section),
    *recipe_sections(read, table, percent, made_by),
    ("How well do images find their like?", retrieval_section),
    ("What do opening, adding and removing cost?", life_section),
    ("How good are generated images?", generation_section),
    *([("Do images show what prompts say?", lambda: text_section(read, table, percent, made_by))] if MEASURED else []),
    *([("How do the five systems compare?", lambda: uniformity_section(read, table, made_by))] if UNIFORMITY else []),
    *([("What do size and code dimension bring?", lambda: scaling_section(read, table, made_by))] if SCALING else []),
    *([("Which of BiGR's choices matter?", lambda: ablations_section(read, table, made_by))] if ABLATIONS else []),
    ("How do classes cluster?", clusters_section),
    ("How fast is it?", speed_section),
    *([("How fast is the page?", lambda: web_section(read, table, made_by))] if PAGE else []),
    *([("How fast is it beside plain PyTorch?", lambda: beside_plain_section(table, number, made_by))] if TIMED else []),
    ("How were the shipped weights made?", lambda: RECIPES),
    ("Where do we differ from the public code?", lambda: ODDITIES),
]


def page() -> str:
    """The whole file."""
    toc = "\n".join(f"- [{title}](#{anchor(title)})" for title, _ in SECTIONS)
    return "\n\n".join([INTRODUCTION, toc, *(f"## {title}\n\n{body()}" for title, body in SECTIONS)]) + "\n"


def anchor(title: str) -> str:
    """The address that GitHub gives to a heading."""
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c == "-")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the file on disk instead of writing it")
    args = parser.parse_args()
    text = page()
    if args.check:
        same = TARGET.is_file() and TARGET.read_text() == text
        print(f"{TARGET.name} is {'' if same else 'not '}what the results give")
        return 0 if same else 1
    TARGET.write_text(text)
    print(f"wrote {TARGET}: {len(SECTIONS)} sections")
    return 0


if __name__ == "__main__":
    sys.exit(main())
