"""Train a tokenizer: images to codes and back.   B images, C channels, H x W pixels"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .. import checkpoints
from ..data import ImageSet, open_images
from ..evaluate import reconstruction as metrics
from ..functional.compiling import check_compiler
from ..functional.inference import autocast
from ..functional.progress import progress
from ..models.image_tokenizer import ImageTokenizer
from . import checkpoint, distributed, settings, state
from .adversary import Adversary
from .batches import image_batches
from .ema import EMA
from .estimate import Estimate
from .interruption import Interruption
from .losses import PerceptualLoss, reconstruction_loss
from .monitor import Monitor
from .optimizer import build_optimizer
from .precision import settled_for_all
from .run import Run, names_of_class
from .sampler import BatchSampler, SampledBatch, every_class, hold_out
from .schedule import learning_rate_factor, set_learning_rate
from .settings import TrainTokenizerConfig
from .tokenizer_codes import CODES, BitMeasure, IndexMeasure, build_tokenizer, check_settings

log = logging.getLogger(__name__)

SHOWN = 16  # held-out images in a picture


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
    check_settings(config)
    accelerator = distributed.start(config)
    device, main = accelerator.device, accelerator.is_main_process
    with accelerator.main_process_first():
        images = open_images(
            config.source, config.split, size=config.model.image_size, in_chans=config.model.in_chans, limit=config.limit,
            labelled=config.labels,
        )  # fmt: skip
    train_items, held_out = hold_out(len(images), config.validation, config.seed)
    shown = every_class(images.labels, held_out, SHOWN)
    free = FREE if config.schedule == "cosine" else (*FREE, "steps")
    config, precision = settled_for_all(accelerator, config, (9 * config.model.channels, config.model.channels))
    run = Run(config, {"images": f"{len(images)} of {config.split}"}, free, main, precision=precision)
    run.write_skipped(images.skipped)

    checkpoint.seed(config.seed)
    model = build_tokenizer(config.model).to(device, memory_format=torch.channels_last)
    codes = CODES[model.tokens](model, config, accelerator)
    optimizer = build_optimizer(model, config.learning_rate, config.weight_decay)
    module = Autoencode(model, config.precision)
    if config.compile:
        check_compiler(device)
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
    run.start_trackers(accelerator)

    mine = distributed.share(accelerator, config.batch_size)
    sampler = BatchSampler(train_items, range(first, config.steps), config.batch_size, mine, 2 if config.flip else 1, config.seed)
    batches = image_batches(images, sampler, device, config.num_workers)
    steps = range(first + 1, config.steps + 1)
    bar = progress(steps, initial=first, total=config.steps, unit="step", desc="training", shown=main)
    estimate = Estimate(first, config.steps, main)
    interruption = Interruption(alone=accelerator.num_processes == 1)
    for step in interruption.over(bar):
        module.train()
        factor = learning_rate_factor(step, warmup_steps=config.warmup_steps, total_steps=config.steps, schedule=config.schedule)
        set_learning_rate(optimizer, factor)
        batch = next(batches)[0]
        fooling = adversary if step >= config.adversarial_start else None

        totals: dict[str, Tensor] = {}
        for last, piece in distributed.parts(len(batch), config.micro_batches):
            part = batch[piece]
            with nullcontext() if last else accelerator.no_sync(module):
                reconstruction, *told = module(part, generator)
                terms = loss_terms(part, reconstruction, codes.terms(*told), config, perceptual)
                if fooling is not None:
                    terms |= fooling.fool(reconstruction, terms["loss"], model.decoder.blocks[-1].weight, generator)
                    terms["loss"] = terms["loss"] + terms["adversarial_weight"] * terms["adversarial"]
                accelerator.backward(terms["loss"] / config.micro_batches)
            codes.count(step, *told)
            if fooling is not None:
                terms["discriminator"] = fooling.backward(part, reconstruction.detach(), generator, config.micro_batches)
            for name, value in terms.items():
                totals[name] = totals.get(name, 0) + value.detach() / config.micro_batches
        norm = distributed.clip_gradients(model, config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        if fooling is not None:
            fooling.step()
        ema.update(step)
        codes.after_step(step, part, optimizer, ema, generator)
        monitor.add(step, totals, norm)
        estimate.after(step)

        if step % config.log_every == 0 or step == config.steps:
            values = monitor.report(run, step, optimizer, config.batch_size, last_good, codes.report(step))
            bar.set_postfix(loss=f"{values['loss']:.4f}")
        improved = False
        if held_out.size and (step % config.validate_every == 0 or step == config.steps):
            with ema.swapped():
                values, picture = validate(module.eval(), codes.measure(), images, held_out, config.batch_size, device, shown)
            run.log(accelerator, step, "validation", values)
            half = len(picture) // 2
            names = None if images.labels is None else [names_of_class(images.class_names, int(label)) for label in images.labels[shown]]
            run.save_picture(
                accelerator, step, picture, half, "held-out images above, their reconstructions below", names, ["given", "decoded"]
            )
            log.info("step %d  %s", step, "  ".join(f"{key} {value:.4g}" for key, value in values.items()))
            improved = distributed.of_main(accelerator, checkpoint.improves(best, "psnr", values["psnr"], higher=True))
            best = {"step": step, "psnr": values["psnr"]} if improved else best
        if interruption.asked() or checkpoint.due(config, step, improved):
            monitor.check(last_good)
            more = {"codes": codes.state_dict()} | ({"adversary": adversary.state_dict()} if adversary is not None else {})
            state.save(run, step, best, model, optimizer, ema, generator, accelerator, more)
            last_good = step
    result = run.path / "model"
    with ema.swapped():
        if main:
            checkpoints.save_model(model, result)
            log.info("wrote %s", result)
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
    module: nn.Module, measure: BitMeasure | IndexMeasure, images: ImageSet, items: np.ndarray, batch_size: int, device, shown: np.ndarray
) -> tuple[dict[str, float], Tensor]:
    """PSNR, SSIM and the use of codes over held-out images; and the images `shown` above their reconstructions."""
    psnr, ssim = [], []
    sampler = [SampledBatch(0, items[start : start + batch_size]) for start in range(0, len(items), batch_size)]
    for batch, _ in image_batches(images, sampler, device):
        reconstruction, *told = module(batch)
        psnr.append(metrics.psnr(batch, reconstruction))
        if min(batch.shape[-2:]) >= metrics.SSIM_WINDOW:
            ssim.append(metrics.ssim(batch, reconstruction))
        measure.add(*told)
    ((batch, _),) = image_batches(images, [SampledBatch(0, shown)], device)
    picture = torch.cat([batch, module(batch)[0]])
    means = {"psnr": psnr, "ssim": ssim} if ssim else {"psnr": psnr}
    return {**{name: torch.cat(values).mean().item() for name, values in means.items()}, **measure.result()}, picture
