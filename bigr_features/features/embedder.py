"""From images to what a gallery compares: one model, one layer.   b images of a batch, D features, K bits"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..backbones.backbone import BiGRBackbone
from ..checkpoints import fingerprint
from ..data.reopened import opened
from ..functional.inference import evaluating
from ..functional.pooling import HEAD, layer_and_pooling
from ..nearest.index import chosen_factory
from ..nearest.settings import GallerySettings, new_index
from .inputs import image_transform, preprocessing_of
from .int8 import Computing, precision_of_call
from .precision import precision_for, warn_if_slow, why_exact
from .readout import Readout, check_inputs, read_out
from .store import identity_of

QUERIES_AT_A_TIME = 64
GIVEN = "given in Python"  # weights of a model that was given as an object
BEST_LAYERS = {"bigr_nano.fashion_mnist": 6}  # of highest mAP on training images: benchmarks/retrieval.py


class Embedder:
    """A model, read at one layer, for the images of a gallery and for its queries.

    Parameters
    ----------
    model : timm model
    settings : GallerySettings
        Say whether features, bits or both are needed.
    layer : int or "head", optional
        0-based, negative from the end; "head" is what the model gives its classifier. By default the one measured to be best
        (`BEST_LAYERS`), else a BiGR model's own `feature_layer`, else the head.
    pooling : str
        mean, cls, max, concat or quarters.
    name : str
        What the gallery calls the model.
    weights : str
        Where its weights come from: "pretrained", "random", a file.
    dtype : "fp32", "bf16" or "int8"
        Precision of the forward pass, as of `extract_features`.

    Attributes
    ----------
    description : dict
        Kept in the gallery as `embedding`, and compared for every query.

    Raises
    ------
    ValueError
        For a layer or pooling that the model does not have, or bits of a model that is no BiGR model.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: GallerySettings,
        *,
        layer: int | str | None = None,
        pooling: str = "mean",
        name: str = "",
        weights: str = "pretrained",
        dtype: str = "fp32",
    ):
        self.model, self.settings, self.dtype, self.name = model, settings, dtype, name
        self.device = next(model.parameters()).device
        self._precision, self._computing = precision_of_call(dtype, model), Computing(model)
        layers = (default_layer(model, name) if layer is None else layer,) if settings.has_features else ()
        self.readout = Readout(layers, (pooling,), bits=settings.takes_bits).resolved(model)
        self.transform, self.mode = image_transform(model)
        made = {
            "model": name or type(model).__name__,
            "weights": weights,
            "weights_sha256": fingerprint(model),
            "preprocessing": preprocessing_of(model),
            "mask_ratio": 0.0,
            "condition": "null",
            "sample_bits": False,
            "seed": None,
            "dtype": dtype,
        }
        self.description = embedding_of(made, self.readout.names[0])

    @classmethod
    def of(cls, model: nn.Module | str, settings: GallerySettings, **options) -> Embedder:
        """An embedder of a timm model, or of a pretrained one by its name."""
        import timm

        if isinstance(model, str):
            return cls(timm.create_model(model, pretrained=True, num_classes=0).eval(), settings, name=model, **options)
        config = getattr(model, "pretrained_cfg", None) or {}
        name = ".".join(filter(None, (config.get("architecture"), config.get("tag")))) or type(model).__name__
        return cls(model, settings, name=name, weights=GIVEN, **options)

    @classmethod
    def from_description(cls, made: dict | None, settings: GallerySettings) -> Embedder:
        """The embedder that a gallery describes.

        Raises
        ------
        ValueError
            If the description does not say how to make it: random weights, a model with arguments, or one given as an object.
        """
        import timm

        made = made or {}
        name, _, arguments = str(made.get("model") or "").partition(" ")
        weights = str(made.get("weights") or "")
        if not name or arguments or weights.startswith(("random", GIVEN)) or not timm.is_model(name.partition(".")[0]):
            what = f"{made['model']} with {weights or 'unknown'} weights" if made else "of which it says nothing"
            raise ValueError(f"the gallery was made with a model ({what}) that cannot be made from its name; set gallery.embedder.")
        layer, pooling = layer_and_pooling(made["feature"])
        source = {"checkpoint_path": weights} if Path(weights).is_file() else {"pretrained": True}
        model = timm.create_model(name, num_classes=0, **source).eval()
        embedder = cls(
            model, settings, layer=layer, pooling=pooling or "mean", name=name, weights=weights, dtype=made.get("dtype") or "fp32"
        )
        if embedder.description["weights_sha256"] != made.get("weights_sha256"):
            raise ValueError(f"the gallery was made with other weights of {name} than those that timm loads; set gallery.embedder.")
        return embedder

    def check_index(self) -> None:
        """Raise ValueError if faiss cannot make the index that the settings name, before any image is read."""
        settings = self.settings
        widths = {name: rows.shape[1] for name, rows in self.embed_images([Image.new("RGB", (8, 8))]).items()}
        num_bits = 8 * widths["bits"] if settings.takes_bits else settings.num_bits or widths["features"]
        new_index(settings, chosen_factory(settings.index, settings.index_metric, 0), widths.get("features"), num_bits)

    def choose_precision(self, asked: str, first: Callable[[int], torch.Tensor]) -> None:
        """Choose the precision of a new gallery; `description` says which, and why.

        Parameters
        ----------
        asked : "auto", "fp32", "bf16" or "int8"
            auto takes the faster of fp32 and bf16, but fp32 for bits, for the head, and where features in bf16 differ on the first images.
        first : callable
            From a number to so many transformed images of the gallery (b, C, H, W), or fewer.
        """

        def features(precision: dict, count: int) -> dict[str, np.ndarray]:
            images = first(count)
            return self._read(images, precision) if len(images) else {}

        facts = precision_for(asked, self.device, self.model, features, exact=why_exact(self.readout), recorded=None)
        self.dtype, self._precision = facts["precision"], facts
        self.description |= {"dtype": self.dtype, "precision": facts}

    def set_precision(self, name: str) -> None:
        """Take the precision of a gallery that is there: "fp32", "bf16" or "int8"; said in the log where it is slow here."""
        self.dtype, self._precision = name, precision_of_call(name, self.model)
        self.description["dtype"] = name
        warn_if_slow(name, self.device, self.model, "gallery")

    @torch.inference_mode()
    def _read(self, images: torch.Tensor, precision: dict) -> dict[str, np.ndarray]:
        """What the readout names, of transformed images."""
        check_inputs(images, self.model)
        images = images.to(self.device, next(self.model.parameters()).dtype)
        with evaluating(self.model), self._computing.context(precision):
            found = read_out(self.model, images, self.readout)
        return {name: rows.cpu().numpy() for name, rows in found.items()}

    def embed(self, images: torch.Tensor) -> dict[str, np.ndarray]:
        """Transformed images (b, C, H, W) as `features` (b, D) and/or packed `bits`, the arguments of `Gallery.add` and `search`."""
        found = self._read(images, self._precision)
        names = {"features": self.readout.names[0] if self.settings.has_features else None, "bits": "bits" if self.readout.bits else None}
        return {part: found[name] for part, name in names.items() if name is not None}

    def embed_images(self, images: Sequence[Image.Image | str | Path]) -> dict[str, np.ndarray]:
        """Query images, opened or as paths, as `embed` gives them.

        Raises
        ------
        FileNotFoundError, ValueError
            For a file that is not there, or cannot be read as an image.
        """
        if not len(images):
            raise ValueError("there is no query image; give at least one.")
        parts = []
        for start in range(0, len(images), QUERIES_AT_A_TIME):
            part = images[start : start + QUERIES_AT_A_TIME]
            parts.append(self.embed(torch.stack([self.transform(opened(image).convert(self.mode)) for image in part])))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def default_layer(model: nn.Module, name: str) -> int | str:
    """The layer that a gallery reads if none is chosen."""
    if name in BEST_LAYERS:
        return BEST_LAYERS[name]
    return model.feature_layer if isinstance(model, BiGRBackbone) else HEAD


def embedding_of(manifest: dict, feature: str) -> dict:
    """What makes a feature of a store: the fields that must agree between a gallery and its queries, and where the weights came from."""
    return {"feature": feature, "weights": manifest.get("weights"), **identity_of(manifest)}
