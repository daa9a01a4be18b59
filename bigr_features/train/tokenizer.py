"""Train a tokenizer: images to codes and back.   B images, C channels, H x W pixels"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .. import checkpoints
from ..data import ImageSet, open_images
from ..evaluate import reconstruction as metrics
from ..functional.inference import autocast
from ..models.config import TokenizerConfig, VQTokenizerConfig
from ..models.image_tokenizer import ImageTokenizer
from ..models.presets import TOKENIZERS
from . import checkpoint, distributed, settings, state
from .adversary import Adversary
from .batches import Wanted, image_batches, plan
from .ema import EMA
from .losses import PerceptualLoss, reconstruction_loss
from .monitor import Monitor
from .optimizer import build_optimizer
from .order import hold_out
from .run import Run
from .schedule import learning_rate_factor, set_learning_rate
from .settings import RunSettings
from .tokenizer_codes import CODES, BitMeasure, IndexMeasure, build_tokenizer, check_settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainTokenizerConfig(RunSettings):
    """Train a tokenizer (binary or VQ autoencoder) on images.

    Besides these it has the settings of `RunSettings`.

    Parameters
    ----------
    source : str
        Images: "sample:fashion_mnist", a folder or file of parquet, arrow or images, or the id of a data set on the Hub.
    out : Path
        Run folder.
    split : str
        Split of the source to train on. Validation images are held out of it.
    limit : int, optional
        Take the first images only.
    preset : str
        Kind and size to start from: the binary tokenizer of bigr_nano, bigr_l, ..., the VQ tokenizer of llamagen_nano or llamagen_l.
        --model.* changes single numbers.
    model : TokenizerConfig or VQTokenizerConfig
        Shape of the tokenizer; it says which kind it is.
    steps : int
        Optimiser steps.
    batch_size : int
        Images a step, over all processes.
    learning_rate : float
        Of AdamW with betas (0.9, 0.95), after the warm-up.
    weight_decay : float
        Of AdamW; not for one-dimensional parameters and biases.
    warmup_steps : int
        Steps over which the learning rate rises.
    schedule : str
        constant or cosine (down to 0 at the last step), after the warm-up.
    l1_weight : float
        Weight of the mean absolute error of pixels in [0, 1].
    l2_weight : float
        Weight of the mean squared error of pixels in [0, 1]. LlamaGen's tokenizer was trained with l1_weight 0 and l2_weight 4, which is 1
        for its pixels in [-1, 1].
    usage_weight : float
        Binary tokenizer: weight of 1 minus the entropy of each bit's mean over the batch, which keeps bits in use.
    indecision_weight : float
        Binary tokenizer: weight of p (1 - p), which drives bits away from chance.
    codebook_weight : float
        VQ tokenizer: weight of the distance that pulls codes towards latents. Those of commitment and entropy belong to the model.
    dead_after : int
        VQ tokenizer: a code that so many batches did not choose is dead. The log says how many are used, and warns of dead ones.
    reseed_dead_codes : bool
        VQ tokenizer: every `dead_after` steps, move dead codes onto latents of the batch.
    perceptual : str
        off, vgg16 (torchvision's weights where torch.hub keeps them) or the path of those weights.
    perceptual_weight : float
        Of the perceptual distance.
    adversarial_weight : float
        Of the hinge PatchGAN term, 0 for none. It is multiplied by the adaptive weight of VQGAN.
    adversarial_start : int
        First step with that term; the discriminator trains from there too.
    discriminator_width : int
        Channels of its first layer.
    discriminator_depth : int
        Halvings of its resolution.
    discriminator_learning_rate : float
        Of its AdamW.
    flip : bool
        Mirror half of the images.
    ema_decay : float
        Of the averaged weights, which are what is validated and saved.
    validate_every : int
        Steps between validations.
    checkpoint_every : int
        Steps between checkpoints.
    """

    source: str
    out: Path
    split: str = "train"
    limit: int | None = None
    preset: str = "bigr_nano"
    model: TokenizerConfig | VQTokenizerConfig = field(default_factory=lambda: TOKENIZERS["bigr_nano"])
    steps: int = 10_000
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 200
    schedule: str = "cosine"
    l1_weight: float = 1.0
    l2_weight: float = 2.0
    usage_weight: float = 0.0
    indecision_weight: float = 0.0
    codebook_weight: float = 1.0
    dead_after: int = 100
    reseed_dead_codes: bool = False
    perceptual: str = "off"
    perceptual_weight: float = 1.0
    adversarial_weight: float = 0.0
    adversarial_start: int = 20_000
    discriminator_width: int = 64
    discriminator_depth: int = 3
    discriminator_learning_rate: float = 1e-4
    flip: bool = True
    ema_decay: float = 0.999
    validate_every: int = 500
    checkpoint_every: int = 500


FREE = (*settings.FREE, "source", "out", "preset")


class Autoencode(nn.Module):
    """One forward pass of the training: a module of its own, because that is what data-parallel wrappers wrap."""

    def __init__(self, model: ImageTokenizer, precision: str = "fp32"):
        super().__init__()
        self.model = model
        self.precision = precision

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> tuple:
        """Reconstruction (B, C, H, W) of images, pixels in [0, 1] both; after it what the `autoencode` of this kind of codes tells."""
        with autocast(images.device, self.precision):
            reconstruction, *codes = CODES[self.model.tokens].autoencode(self.model, self.model.normalize(images), self.training, generator)
        return self.model.denormalize(reconstruction.float()), *codes


def train_tokenizer(config: TrainTokenizerConfig, perceptual: nn.Module | None = None) -> Path:
    """Run the training that `config` describes; returns the folder of the finished tokenizer.

    Parameters
    ----------
    config : TrainTokenizerConfig
    perceptual : nn.Module, optional
        Called with images and reconstructions (B, C, H, W) for a scalar distance, in place of the one that `config` names.
    """
    from tqdm import tqdm

    check_settings(config)
    accelerator = distributed.start(config)
    device, main = accelerator.device, accelerator.is_main_process
    with accelerator.main_process_first():
        images = open_images(config.source, config.split, size=config.model.image_size, in_chans=config.model.in_chans, limit=config.limit)
    train_items, held_out = hold_out(len(images), config.validation, config.seed)
    free = FREE if config.schedule == "cosine" else (*FREE, "steps")
    run = Run(config, {"images": f"{len(images)} of {config.split}"}, free, main)
    run.write_skipped(images.skipped)

    checkpoint.seed(config.seed)
    model = build_tokenizer(config.model).to(device, memory_format=torch.channels_last)
    codes = CODES[model.tokens](model, config, accelerator)
    optimizer = build_optimizer(model, config.learning_rate, config.weight_decay)
    module = Autoencode(model, config.precision)
    if config.compile:
        model.encoder.compile()
        model.decoder.compile()
    module = accelerator.prepare(module)
    adversary = Adversary(config, accelerator) if config.adversarial_weight else None
    if perceptual is None and config.perceptual != "off":
        perceptual = PerceptualLoss(config.perceptual)
    if perceptual is not None:
        perceptual = perceptual.to(device).requires_grad_(False)
    ema = EMA(model, config.ema_decay, config.ema_warmup)
    generator = torch.Generator(device).manual_seed(config.seed + accelerator.process_index)
    monitor = Monitor(accelerator)
    first, best, last_good = 0, None, None
    if run.state is not None:
        first, best = state.restore(run.state, model, optimizer, ema, generator, accelerator)
        if adversary is not None:
            adversary.load_state_dict(run.state["adversary"])
        codes.load_state_dict(run.state.get("codes", {}))
        run.state, last_good = None, first
        log.info("continuing after step %d", first)
    accelerator.init_trackers("tensorboard")

    mine = distributed.share(accelerator, config.batch_size)
    wanted = plan(train_items, range(first, config.steps), config.batch_size, mine, 2 if config.flip else 1, config.seed)
    batches = image_batches(images, wanted, device, config.num_workers)
    progress = tqdm(range(first + 1, config.steps + 1), initial=first, total=config.steps, unit="step", disable=None if main else True)
    for step in progress:
        module.train()
        factor = learning_rate_factor(step, warmup_steps=config.warmup_steps, total_steps=config.steps, schedule=config.schedule)
        set_learning_rate(optimizer, factor)
        batch = next(batches)[0]
        fooling = adversary is not None and step >= config.adversarial_start

        totals: dict[str, Tensor] = {}
        for last, piece in distributed.parts(len(batch), config.micro_batches):
            part = batch[piece]
            with nullcontext() if last else accelerator.no_sync(module):
                reconstruction, *told = module(part, generator)
                terms = loss_terms(part, reconstruction, codes.terms(*told), config, perceptual)
                if fooling:
                    terms |= adversary.fool(reconstruction, terms["loss"], model.decoder.blocks[-1].weight, generator)
                    terms["loss"] = terms["loss"] + terms["adversarial_weight"] * terms["adversarial"]
                accelerator.backward(terms["loss"] / config.micro_batches)
            codes.count(step, *told)
            if fooling:
                terms["discriminator"] = adversary.backward(part, reconstruction.detach(), generator, config.micro_batches)
            for name, value in terms.items():
                totals[name] = totals.get(name, 0) + value.detach() / config.micro_batches
        norm = distributed.clip_gradients(model, config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        if fooling:
            adversary.step()
        ema.update(step)
        codes.after_step(step, part, optimizer, ema, generator)
        monitor.add(step, totals, norm)

        if step % config.log_every == 0 or step == config.steps:
            values = monitor.report(run, step, optimizer, config.batch_size, last_good, codes.report(step))
            progress.set_postfix(loss=f"{values['loss']:.4f}")
        if held_out.size and (step % config.validate_every == 0 or step == config.steps):
            with ema.swapped():
                values, picture = validate(module.eval(), codes.measure(), images, held_out, config.batch_size, device)
            run.log(accelerator, step, "validation", values)
            run.save_picture(accelerator, step, picture, columns=len(picture) // 2)
            log.info("step %d  %s", step, "  ".join(f"{key} {value:.4g}" for key, value in values.items()))
            if best is None or values["psnr"] > best["psnr"]:
                best = {"step": step, "psnr": values["psnr"]}
        if step % config.checkpoint_every == 0 or step in config.keep_steps or step == config.steps:
            monitor.check(last_good)
            more = {"codes": codes.state_dict()} | ({"adversary": adversary.state_dict()} if adversary is not None else {})
            state.save(run, step, best, model, optimizer, ema, generator, accelerator, more)
            last_good = step
    result = run.path / "model"
    with ema.swapped():
        if main:
            checkpoints.save_model(model, result)
    run.write_skipped(images.skipped)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return result


def loss_terms(
    images: Tensor,
    reconstruction: Tensor,
    of_codes: dict[str, tuple[float, Tensor]],
    config: TrainTokenizerConfig,
    perceptual: nn.Module | None,
) -> dict[str, Tensor]:
    """The loss and, after it, its terms; those `of_codes` come with their weights, and all are logged without."""
    loss = reconstruction_loss(images, reconstruction, config.l1_weight, config.l2_weight)
    terms = {"reconstruction": loss}
    if perceptual is not None and config.perceptual_weight:
        of_codes = {"perceptual": (config.perceptual_weight, perceptual(images, reconstruction)), **of_codes}
    for name, (weight, term) in of_codes.items():
        terms[name] = term
        loss = loss + weight * term
    return {"loss": loss, **terms}


@torch.no_grad()
def validate(
    module: nn.Module, measure: BitMeasure | IndexMeasure, images: ImageSet, items: np.ndarray, batch_size: int, device
) -> tuple[dict[str, float], Tensor]:
    """PSNR, SSIM and the use of codes over held-out images; and 16 originals above their reconstructions."""
    psnr, ssim, picture = [], [], None
    wanted = [Wanted(0, items[start : start + batch_size]) for start in range(0, len(items), batch_size)]
    for batch, _ in image_batches(images, wanted, device):
        reconstruction, *told = module(batch)
        psnr.append(metrics.psnr(batch, reconstruction))
        ssim.append(metrics.ssim(batch, reconstruction))
        measure.add(*told)
        if picture is None:
            picture = torch.cat([batch[:16], reconstruction[:16]])
    return {"psnr": torch.cat(psnr).mean().item(), "ssim": torch.cat(ssim).mean().item(), **measure.result()}, picture
