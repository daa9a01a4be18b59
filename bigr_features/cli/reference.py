"""`bigr reference`: statistics of a data set, for `bigr evaluate-generation` and for ADM's evaluator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .metric_options import NetworkOptions, load_network, progress


@dataclass(frozen=True, kw_only=True)
class ReferenceConfig(NetworkOptions):
    """Write the statistics of a data set's features, and some of its images, as an .npz in the layout of ADM's references.

    Parameters
    ----------
    data : str
        Images: "sample:fashion_mnist", a folder or file of parquet, arrow or images, or the id of a data set on the Hub.
    out : Path
        File to write, .npz.
    split : str
        Split of the data.
    image_size : int, optional
        Crop and resize images to this side, as training does; without it they must all be of one size.
    limit : int, optional
        Take the first images only.
    num_images : int
        Images that the file keeps for KID, precision, recall, density and coverage, evenly spread over the set.
    """

    data: Annotated[str, tyro.conf.Positional]
    out: Path
    split: str = "train"
    image_size: int | None = None
    limit: int | None = None
    num_images: int = 10_000


def reference(config: ReferenceConfig) -> None:
    """Run `bigr reference`."""
    from ..evaluate.reference import write_reference
    from ..features.generation_evaluation import reference_of
    from ..features.picture_sets import PictureSet

    if config.out.suffix.lower() != ".npz":
        raise ValueError(f"--out {config.out} does not end in .npz.")
    if config.num_images < 0:
        raise ValueError(f"--num-images {config.num_images} was given; give 0 or more.")
    pictures = PictureSet(config.data, config.split, config.image_size, config.limit)
    network = load_network(config)
    with progress(len(pictures), config.split) as advance:
        made = reference_of(network, pictures, advance, config.num_images)
    write_reference(config.out, made)
    kept = 0 if made.images is None else len(made.images)
    spatial = "" if made.spatial_mean is None else f", {len(made.spatial_mean)} spatial ones of {network.spatial_layer}"
    print(f"{made.count} images, {len(made.mean)} features of {network.name}{spatial}; {kept} images kept")
    print(f"wrote {config.out}")
