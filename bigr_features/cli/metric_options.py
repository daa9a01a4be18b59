"""What `bigr evaluate-generation` and `bigr reference` share: the network's options, and progress."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..functional.progress import progress as progress_of


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The network whose features measure images.

    Parameters
    ----------
    network : str
        Any timm model, such as tf_efficientnet_lite0, or torchvision.inception_v3 where its weights are on disk.
    checkpoint : Path, optional
        File with the network's weights instead of the pretrained ones.
    network_args : tuple of str
        Arguments of timm.create_model for the network, such as in_chans=1.
    network_size : int, optional
        Side in pixels of the network's inputs, for networks that take any; its own by default.
    spatial_layer : str, optional
        Layer of the spatial Frechet distance; the last but one of timm's feature layers by default, "" for none.
    spatial_channels : int
        How many of its channels, the first ones, as in sFID.
    batch_size : int
        Images a forward pass.
    device : str
        auto (an accelerator if there is one) or a torch device such as cpu.
    threads : int
        CPU threads, 0 for the default.
    """

    network: str
    checkpoint: Path | None = None
    network_args: tuple[str, ...] = ()
    network_size: int | None = None
    spatial_layer: str | None = None
    spatial_channels: int = 7
    batch_size: int = 64
    device: str = "auto"
    threads: int = 0


def load_network(config: NetworkOptions):
    """The network that the options name, on its device."""
    import torch

    from ..features.metric_network import metric_network
    from ..functional.inference import local_device
    from .models import parse_arguments

    if config.batch_size < 1:
        raise ValueError(f"--batch-size {config.batch_size} was given; give 1 or more.")
    if config.threads:
        torch.set_num_threads(config.threads)
    options = {"spatial_layer": config.spatial_layer, "spatial_channels": config.spatial_channels}
    options |= {"image_size": config.network_size, "device": local_device(config.device), "batch_size": config.batch_size}
    return metric_network(config.network, config.checkpoint, parse_arguments(config.network_args), **options)


@contextmanager
def progress(total: int, what: str, unit: str = "image"):
    """Progress; gives the function that advances it."""
    with progress_of(total=total, desc=what, unit=unit) as bar:
        yield bar.update
