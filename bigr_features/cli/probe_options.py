"""Options of the commands that evaluate feature stores, and which of them belongs to which probe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROTOCOLS = ("exact", "mae", "attentive", "efficient")
PROBES = (*PROTOCOLS, "knn", "retrieval")
TOKEN_PROBES = ("attentive", "efficient")
SCORES = ("map", "recall@1")


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
    device : str
        Where probes are trained and neighbours searched: cpu, cuda, ...
    """

    train: Path
    out: Path
    test: Path | None = None
    names: tuple[str, ...] = ()
    holdout: float = 0.2
    seed: int = 0
    threads: int = 0
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class PrintingOptions:
    """How a result is shown.

    Parameters
    ----------
    json : bool
        Print the result as JSON instead of a table; it is what is written to --out.
    """

    json: bool = False


@dataclass(frozen=True, kw_only=True)
class TokenOptions:
    """Options of the two attentive probes, which look at the tokens of a layer.

    Parameters
    ----------
    heads : tuple of int
        Numbers of heads that the attentive probe (AIM's) tries.
    queries : tuple of int
        Numbers of learned queries that the efficient probe tries.
    token_lrs : tuple of float
        Learning rates that both try.
    token_epochs : int
        Passes of both over the training images.
    """

    heads: tuple[int, ...] = (4,)
    queries: tuple[int, ...] = (4, 8)
    token_lrs: tuple[float, ...] = (1e-3, 3e-3)
    token_epochs: int = 20


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
    max_memory : float
        GiB that the features of a probe may take in memory; larger ones are read from disk in every pass, which is said.
    together : int
        Largest number of features side by side, chosen one after another on held-out images; 1 compares single features only.
    """

    Cs: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
    base_lrs: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    batch_size: int | None = None
    epochs: int = 90
    warmup_epochs: int = 10
    max_memory: float = 4.0
    together: int = 1


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


def check_options(config) -> None:
    """Refuse values that no probe can take."""
    if not config.max_memory > 0:
        raise ValueError(f"--max-memory {config.max_memory:g} was given; expected GiB, more than 0.")
    if config.together < 1:
        raise ValueError(f"--together {config.together} was given; expected 1 (single features) or more.")
    if getattr(config, "score", "map") not in SCORES:
        raise ValueError(f"--score {config.score} is unknown; choose one of {', '.join(SCORES)}.")
