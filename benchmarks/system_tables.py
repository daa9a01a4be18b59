"""Sections of benchmarks/README.md on the five systems, sizes and ablations, from what results/uniformity, scaling and ablations hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def measured(benchmark: str, results: Path = RESULTS) -> list[str]:
    """Names of the results of a benchmark, one a data set, CIFAR-10 first."""
    return [f"{benchmark}/{path.parent.name}/{benchmark}" for path in sorted(results.glob(f"{benchmark}/*/{benchmark}.json"))]


UNIFORMITY, SCALING, ABLATIONS = (measured(benchmark) for benchmark in ("uniformity", "scaling", "ablations"))


def uniformity_section(read: Callable, table: Callable, made_by: Callable, names: list[str] = UNIFORMITY) -> str:
    """Table 1 as measured, beside the paper's; its orderings; Kendall's tau."""
    parts = [
        "The paper's Table 1 (ImageNet, models of 24 blocks, Inception) made again at nano size: the same trunk, optimiser, steps and "
        "images for all five, 12 bits a token. LlamaGen stands on a VQ tokenizer, S0 to S3 on one binary tokenizer. Distances are measured "
        "by a small CNN trained on the data set, so no number compares with published ones; orders of systems may. Numbers are means over "
        "seeds, with their 95 % interval (Student's t) where there are two seeds or more; lines in italics are the paper's. FD and sFD are "
        "the Frechet distance of pooled and of spatial features, *chosen* with the sampling settings that come nearest to training images; "
        "core-s is the processor time of the system's training, without its tokenizer's; ACC1 and ACC5 are a linear probe at the middle "
        "layer, *best layer* is the one chosen on held-out training images."
    ]
    for name in names:
        result = read(name)
        parts += _table_1(result, table)
        for picture, text in (("uniformity", "Accuracy over Frechet distance"), ("clusters", "t-SNE of LlamaGen beside BiGR")):
            parts += _picture(name, picture, text)
        parts.append(made_by(name))
    return "\n\n".join(parts)


def _table_1(result: dict, table: Callable) -> list[str]:
    settings, systems = result["settings"], result["systems"]
    judge = "" if result["judge_accuracy"] is None else f"; the CNN is right on {100 * result['judge_accuracy']:.1f} % of test images"
    rows = []
    for title, column in result["columns"].items():
        rows.append([title, *(_cell(cells[title], column["digits"]) for cells in systems.values())])
        if column["paper"] is not None:
            rows.append([f"*{column['paper']}*", *(f"*{result['paper'][name][column['paper']]:g}*" for name in systems)])
    around = [[name, *(f"{values[key]:.3f}" if key in values else "" for key in AROUND)] for name, values in result["around"].items()]
    differences = [
        [entry["ordering"], entry["verdict"], "; ".join(_difference(pair, value) for pair, value in entry["differences"].items())]
        for entry in result["orderings"]
    ]
    taus = result["kendall_tau"]
    trial = f" **A trial on {settings['limit']:,} real images of each split: nothing can be concluded.**" if settings["limit"] else ""
    machines = f" Rows were made on {', '.join(result['machines'])}." if result["machines"] else ""
    found = [
        f"### {settings['name']}",
        f"{settings['steps']:,} steps of {settings['batch_size']} images, {settings['images']:,} generated images a row{judge}."
        f"{machines}{trial} Missing: {', '.join(result['missing']) or 'nothing'}.",
        table(["", *systems], rows),
    ]
    if around:
        found.append(table(["around them", *AROUND.values()], around))
    return [
        *found,
        "Do the paper's orderings hold here? A difference with its 95 % interval (Welch) decides, and nothing else:",
        table(["ordering", "here", "differences"], differences),
        "Kendall's tau between the five systems here and in the paper, where there are three systems or more: "
        + (", ".join(f"{name} {entry['tau']:.2f}" for name, entry in taus.items() if entry["tau"] is not None) or "none yet")
        + ".",
    ]


AROUND = {"frechet": "FD", "spatial_frechet": "sFD", "precision": "precision", "recall": "recall", "coverage": "coverage"}


def scaling_section(read: Callable, table: Callable, made_by: Callable, names: list[str] = SCALING) -> str:
    """Figure 4 as measured."""
    parts = []
    for name in names:
        result = read(name)
        settings = result["settings"]
        rows = [
            [
                entry["size"],
                str(entry["code_dim"]),
                _number(entry["parameters"], None, 2),
                _number(entry["FD"], entry["FD_interval"], 3),
                _number(entry["tokenizer_FD"], None, 3),
                _number(entry["ACC1"], entry["ACC1_interval"], 1),
            ]
            for entry in result["points"]
        ]
        parts += [
            f"The paper's Figure 4 on {settings['name']}: three sizes of BiGR by code dimension, {settings['steps']:,} steps of "
            f"{settings['batch_size']} images, which is short, and one seed; intervals are over {settings['images']:,} images. "
            f"Missing: {', '.join(result['missing']) or 'nothing'}.",
            table(["size", "bits a token", "parameters, M", "Frechet distance", "tokenizer alone", "ACC1"], rows),
            *_picture(name, "scaling", "Frechet distance and accuracy over the code dimension"),
            made_by(name),
        ]
    return "\n\n".join(parts)


def ablations_section(read: Callable, table: Callable, made_by: Callable, names: list[str] = ABLATIONS) -> str:
    """Tables 2, 3, 4 and 8 as measured, beside the paper's."""
    parts = []
    for name in names:
        result = read(name)
        settings = result["settings"]
        parts.append(
            f"The paper's ablations on {settings['name']} at nano size, {settings['steps']:,} steps of {settings['batch_size']} images, "
            f"one seed; intervals are over {settings['images']:,} images, the paper's numbers stand in italics. "
            f"Missing: {', '.join(result['missing']) or 'nothing'}."
        )
        for entry in result["tables"]:
            titles = list(dict.fromkeys(title for line in entry["lines"] for title in line["paper"]))
            rows = [[line["what"], *(_beside(line, title) for title in titles)] for line in entry["lines"]]
            parts += [f"Table {entry['number']}. {entry['question']}", table(["", *titles], rows)]
        parts.append(made_by(name))
    return "\n\n".join(parts)


def _beside(line: dict, title: str) -> str:
    here = (line["here"] or {}).get(title)
    digits = 1 if title.startswith("ACC") else 3
    text = "-" if here is None else _number(here["value"], here["interval"], digits)
    return f"{text} *{line['paper'][title]:g}*" if title in line["paper"] else text


def _number(value: float | None, interval: list[float] | None, digits: int) -> str:
    if value is None:
        return "-"
    around = "" if interval is None else f" ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"
    return f"{value:.{digits}f}{around}"


def _cell(entry: dict | None, digits: int) -> str:
    return "-" if entry is None else _number(entry["mean"], entry["interval"], digits)


def _difference(pair: str, entry: dict | None) -> str:
    return f"{pair}: {'missing' if entry is None else _number(entry['value'], entry['interval'], 2)}"


def _picture(name: str, picture: str, text: str) -> list[str]:
    folder = Path(name).parent
    return [f"![{text}](results/{folder}/{picture}.png)"] if (RESULTS / folder / f"{picture}.png").is_file() else []
