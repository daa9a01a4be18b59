"""What differs between training a binary and a VQ tokenizer: how images pass through their codes, terms of the loss, and measurements.

B images, C channels, N tokens, K bits, V codes
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..evaluate import reconstruction as metrics
from ..functional import bernoulli
from ..models.autoencoder import BinaryAutoencoder, straight_through
from ..models.image_tokenizer import ImageTokenizer
from ..models.tokenizer_config import TokenizerConfig, VQTokenizerConfig
from ..models.vq_autoencoder import Quantized, VQAutoencoder
from .codebook import CodebookWatch
from .losses import commitment_loss, entropy_loss


class BitCodes:
    """Bits: drawn in training, thresholded otherwise.

    Parameters
    ----------
    model : BinaryAutoencoder
    config : TrainTokenizerConfig
    accelerator : accelerate.Accelerator
    """

    def __init__(self, model: BinaryAutoencoder, config, accelerator):
        self.config = config

    @staticmethod
    def check(config) -> None:
        """Raise ValueError for a setting that belongs to a codebook."""
        _refuse(config, ("reseed_dead_codes",), "bits have no codebook; train a VQ tokenizer (--preset llamagen_nano), or leave it out")

    @staticmethod
    def autoencode(
        model: BinaryAutoencoder, images: Tensor, training: bool, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction (B, C, H, W), bit probabilities and bits, each (B, N, K)."""
        probabilities = model.bit_probabilities(images)
        bits = bernoulli.draw(probabilities.detach(), generator) if training else (probabilities > 0.5).to(probabilities.dtype)
        return model.decode(straight_through(bits, probabilities)), probabilities, bits

    def terms(self, probabilities: Tensor, bits: Tensor) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of each term that is wanted."""
        config = self.config
        terms = {}
        if config.entropy_weight:
            terms["entropy"] = config.entropy_weight, entropy_loss(probabilities)
        if config.commitment_weight:
            terms["commitment"] = config.commitment_weight, commitment_loss(probabilities)
        return terms

    def count(self, step: int, probabilities: Tensor, bits: Tensor) -> None:
        """Nothing is counted over steps."""

    def after_step(self, step: int, images: Tensor, optimizer, ema, generator: torch.Generator) -> None:
        """Nothing but the optimiser moves the weights."""

    def report(self, step: int) -> dict[str, float]:
        """What stands in the log beside the means of the terms."""
        return {}

    def measure(self) -> BitMeasure:
        return BitMeasure()

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        """There is no state."""


class BitMeasure:
    """Use and certainty of bits over held-out images."""

    def __init__(self):
        self.images, self.usage, self.certainty = 0, 0.0, 0.0

    def add(self, probabilities: Tensor, bits: Tensor) -> None:
        self.images += len(bits)
        self.usage = self.usage + metrics.bit_usage(bits) * len(bits)
        self.certainty = self.certainty + metrics.binary_entropy(probabilities).mean() * len(bits)

    def result(self) -> dict[str, float]:
        usage = self.usage / self.images
        return {
            "bit_usage_min": usage.min().item(),
            "bit_usage_max": usage.max().item(),
            "bit_entropy": metrics.binary_entropy(usage).mean().item(),
            "bit_uncertainty": (self.certainty / self.images).item(),
        }


class IndexCodes:
    """Codes of a codebook, whose use is watched. Parameters as of `BitCodes`."""

    def __init__(self, model: VQAutoencoder, config, accelerator):
        self.config = config
        self.codebook = CodebookWatch(model, config, accelerator)

    @staticmethod
    def check(config) -> None:
        """Raise ValueError for a setting that belongs to bits, or is out of range."""
        for name in ("entropy_weight", "commitment_weight"):
            _refuse(config, (name,), f"it is about bits; for a codebook there is --model.{name.replace('_', '-')}")
        if config.dead_after < 1:
            raise ValueError(f"dead_after={config.dead_after}; expected 1 batch or more.")

    @staticmethod
    def autoencode(model: VQAutoencoder, images: Tensor, training: bool, generator: torch.Generator | None) -> tuple[Tensor, Quantized]:
        """Reconstruction (B, C, H, W), and the quantiser's result."""
        quantized = model.quantize(images)
        return model.decode_latents(quantized.latents), quantized

    def terms(self, quantized: Quantized) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of each term that is wanted; commitment and entropy bring their weights with them."""
        terms = {"codebook": (self.config.codebook_weight, quantized.codebook_loss), "commitment": (1.0, quantized.commitment_loss)}
        if self.config.model.entropy_weight:
            terms["entropy"] = 1.0, quantized.entropy_loss
        return terms

    def count(self, step: int, quantized: Quantized) -> None:
        """Remember which codes step `step` chose."""
        self.codebook.count(step, quantized.indices)

    def after_step(self, step: int, images: Tensor, optimizer, ema, generator: torch.Generator) -> None:
        """Give dead codes new places, where that is wanted."""
        if self.config.reseed_dead_codes and step % self.config.dead_after == 0:
            self.codebook.reseed(step, images, optimizer, ema, generator)

    def report(self, step: int) -> dict[str, float]:
        """What stands in the log beside the means of the terms."""
        return self.codebook.report(step)

    def measure(self) -> IndexMeasure:
        return IndexMeasure(self.config.model.codebook_size)

    def state_dict(self) -> dict:
        return self.codebook.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.codebook.load_state_dict(state)


class IndexMeasure:
    """Use of the codebook over held-out images."""

    def __init__(self, codebook_size: int):
        self.codebook_size, self.counts = codebook_size, 0

    def add(self, quantized: Quantized) -> None:
        self.counts = self.counts + metrics.code_counts(quantized.indices, self.codebook_size)

    def result(self) -> dict[str, float]:
        return {"codebook_usage": metrics.code_usage(self.counts).item(), "perplexity": metrics.code_perplexity(self.counts).item()}


CODES: dict[str, type[BitCodes] | type[IndexCodes]] = {"bits": BitCodes, "index": IndexCodes}
MODELS: dict[type, type[ImageTokenizer]] = {TokenizerConfig: BinaryAutoencoder, VQTokenizerConfig: VQAutoencoder}


def check_settings(config) -> None:
    """Raise ValueError for settings of a training that are about the other kind of codes."""
    CODES[MODELS[type(config.model)].tokens].check(config)


def build_tokenizer(config: TokenizerConfig | VQTokenizerConfig) -> ImageTokenizer:
    """A new tokenizer of the kind that its configuration is of."""
    return MODELS[type(config)](config)


def _refuse(config, names: tuple[str, ...], reason: str) -> None:
    for name in names:
        if getattr(config, name):
            raise ValueError(f"{name}={getattr(config, name)!r}, but {reason}.")
