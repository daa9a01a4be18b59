"""The network in whose features generated images are measured.   b images, H x W pixels, C classes, D features"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from ..checkpoints import fingerprint, read_pickle, read_safetensors
from ..evaluate.generation import NetworkOutputs
from ..evaluate.spatial import CHANNELS, spatial_features
from .inputs import image_transform
from .torchvision_inception import INCEPTION, TorchvisionInception, inception_weights


class MetricNetwork:
    """Pooled features, spatial features and logits of uint8 pictures.

    Parameters
    ----------
    model : timm model, or a module with its `forward_features`, `forward_head(pre_logits=)`, `num_classes` and data configuration
    name : str
        What reports call it.
    spatial_layer : str, optional
        Name of the module whose output gives spatial features; of timm models, the last but one of `feature_info` by default. "" for none.
    spatial_channels : int
        How many of its channels, the first ones.
    image_size : int, optional
        Side of its inputs, for networks that take any; the network's own by default.
    device : str or torch.device
    batch_size : int
        Images a forward pass.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        spatial_layer: str | None = None,
        spatial_channels: int = CHANNELS,
        image_size: int | None = None,
        device: str | torch.device = "cpu",
        batch_size: int = 64,
    ):
        self.model, self.name, self.spatial_channels = model.to(device).eval(), name, spatial_channels
        self.device, self.batch_size = torch.device(device), batch_size
        self.transform, self.mode = image_transform(model, image_size, crop_pct=1.0)  # a picture is judged whole, up to its border
        self.spatial_layer = _default_layer(model) if spatial_layer is None else spatial_layer
        self._maps: list[Tensor] = []
        if self.spatial_layer:
            modules = dict(model.named_modules())
            if self.spatial_layer not in modules:
                near = [key for key in modules if key and key.count(".") < 2][:12]
                raise ValueError(f"{name} has no layer {self.spatial_layer!r}; some of its layers: {', '.join(near)}.")
            modules[self.spatial_layer].register_forward_hook(lambda _, __, output: self._maps.append(output))
        self.sha256 = fingerprint(model)

    @property
    def identity(self) -> dict:
        """What must agree for two numbers to be compared, and the network's name."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "features": self.model.num_features,
            "classes": self.model.num_classes,
            "spatial_layer": self.spatial_layer or None,
            "spatial_channels": self.spatial_channels if self.spatial_layer else None,
            "transform": " ".join(repr(self.transform).split()),
        }

    @torch.no_grad()
    def __call__(self, pixels: np.ndarray) -> NetworkOutputs:
        """Outputs for uint8 pictures (n, H, W, 3) or (n, H, W, 1), float32."""
        parts = [self._batch(pixels[start : start + self.batch_size]) for start in range(0, len(pixels), self.batch_size)]
        return joined(parts)

    def _batch(self, pixels: np.ndarray) -> NetworkOutputs:
        pictures = (Image.fromarray(one[..., 0] if one.shape[-1] == 1 else one).convert(self.mode) for one in pixels)
        images = torch.stack([self.transform(picture) for picture in pictures]).to(self.device)
        self._maps.clear()
        features = self.model.forward_features(images)
        pooled = self.model.forward_head(features, pre_logits=True)
        logits = self.model.forward_head(features) if self.model.num_classes else None
        spatial = None
        if self.spatial_layer:
            maps = self._maps[-1]
            if not isinstance(maps, Tensor) or maps.dim() not in (3, 4):
                raise ValueError(f"layer {self.spatial_layer} of {self.name} gives no feature map (channels, height, width); name another.")
            spatial = spatial_features(maps.float().cpu().numpy(), self.spatial_channels)
        return NetworkOutputs(pooled.float().cpu().numpy(), spatial, _numpy(logits))


def joined(parts: Iterable[NetworkOutputs]) -> NetworkOutputs:
    """Outputs of several batches as one."""
    pooled, spatial, logits = zip(*((part.pooled, part.spatial, part.logits) for part in parts), strict=True)
    rest = (None if column[0] is None else np.concatenate(column) for column in (spatial, logits))
    return NetworkOutputs(np.concatenate(pooled), *rest)


def metric_network(name: str, checkpoint: str | Path | None = None, arguments: dict | None = None, **options) -> MetricNetwork:
    """A network by name.

    Parameters
    ----------
    name : str
        Any timm model, such as tf_efficientnet_lite0, or torchvision.inception_v3.
    checkpoint : path, optional
        Weights (safetensors, or a pickle of weights alone) instead of the pretrained ones. The number of classes and of input channels is
        read off them.
    arguments : dict, optional
        For `timm.create_model`.
    **options
        As in `MetricNetwork`.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or no weights of torchvision's Inception on disk.
    ValueError
        For a model that timm does not know, one without weights, or weights that do not fit.
    """
    if name == INCEPTION:
        path = inception_weights(checkpoint)
        return MetricNetwork(TorchvisionInception(path), name, **options)
    arguments = dict(arguments or {})
    arch = name.split(".")[0]
    if ":" not in name and not timm.is_model(arch):
        near = timm.list_models(f"*{arch[:6]}*")[:5]
        found = f"similar: {', '.join(near)}" if near else f"see timm.list_models(), or take {INCEPTION}"
        raise ValueError(f"there is no timm model {name!r}; {found}.")
    if checkpoint is None:
        if ":" not in name and not timm.is_model_pretrained(name):
            raise ValueError(f"{name} has no pretrained weights, and random features measure nothing; give --checkpoint FILE.")
        return MetricNetwork(timm.create_model(name, pretrained=True, **arguments), name, **options)
    state = _read_weights(checkpoint)
    model = timm.create_model(name, pretrained=False, **{**_shapes(name, state), **arguments})
    fitted = {key.removeprefix("module."): value for key, value in state.items()}
    missing, unexpected = model.load_state_dict(fitted, strict=False) if _same_shapes(model, fitted) else (["shapes"], [])
    if missing or unexpected:
        raise ValueError(f"{checkpoint} does not hold the weights of {name}: {_mismatch(model, fitted)}. Name the model it was made with.")
    return MetricNetwork(model, name, **options)


def _read_weights(path: str | Path) -> dict[str, Tensor]:
    state = read_safetensors(path) if Path(path).suffix == ".safetensors" else read_pickle(path)
    for key in ("state_dict", "model", "state_dict_ema"):
        if isinstance(state.get(key), dict):
            state = state[key]
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}


def _shapes(name: str, state: dict[str, Tensor]) -> dict:
    """Arguments that the shapes of weights tell: num_classes and in_chans."""
    with torch.device("meta"):
        cfg = timm.create_model(name, pretrained=False).pretrained_cfg
    found = {}
    classifier, first = cfg.get("classifier"), cfg.get("first_conv")
    if isinstance(classifier, str):
        weight = state.get(f"{classifier}.weight")
        found["num_classes"] = 0 if weight is None else weight.shape[0]
    if isinstance(first, str) and f"{first}.weight" in state:
        found["in_chans"] = state[f"{first}.weight"].shape[1]
    return found


def _same_shapes(model: nn.Module, state: dict[str, Tensor]) -> bool:
    own = model.state_dict()
    return all(key not in own or own[key].shape == value.shape for key, value in state.items())


def _mismatch(model: nn.Module, state: dict[str, Tensor]) -> str:
    own = model.state_dict()
    for key, value in own.items():
        if key not in state:
            return f"{key} is missing"
        if state[key].shape != value.shape:
            return f"{key} is {list(state[key].shape)} there and {list(value.shape)} here"
    return f"{next(key for key in state if key not in own)} is not part of the model"


def _default_layer(model: nn.Module) -> str:
    info = getattr(model, "feature_info", None)
    info = getattr(info, "info", info) or []
    modules = dict(model.named_modules())
    names = [entry["module"] for entry in info if entry.get("module") in modules]
    return names[-2] if len(names) > 1 else ""


def _numpy(x: Tensor | None) -> np.ndarray | None:
    return None if x is None else x.float().cpu().numpy()
