"""All metrics of a set of generated images from what a network says of it.   n generated, m reference images, D features, C classes"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np

from .frechet import check_sample_count, covariance_rank, expected_bias, frechet_distance, frechet_interval, moments
from .inception_score import inception_score
from .kid import kernel_distance
from .manifold import manifold_hits
from .memorisation import memorisation
from .reports import bootstrap_interval


@dataclass(frozen=True)
class NetworkOutputs:
    """What a network says of images, image by image.

    pooled : (n, D), the features before the classifier.
    spatial : (n, D'), see `spatial_features`, or None.
    logits : (n, C), or None of a network without a classifier.
    """

    pooled: np.ndarray
    spatial: np.ndarray | None = None
    logits: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.pooled)

    def take(self, rows: np.ndarray | slice) -> NetworkOutputs:
        spatial, logits = (None if part is None else part[rows] for part in (self.spatial, self.logits))
        return NetworkOutputs(self.pooled[rows], spatial, logits)


@dataclass(frozen=True)
class ReferenceOutputs:
    """What generated images are measured against.

    mean, covariance, spatial_mean, spatial_covariance : of all reference images.
    count : how many those are; None if unknown, as in ADM's files.
    pooled : (m, D) of the images for KID, precision, recall, density and coverage; None leaves these out.
    complete : whether `pooled` is of all reference images, so that copies of them can be looked for.
    """

    mean: np.ndarray
    covariance: np.ndarray
    spatial_mean: np.ndarray | None = None
    spatial_covariance: np.ndarray | None = None
    count: int | None = None
    pooled: np.ndarray | None = None
    complete: bool = False

    @classmethod
    def of(cls, outputs: NetworkOutputs) -> ReferenceOutputs:
        """The reference that a whole set of images makes."""
        mean, covariance = moments(outputs.pooled)
        spatial = (None, None) if outputs.spatial is None else moments(outputs.spatial)
        return cls(mean, covariance, spatial[0], spatial[1], len(outputs), outputs.pooled, True)


@dataclass(frozen=True)
class MetricSettings:
    """Everything that changes a number besides features; numbers of equal settings are compared.

    Parameters
    ----------
    k : int
        Neighbours of precision and recall.
    density_k : int
        Neighbours of density and coverage.
    manifold_images : int
        Reference images, drawn once, that these four see; ADM has 10,000.
    kid_subsets, kid_subset_size : int
        Number and size of the subsets of the kernel distance; size 0 for 1,000, or all images where there are fewer.
    score_block : int
        Images of a block of the Inception score, after shuffling.
    few_samples : bool
        Give Frechet distances also of fewer than 2 D images, where bias is most of them.
    resamples : int
        Bootstrap resamples per interval; 0 for none.
    seed : int
        Seed of resamples, subsets, and the choice of reference images.
    """

    k: int = 3
    density_k: int = 5
    manifold_images: int = 10_000
    kid_subsets: int = 100
    kid_subset_size: int = 0
    score_block: int = 5000
    few_samples: bool = False
    resamples: int = field(default=200, metadata={"compared": False})
    seed: int = 0

    def compared(self) -> dict:
        """The settings without which two numbers cannot be compared."""
        return {name: value for name, value in asdict(self).items() if name not in ("resamples", "few_samples")}


def generation_metrics(
    samples: NetworkOutputs,
    reference: ReferenceOutputs,
    settings: MetricSettings = MetricSettings(),
    *,
    unseen: np.ndarray | None = None,
    labels: np.ndarray | None = None,
) -> dict:
    """Every metric that the outputs allow, with 95 % intervals, and why the others are left out.

    Parameters
    ----------
    unseen : array (l, D), optional
        Pooled features of real images that the model was not trained on, to tell copies of training images; needs a complete reference.
    labels : int array (n,), optional
        The class asked for of each image, -1 for none: gives the share that the network's classifier recognises.

    Returns
    -------
    dict
        "images", then a dictionary with "value", "interval" and facts for each of frechet, spatial_frechet, kid, inception_score,
        precision, recall, density, coverage, memorisation and recognised; "left_out": reasons by name.

    Raises
    ------
    ValueError
        For features that do not fit the reference, or fewer than 2 D images unless `few_samples`.
    """
    found: dict = {"images": len(samples)}
    left_out: dict[str, str] = {}
    found["frechet"] = _frechet(samples.pooled, reference.mean, reference.covariance, reference.count, settings)
    if samples.spatial is None or reference.spatial_mean is None or reference.spatial_covariance is None:
        left_out["spatial_frechet"] = "no spatial features of " + ("the samples" if samples.spatial is None else "the reference")
    else:
        try:
            spatial = samples.spatial, reference.spatial_mean, reference.spatial_covariance
            found["spatial_frechet"] = _frechet(*spatial, reference.count, settings)
        except ValueError as error:
            if "too few" not in str(error):
                raise
            left_out["spatial_frechet"] = str(error)
    if reference.pooled is None:
        left_out |= dict.fromkeys(("kid", "precision", "recall", "density", "coverage"), "the reference has no images")
    else:
        found["kid"] = _kid(samples.pooled, reference.pooled, settings)
        found |= _manifold(samples.pooled, reference.pooled, settings)
    if samples.logits is None:
        left_out["inception_score"] = left_out["recognised"] = "the network has no classifier"
    elif samples.logits.shape[1] < 2:
        left_out["inception_score"] = left_out["recognised"] = "the network's classifier has 1 class"
    else:
        found["inception_score"] = _score(samples.logits, settings)
        _recognised(found, left_out, samples.logits, labels)
    if unseen is None or reference.pooled is None or not reference.complete:
        left_out["memorisation"] = "no unseen real images" if unseen is None else "the reference is not of all training images"
    else:
        found["memorisation"] = _memorisation(samples.pooled, reference.pooled, unseen, settings)
    return {**found, "left_out": left_out}


def _frechet(features: np.ndarray, mean: np.ndarray, covariance: np.ndarray, count: int | None, settings: MetricSettings) -> dict:
    if features.shape[1] != len(mean):
        raise ValueError(
            f"features have {features.shape[1]} dimensions and the reference's statistics {len(mean)}; "
            "take the network (and spatial layer) that the reference was made with."
        )
    if not settings.few_samples:
        check_sample_count(len(features), count, covariance)
    own = moments(features)
    return {
        "value": frechet_distance(*own, mean, covariance),
        "interval": frechet_interval(features, (mean, covariance), resamples=settings.resamples, seed=settings.seed)
        if settings.resamples
        else None,
        "expected_bias": expected_bias(covariance, len(features), count),
        "features": len(mean),
        "rank": covariance_rank(own[1]),
        "reference_rank": covariance_rank(covariance),
    }


def _kid(features: np.ndarray, reference: np.ndarray, settings: MetricSettings) -> dict:
    size = settings.kid_subset_size or min(1000, len(features), len(reference))
    found = kernel_distance(features, reference, settings.kid_subsets, size, settings.seed, max(1, settings.resamples))
    interval = found.interval if settings.resamples else None
    return {"value": found.mean, "interval": interval, "std": found.std, "subsets": found.subsets, "subset_size": found.subset_size}


def _manifold(features: np.ndarray, reference: np.ndarray, settings: MetricSettings) -> dict:
    if len(reference) > settings.manifold_images:
        rows = np.random.default_rng(settings.seed).permutation(len(reference))[: settings.manifold_images]
        reference = reference[np.sort(rows)]
    hits = manifold_hits(features, reference, settings.k, settings.density_k)
    facts = {"reference_images": len(reference)}
    found = {}
    for name, flags in (("precision", hits.precise), ("recall", hits.recalled), ("coverage", hits.covered)):
        interval = bootstrap_interval(flags, seed=settings.seed) if settings.resamples else None
        found[name] = {"value": float(flags.mean()), "interval": interval, **facts}
    rng = np.random.default_rng(settings.seed)
    drawn = [hits.balls[rng.integers(len(features), size=len(features))].mean() / hits.density_k for _ in range(settings.resamples)]
    interval = (float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))) if drawn else None
    return {**found, "density": {"value": hits.density, "interval": interval, **facts}}


def _score(logits: np.ndarray, settings: MetricSettings) -> dict:
    options = {"block_size": settings.score_block, "shuffle": settings.seed, "seed": settings.seed}
    found = inception_score(logits, resamples=max(1, settings.resamples), **options)
    interval = found.interval if settings.resamples else None
    return {"value": found.mean, "interval": interval, "std": found.std, "blocks": len(found.blocks), "classes": logits.shape[1]}


def _recognised(found: dict, left_out: dict, logits: np.ndarray, labels: np.ndarray | None) -> None:
    if labels is None or (labels < 0).all():
        left_out["recognised"] = "the images have no labels"
    elif labels.max() >= logits.shape[1]:
        left_out["recognised"] = f"label {labels.max()} is none of the network's {logits.shape[1]} classes"
    else:
        correct = (logits.argmax(1) == labels)[labels >= 0]
        found["recognised"] = {"value": float(correct.mean()), "interval": bootstrap_interval(correct)}


def _memorisation(features: np.ndarray, train: np.ndarray, unseen: np.ndarray, settings: MetricSettings) -> dict:
    copies = memorisation(features, train, unseen, max(1, settings.resamples), settings.seed)
    return {
        "value": copies.closer_than_test,
        "interval": copies.interval if settings.resamples else None,
        "distance_ratio": copies.distance_ratio,
        "copies": copies.copies,
        "authentic": copies.authentic,
    }
