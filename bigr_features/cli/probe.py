"""`bigr probe`, `bigr knn`, `bigr sweep`: what are the features of a store worth?"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Literal

from .probe_options import (
    PROBES,
    PROTOCOLS,
    TOKEN_PROBES,
    LinearOptions,
    NeighborOptions,
    PrintingOptions,
    StoreConfig,
    TokenOptions,
    check_options,
)  # fmt: skip

log = logging.getLogger(__name__)
# setting that a probe chooses: option with the values that it tries
GRIDS = {
    "C": "Cs", "base_lr": "base_lrs", "lr": "token_lrs", "n_neighbors": "k", "temperature": "temperature", "num_heads": "heads",
    "num_queries": "queries",
}  # fmt: skip
DEFAULT_K = (10, 20, 100, 200)
DEFAULT_BATCH = 1024


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(PrintingOptions, TokenOptions, LinearOptions, StoreConfig):
    """Linear or attentive probe of a feature store. Feature and settings are chosen on held-out training data; the test store is used once.

    Parameters
    ----------
    protocol : str
        exact (logistic regression, regularisation chosen from Cs), mae (BatchNorm, LARS, 90 epochs, base_lrs), or of tokens: attentive
        (AIM's) or efficient (few learned queries).
    seeds : int
        Repetitions of the chosen probe with other seeds (held-out split; for the others also weights and order), for the spread.
    """

    protocol: Literal["exact", "mae", "attentive", "efficient"] = "exact"
    seeds: int = 1


@dataclass(frozen=True, kw_only=True)
class KNNConfig(PrintingOptions, NeighborOptions, StoreConfig):
    """k-NN by cosine over a feature store. Feature, k, temperature and whitening are chosen on held-out training data; the
    test store is used once.

    Parameters
    ----------
    temperature : tuple of float
        Temperatures of the votes, exp(similarity / temperature), to choose from.
    leave_one_out : bool
        Also report the training images among themselves, none finding itself, with the chosen feature.
    """

    temperature: tuple[float, ...] = (0.07,)
    leave_one_out: bool = False


@dataclass(frozen=True, kw_only=True)
class SweepConfig(NeighborOptions, TokenOptions, LinearOptions, StoreConfig):
    """Every layer and pooling of a store with every probe: JSON, table, and a picture of accuracy over depth.

    Parameters
    ----------
    out : Path
        Folder for sweep.json and sweep.png.
    probes : tuple of str
        Probes to run: some of exact, mae, knn, retrieval (no training: held-out images search the others), and of stored tokens attentive
        and efficient.
    score : str
        What retrieval is judged by: map or recall@1.
    """

    probes: tuple[Literal["exact", "mae", "attentive", "efficient", "knn", "retrieval"], ...] = ("exact", "knn")
    score: Literal["map", "recall@1"] = "map"


def probe(config: ProbeConfig) -> None:
    """Run the command; prints a table and writes the result."""
    from .probe_stores import evaluate_stores, open_stores

    if config.seeds < 1:
        raise ValueError(f"seeds={config.seeds}; expected 1 or more.")
    if config.protocol not in PROTOCOLS:
        raise ValueError(f"there is no probe {config.protocol!r}; choose one of {', '.join(PROTOCOLS)}.")
    check_options(config)
    stores = open_stores(config)
    estimator = estimator_for(config.protocol, config, stores)
    result = evaluate_stores(stores, config.protocol, estimator, config, seeds=config.seeds)
    _show("probe", result, config, config.protocol)


def knn(config: KNNConfig) -> None:
    """Run the command; prints a table and writes the result."""
    from .probe_stores import evaluate_stores, open_stores

    stores = open_stores(config)
    estimator = estimator_for("knn", config, stores)
    result = evaluate_stores(stores, "knn", estimator, config, leave_one_out=config.leave_one_out)
    _show("knn", result, config, "knn")


def sweep(config: SweepConfig) -> None:
    """Run the command; prints a table, writes the result and the picture."""
    from ..evaluate.reports import write_json
    from .probe_retrieval import retrieval_of_stores
    from .probe_stores import draw_depth, evaluate_stores, open_stores

    if not config.probes:
        raise ValueError(f"probes is empty; give one or more of {', '.join(PROBES)}.")
    unknown = [name for name in config.probes if name not in PROBES]
    if unknown:
        raise ValueError(f"there is no probe {unknown[0]!r}; choose some of {', '.join(PROBES)}.")
    check_options(config)
    stores = open_stores(config)
    for name in config.probes:  # refuses before the first one runs
        stores.names_for(name)
    estimators = {name: estimator_for(name, config, stores) for name in config.probes if name != "retrieval"}
    results: dict[str, dict] = {
        name: retrieval_of_stores(stores, config) if name == "retrieval" else evaluate_stores(stores, name, estimators[name], config)
        for name in config.probes
    }
    write_json(config.out / "sweep.json", {"command": "sweep", "probes": results})
    drawn = draw_depth(results, config.out / "sweep.png")
    print_rows(results)
    say_edges(results, config)
    print(
        f"wrote {config.out / 'sweep.json'}" + (" and sweep.png" if drawn else "; no picture, the store has features of one layer at most")
    )


def _show(command: str, result: dict, config, probe: str) -> None:
    """Write a result, and print it as a table or as JSON."""
    from ..evaluate.reports import write_json
    from ..storage.json_files import json_bytes

    content = {"command": command, **result}
    write_json(config.out, content)
    say_edges({probe: result}, config)
    if config.json:
        print(json_bytes(content).decode(), end="")
        log.info("wrote %s", config.out)
        return
    print_rows({probe: result})
    if result["leave_one_out"]:
        found = ", ".join(f"k={k} {100 * accuracy:.2f} %" for k, accuracy in result["leave_one_out"].items())
        print(f"training images, leaving one out: {found}")
    print(f"wrote {config.out}")


def say_edges(results: dict[str, dict], config) -> None:
    """Log the chosen values that lie at the edge of the values tried: a better one may lie beyond."""
    for probe, result in results.items():
        chosen = chosen_settings(result["held_out"][result["chosen"]])
        for name, option in GRIDS.items():
            tried = sorted(getattr(config, option, None) or (DEFAULT_K if option == "k" else ()))
            value = chosen.get(name)
            if len(tried) < 2 or value not in (tried[0], tried[-1]) or (option == "k" and value == 1):
                continue
            where, beyond = ("smallest", "smaller") if value == tried[0] else ("largest", "larger")
            log.warning(
                "%s of %s: the best %s, %g, is the %s of those tried; try %s ones too (--%s)",
                probe, result["chosen"], name, value, where, beyond, option.replace("_", "-"),
            )  # fmt: skip


def estimator_for(probe: str, config, stores):
    """The estimator of a probe's name, with the settings of the command; ValueError if the training images do not suffice for them."""
    where = {"device": config.device}
    if probe != "knn":
        where["max_bytes"] = int(config.max_memory * 2**30)
    if probe == "exact":
        from ..evaluate.linear_probe import LinearProbe

        return LinearProbe(Cs=config.Cs, **where)
    if probe == "mae":
        from ..evaluate.mae_probe import MAEProbe

        settings = asdict(config)
        settings["batch_size"] = fitting_batch(config, stores)
        return MAEProbe(**{name: settings[name] for name in ("base_lrs", "batch_size", "epochs", "warmup_epochs")}, **where)
    if probe in TOKEN_PROBES:
        from ..evaluate.attentive_probe import AttentiveProbe, EfficientProbe

        if probe == "attentive":
            return AttentiveProbe(config.heads, config.token_lrs, config.token_epochs, **where)
        return EfficientProbe(config.queries, config.token_lrs, config.token_epochs, **where)
    if probe == "knn":
        from ..evaluate.knn import KNNClassifier

        return KNNClassifier(fitting_neighbors(config, stores), getattr(config, "temperature", 0.07), (None, *config.whiten), **where)
    raise ValueError(f"there is no probe {probe!r}; choose one of {', '.join(PROBES)}.")


def training_count(config, stores) -> int:
    """Training images that are not held out for choices."""
    return len(stores.train) - round(config.holdout * len(stores.train))


def fitting_neighbors(config, stores) -> tuple[int, ...]:
    """The numbers of neighbours asked for, or the default ones that the training images suffice for, which is said."""
    count = training_count(config, stores)
    if config.k is None:
        fitting = tuple(k for k in DEFAULT_K if k <= count) or (1,)
        if fitting != DEFAULT_K:
            log.warning("k-NN with --k %s: only %d training images are not held out", _listed(fitting), count)
        return fitting
    if not config.k:
        raise ValueError("--k is empty; give one or more numbers of neighbours.")
    wrong = [k for k in config.k if not 1 <= k <= count]
    if wrong:
        raise ValueError(f"--k {wrong[0]} was given, but {count} training images are not held out; give --k between 1 and {count}.")
    return config.k


def fitting_batch(config, stores) -> int:
    """The batch size of the mae probe: the one asked for, or the default one, or less with few images, which is said."""
    count = training_count(config, stores)
    if config.batch_size is None:
        if count < DEFAULT_BATCH:
            log.warning("mae probe with --batch-size %d: %d training images are not held out, too few for %d", count, count, DEFAULT_BATCH)
        return min(count, DEFAULT_BATCH)
    if config.batch_size > count:
        raise ValueError(f"--batch-size {config.batch_size} was given, but {count} training images are not held out; give at most {count}.")
    return config.batch_size


def _listed(values) -> str:
    return " ".join(map(str, values))


def chosen_settings(row: dict) -> dict:
    """What an estimator chose, of a row of held-out results."""
    return {key: value for key, value in row.items() if key not in ("holdout_accuracy", "features", "map") and value is not None}


def print_rows(results: dict[str, dict]) -> None:
    """Every feature with every probe on held-out images; the chosen one also on the test images."""
    width = max(len(name) for result in results.values() for name in result["held_out"]) + 2
    print(f"{'probe':<11}{'feature':<{width}}{'dims':>6}{'held out':>10}{'test':>10}   95 % interval   chosen")
    for probe, result in results.items():
        for name, row in result["held_out"].items():
            settings = ", ".join(f"{key} {value:g}" for key, value in chosen_settings(row).items())
            test = f"{'':>10}   {'':<13}"
            if name == result["chosen"] and result["test"]:
                score = "top1" if "top1" in result["test"] else result["score"]
                low, high = (100 * value for value in result["test"][f"{score}_interval"])
                test = f"{100 * result['test'][score]:>8.2f} %   {f'{low:.1f} - {high:.1f}':<13}"
            mark = "  <- chosen" if name == result["chosen"] else ""
            held_out = row["holdout_accuracy"] if "score" not in result else row[result["score"]]
            print(f"{probe:<11}{name:<{width}}{row['features']:>6}{100 * held_out:>8.2f} %{test}   {settings}{mark}")
