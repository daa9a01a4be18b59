"""Generated images against a data set, from pictures to a report: the network's outputs, the reference, the floor and the ceiling."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict

import numpy as np
import torch
from torch import nn

from ..data.pixels import to_uint8
from ..evaluate.frechet import RunningMoments, check_sample_count
from ..evaluate.generation import MetricSettings, NetworkOutputs, ReferenceOutputs, generation_metrics
from ..evaluate.generation_report import comparison
from ..evaluate.reference import Reference
from .metric_network import MetricNetwork, joined
from .picture_sets import PictureSet, Pixels

READ = 256  # pictures read at a time
Progress = Callable[[int], None]


def network_outputs(network: MetricNetwork, batches: Iterable[np.ndarray], on_batch: Progress = lambda count: None):
    """Outputs of all pictures, and their number and hash.

    Parameters
    ----------
    batches : iterable of uint8 arrays (b, H, W, 3)
    on_batch : callable
        Told how many pictures were added.

    Returns
    -------
    NetworkOutputs, dict of "images" and "sha256"
    """
    parts, pixels = [], Pixels()
    for batch in batches:
        parts.append(network(batch))
        pixels.update(batch)
        on_batch(len(batch))
    if not parts:
        raise ValueError("there is no picture to evaluate.")
    return joined(parts), pixels.facts()


def reference_of(network: MetricNetwork, pictures: PictureSet, on_batch: Progress = lambda count: None, keep_images: int = 0) -> Reference:
    """Statistics of a whole set of real pictures, and `keep_images` of them, evenly spread over the set; pooled features are not kept."""
    return _reference(network, pictures, on_batch, keep_images)[0]


def reference_outputs(network: MetricNetwork, pictures: PictureSet, on_batch: Progress = lambda count: None):
    """The same with the pooled features of every picture: ReferenceOutputs, and the facts of the set."""
    found, pooled = _reference(network, pictures, on_batch, 0, keep_pooled=True)
    statistics = found.mean, found.covariance, found.spatial_mean, found.spatial_covariance
    return ReferenceOutputs(*statistics, found.count, pooled, complete=True), found.source


def outputs_of_reference(network: MetricNetwork, reference: Reference, on_batch: Progress = lambda count: None, foreign: bool = False):
    """ReferenceOutputs and facts of a reference that was read from a file.

    Parameters
    ----------
    foreign : bool
        Take a reference of which it is not known which network made it, such as ADM's.

    Raises
    ------
    ValueError
        If another network made it, or it does not say which.
    """
    if reference.network is None and not foreign:
        raise ValueError(
            "the reference does not say which network its statistics come from (ADM's come from the Inception graph of 2015, which no "
            f"network here is), and those of {network.name} cannot be compared with them; make one with `bigr reference`, or write the "
            "samples with --adm-npz and give them to ADM's evaluator."
        )
    if reference.network is not None:
        check_same_network(reference.network, network.identity)
    pooled = None
    if reference.images is not None:
        parts = (reference.images[start : start + READ] for start in range(0, len(reference.images), READ))
        pooled = network_outputs(network, parts, on_batch)[0].pooled
    statistics = reference.mean, reference.covariance, reference.spatial_mean, reference.spatial_covariance
    facts = reference.source or {"images": reference.count, "sha256": None}
    return ReferenceOutputs(*statistics, reference.count, pooled), facts


def check_same_network(made_with: dict, here: dict) -> None:
    """Refuse statistics of another network.

    Raises
    ------
    ValueError
        Naming both, and in what they differ.
    """
    names = ("sha256", "features", "spatial_layer", "spatial_channels", "transform")
    differing = [name for name in names if made_with.get(name) != here[name]]
    if differing:
        name = differing[0]
        raise ValueError(
            f"the reference was made with {made_with.get('name')}, and this is {here['name']}: they differ in {', '.join(differing)} "
            f"({made_with.get(name)} there, {here[name]} here). Make the reference again with this network, or take the other."
        )


@torch.no_grad()
def decoded(model: nn.Module, batches: Iterable[np.ndarray], batch_size: int = 64) -> Iterator[np.ndarray]:
    """Pictures as the model's tokenizer gives them back from their codes: uint8 RGB (b, S, S, 3) of uint8 RGB pictures of its size."""
    device = next(model.parameters()).device
    channels = model.tokenizer.config.in_chans
    for batch in batches:
        for start in range(0, len(batch), batch_size):
            images = torch.from_numpy(np.ascontiguousarray(batch[start : start + batch_size])).permute(0, 3, 1, 2).float() / 255
            images = images if channels == 3 else images.mean(1, keepdim=True)
            pixels = to_uint8(model.decode(model.encode(images.to(device))).clamp(0, 1))
            yield np.repeat(pixels, 3, axis=3) if pixels.shape[3] == 1 else pixels


def check_image_count(count: int, reference: ReferenceOutputs, settings: MetricSettings) -> None:
    """Refuse, before anything is drawn, fewer images than the Frechet distance needs."""
    if not settings.few_samples:
        check_sample_count(count, reference.count, reference.covariance)


def report(
    network: MetricNetwork,
    samples: tuple[NetworkOutputs, dict],
    reference: tuple[ReferenceOutputs, dict],
    settings: MetricSettings,
    *,
    labels: np.ndarray | None = None,
    floor: tuple[NetworkOutputs, dict] | None = None,
    floor_labels: np.ndarray | None = None,
    ceiling: tuple[NetworkOutputs, dict] | None = None,
) -> dict:
    """The report of a set of samples, ready for JSON.

    Parameters
    ----------
    samples, reference, floor, ceiling
        Each with its facts. Floor: real images that the model was not trained on; ceiling: the same, decoded from their codes.
    labels, floor_labels : int arrays, optional
        Classes asked for, and true classes.

    Returns
    -------
    dict
        "network", "reference", "samples", "settings", "comparison", "metrics"; "floor" and "ceiling" with their own "comparison" and
        "metrics", or None.
    """
    identity = network.identity
    unseen = None if floor is None else floor[0].pooled

    def measured(outputs: NetworkOutputs, facts: dict, own: MetricSettings, **options) -> dict:
        compared = comparison(identity, reference[1], len(outputs), own.compared())
        return {**facts, "comparison": compared, "metrics": generation_metrics(outputs, reference[0], own, **options)}

    quick = MetricSettings(**{**asdict(settings), "resamples": 0, "few_samples": True})
    main = measured(*samples, settings, unseen=unseen, labels=labels)
    return {
        "network": identity,
        "reference": reference[1],
        "samples": {name: value for name, value in main.items() if name not in ("comparison", "metrics")},
        "settings": {**asdict(settings), "interval": "95 %, bootstrap over generated images (recall and coverage: over reference images)"},
        "comparison": main["comparison"],
        "metrics": main["metrics"],
        "floor": None if floor is None else measured(*floor, quick, labels=floor_labels),
        "ceiling": None if ceiling is None else measured(*ceiling, quick, unseen=unseen, labels=floor_labels),
    }


def _reference(network, pictures, on_batch, keep_images, keep_pooled=False) -> tuple[Reference, np.ndarray | None]:
    moments, spatial, pixels = RunningMoments(), RunningMoments(), Pixels()
    wanted = np.unique(np.linspace(0, len(pictures) - 1, min(keep_images, len(pictures))).astype(int))
    kept, pooled = [], []
    for batch, positions in pictures.batches(READ):
        outputs = network(batch)
        if not np.isfinite(outputs.pooled).all():
            raise ValueError(f"{network.name} gives features that are NaN or infinite; check its weights.")
        moments.update(outputs.pooled)
        if outputs.spatial is not None:
            spatial.update(outputs.spatial)
        pixels.update(batch)
        kept.append(batch[np.isin(positions, wanted)])
        pooled += [outputs.pooled] if keep_pooled else []
        on_batch(len(batch))
    facts = {"source": pictures.source, "split": pictures.split, "image_size": pictures.size, **pixels.facts()}
    mean, covariance = moments.result()
    spatial_mean, spatial_covariance = spatial.result() if spatial.count else (None, None)
    images = np.concatenate(kept) if keep_images else None
    made = Reference(mean, covariance, spatial_mean, spatial_covariance, images, moments.count, network.identity, facts)
    return made, np.concatenate(pooled) if keep_pooled else None
