"""`bigr probe`, `bigr knn`, `bigr sweep`: what are the features of a store worth?"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

log = logging.getLogger(__name__)
PROBES = ("exact", "mae", "knn")
DEFAULT_K = (10, 20, 100, 200)
DEFAULT_BATCH = 1024


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """Options of every command that evaluates feature stores.

    Parameters
    ----------
    train : Path
        Feature store of the training images, as `bigr extract` wrote it.
    out : Path
        JSON to write.
    test : Path, optional
        Feature store of the test images, used once with what was chosen; without one there are held-out numbers only.
    names : tuple of str
        Features to compare, such as block5_mean; default all of the store.
    holdout : float
        Share of the training images for every choice.
    seed : int
        Seed of the held-out split and of what a probe draws.
    threads : int
        CPU threads; 0 for torch's default.
    """

    train: Path
    out: Path
    test: Path | None = None
    names: tuple[str, ...] = ()
    holdout: float = 0.2
    seed: int = 0
    threads: int = 0


@dataclass(frozen=True, kw_only=True)
class LinearOptions:
    """Options of the two linear probes.

    Parameters
    ----------
    Cs : tuple of float
        Inverse regularisation strengths that the exact probe tries.
    base_lrs : tuple of float
        Learning rates that the mae probe tries, per 256 images of a batch.
    batch_size : int, optional
        Images per step of the mae probe; 1024 by default, or all with fewer.
    epochs : int
        Passes of the mae probe over the training images.
    warmup_epochs : int
        Passes over which the mae probe's learning rate rises.
    """

    Cs: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
    base_lrs: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    batch_size: int | None = None
    epochs: int = 90
    warmup_epochs: int = 10


@dataclass(frozen=True, kw_only=True)
class NeighborOptions:
    """Options of k-NN.

    Parameters
    ----------
    k : tuple of int, optional
        Numbers of neighbours; by default those of 10, 20, 100 and 200 that there are enough training images for.
    whiten : tuple of float
        Shrinkages of a whitening of the features that k-NN tries besides none.
    """

    k: tuple[int, ...] | None = None
    whiten: tuple[float, ...] = (1e-3, 1.0)


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(LinearOptions, StoreConfig):
    """Linear probe of a feature store. Feature and settings are chosen on held-out training data; the test store is used once.

    Parameters
    ----------
    protocol : str
        exact (logistic regression, regularisation chosen from Cs) or mae (BatchNorm, LARS, 90 epochs, base_lrs).
    seeds : int
        Repetitions of the chosen probe with other seeds (held-out split; for mae also weights and order), for the spread.
    """

    protocol: str = "exact"
    seeds: int = 1


@dataclass(frozen=True, kw_only=True)
class KNNConfig(NeighborOptions, StoreConfig):
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
class SweepConfig(NeighborOptions, LinearOptions, StoreConfig):
    """Every layer and pooling of a store with every probe: JSON, table, and a picture of accuracy over depth.

    Parameters
    ----------
    out : Path
        Folder for sweep.json and sweep.png.
    probes : tuple of str
        Probes to run: some of exact, mae and knn.
    """

    probes: tuple[str, ...] = ("exact", "knn")


def probe(config: ProbeConfig) -> None:
    """Run the command; prints a table and writes the result."""
    from ..evaluate.reports import write_json
    from .probe_stores import evaluate_stores, open_stores

    if config.seeds < 1:
        raise ValueError(f"seeds={config.seeds}; expected 1 or more.")
    if config.protocol not in ("exact", "mae"):
        raise ValueError(f"there is no probe {config.protocol!r}; choose exact or mae.")
    stores = open_stores(config)
    estimator = estimator_for(config.protocol, config, stores)
    result = evaluate_stores(stores, config.protocol, estimator, config, seeds=config.seeds)
    write_json(config.out, {"command": "probe", **result})
    print_rows({config.protocol: result})
    print(f"wrote {config.out}")


def knn(config: KNNConfig) -> None:
    """Run the command; prints a table and writes the result."""
    from ..evaluate.reports import write_json
    from .probe_stores import evaluate_stores, open_stores

    stores = open_stores(config)
    estimator = estimator_for("knn", config, stores)
    result = evaluate_stores(stores, "knn", estimator, config, leave_one_out=config.leave_one_out)
    write_json(config.out, {"command": "knn", **result})
    print_rows({"knn": result})
    if result["leave_one_out"]:
        found = ", ".join(f"k={k} {100 * accuracy:.2f} %" for k, accuracy in result["leave_one_out"].items())
        print(f"training images, leaving one out: {found}")
    print(f"wrote {config.out}")


def sweep(config: SweepConfig) -> None:
    """Run the command; prints a table, writes the result and the picture."""
    from ..evaluate.reports import write_json
    from .probe_stores import draw_depth, evaluate_stores, open_stores

    if not config.probes:
        raise ValueError("probes is empty; give one or more of exact, mae and knn.")
    unknown = [name for name in config.probes if name not in PROBES]
    if unknown:
        raise ValueError(f"there is no probe {unknown[0]!r}; choose some of {', '.join(PROBES)}.")
    stores = open_stores(config)
    estimators = {name: estimator_for(name, config, stores) for name in config.probes}  # refuses before the first one runs
    results = {name: evaluate_stores(stores, name, estimator, config) for name, estimator in estimators.items()}
    write_json(config.out / "sweep.json", {"command": "sweep", "probes": results})
    drawn = draw_depth(results, config.out / "sweep.png")
    print_rows(results)
    print(
        f"wrote {config.out / 'sweep.json'}" + (" and sweep.png" if drawn else "; no picture, the store has features of one layer at most")
    )


def estimator_for(probe: str, config, stores):
    """The estimator of a probe's name, with the settings of the command; ValueError if the training images do not suffice for them."""
    if probe == "exact":
        from ..evaluate.linear_probe import LinearProbe

        return LinearProbe(Cs=config.Cs)
    if probe == "mae":
        from ..evaluate.mae_probe import MAEProbe

        settings = asdict(config)
        settings["batch_size"] = fitting_batch(config, stores)
        return MAEProbe(**{name: settings[name] for name in ("base_lrs", "batch_size", "epochs", "warmup_epochs")})
    if probe == "knn":
        from ..evaluate.knn import KNNClassifier

        return KNNClassifier(fitting_neighbors(config, stores), getattr(config, "temperature", 0.07), (None, *config.whiten))
    raise ValueError(f"there is no probe {probe!r}; choose exact, mae or knn.")


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
    return {key: value for key, value in row.items() if key not in ("holdout_accuracy", "features") and value is not None}


def print_rows(results: dict[str, dict]) -> None:
    """Every feature with every probe on held-out images; the chosen one also on the test images."""
    print(f"{'probe':<7}{'feature':<18}{'dims':>6}{'held out':>10}{'test':>10}   95 % interval   chosen")
    for probe, result in results.items():
        for name, row in result["held_out"].items():
            settings = ", ".join(f"{key} {value:g}" for key, value in chosen_settings(row).items())
            test = f"{'':>10}   {'':<13}"
            if name == result["chosen"] and result["test"]:
                low, high = (100 * value for value in result["test"]["top1_interval"])
                test = f"{100 * result['test']['top1']:>8.2f} %   {f'{low:.1f} - {high:.1f}':<13}"
            mark = "  <- chosen" if name == result["chosen"] else ""
            print(f"{probe:<7}{name:<18}{row['features']:>6}{100 * row['holdout_accuracy']:>8.2f} %{test}   {settings}{mark}")
