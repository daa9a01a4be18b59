"""Train a tokenizer: images to bits and back.   B images, C channels, N tokens, K bits"""

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
from ..functional import bernoulli
from ..functional.inference import autocast
from ..models.autoencoder import BinaryAutoencoder, straight_through
from . import checkpoint, distributed, settings, state
from .adversary import Adversary
from .batches import image_batches
from .ema import EMA
from .losses import PerceptualLoss, indecision_loss, reconstruction_loss, usage_loss
from .monitor import Monitor
from .optimizer import build_optimizer
from .run import Run
from .sampler import BatchSampler, SampledBatch, hold_out
from .schedule import learning_rate_factor, set_learning_rate
from .settings import TrainTokenizerConfig

log = logging.getLogger(__name__)


FREE = (*settings.FREE, "source", "out", "preset")


class Autoencode(nn.Module):
    """One forward pass of the training: a module of its own, because that is what data-parallel wrappers wrap."""

    def __init__(self, model: BinaryAutoencoder, precision: str = "fp32"):
        super().__init__()
        self.model = model
        self.precision = precision

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction (B, C, H, W), bit probabilities and bits, each (B, N, K); drawn bits in train mode, thresholded ones otherwise."""
        with autocast(images.device, self.precision):
            probabilities = self.model.bit_probabilities(images)
            if self.training:
                bits = bernoulli.draw(probabilities.detach(), generator)
            else:
                bits = (probabilities > 0.5).to(probabilities.dtype)
            reconstruction = self.model.decode(straight_through(bits, probabilities))
        return reconstruction.float(), probabilities, bits


def train_tokenizer(config: TrainTokenizerConfig, perceptual: nn.Module | None = None) -> Path:
    """Run the training that `config` describes; returns the folder of the finished tokenizer.

    Parameters
    ----------
    config : TrainTokenizerConfig
    perceptual : nn.Module, optional
        Called with images and reconstructions (B, C, H, W) for a scalar distance, in place of the one that `config` names.
    """
    from tqdm import tqdm

    accelerator = distributed.start(config)
    device, main = accelerator.device, accelerator.is_main_process
    with accelerator.main_process_first():
        images = open_images(config.source, config.split, size=config.model.image_size, in_chans=config.model.in_chans, limit=config.limit)
    train_items, held_out = hold_out(len(images), config.validation, config.seed)
    free = FREE if config.schedule == "cosine" else (*FREE, "steps")
    run = Run(config, {"images": f"{len(images)} of {config.split}"}, free, main)
    run.write_skipped(images.skipped)

    checkpoint.seed(config.seed)
    model = BinaryAutoencoder(config.model).to(device, memory_format=torch.channels_last)
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
        run.state, last_good = None, first
        log.info("continuing after step %d", first)
    run.start_trackers(accelerator)

    mine = distributed.share(accelerator, config.batch_size)
    sampler = BatchSampler(train_items, range(first, config.steps), config.batch_size, mine, 2 if config.flip else 1, config.seed)
    batches = image_batches(images, sampler, device, config.num_workers)
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
                reconstruction, probabilities, _ = module(part, generator)
                terms = loss_terms(part, reconstruction, probabilities, config, perceptual)
                if fooling:
                    terms |= adversary.fool(reconstruction, terms["loss"], model.decoder.blocks[-1].weight, generator)
                    terms["loss"] = terms["loss"] + terms["adversarial_weight"] * terms["adversarial"]
                accelerator.backward(terms["loss"] / config.micro_batches)
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
        monitor.add(step, totals, norm)

        if step % config.log_every == 0 or step == config.steps:
            values = monitor.report(run, step, optimizer, config.batch_size, last_good)
            progress.set_postfix(loss=f"{values['loss']:.4f}")
        improved = False
        if held_out.size and (step % config.validate_every == 0 or step == config.steps):
            with ema.swapped():
                values, picture = validate(module.eval(), images, held_out, config.batch_size, device)
            run.log(accelerator, step, "validation", values)
            run.save_picture(accelerator, step, picture, columns=len(picture) // 2)
            log.info("step %d  %s", step, "  ".join(f"{key} {value:.4g}" for key, value in values.items()))
            improved = distributed.of_main(accelerator, checkpoint.improves(best, "psnr", values["psnr"], higher=True))
            best = {"step": step, "psnr": values["psnr"]} if improved else best
        if checkpoint.due(config, step, improved):
            monitor.check(last_good)
            more = {"adversary": adversary.state_dict()} if adversary is not None else {}
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
    images: Tensor, reconstruction: Tensor, probabilities: Tensor, config: TrainTokenizerConfig, perceptual: nn.Module | None
) -> dict[str, Tensor]:
    """The loss and, after it, its unweighted terms."""
    loss = reconstruction_loss(images, reconstruction, config.l1_weight, config.l2_weight)
    terms = {"reconstruction": loss}
    for name, weight, term in (
        ("perceptual", config.perceptual_weight if perceptual is not None else 0.0, lambda: perceptual(images, reconstruction)),
        ("usage", config.usage_weight, lambda: usage_loss(probabilities)),
        ("indecision", config.indecision_weight, lambda: indecision_loss(probabilities)),
    ):
        if weight:
            terms[name] = term()
            loss = loss + weight * terms[name]
    return {"loss": loss, **terms}


@torch.no_grad()
def validate(module: nn.Module, images: ImageSet, items: np.ndarray, batch_size: int, device) -> tuple[dict[str, float], Tensor]:
    """PSNR, SSIM, bit usage and entropy over held-out images with thresholded bits; and 16 originals above their reconstructions."""
    psnr, ssim, usage, certainty, picture = [], [], 0.0, 0.0, None
    sampler = [SampledBatch(0, items[start : start + batch_size]) for start in range(0, len(items), batch_size)]
    for batch, _ in image_batches(images, sampler, device):
        reconstruction, probabilities, bits = module(batch)
        psnr.append(metrics.psnr(batch, reconstruction))
        ssim.append(metrics.ssim(batch, reconstruction))
        usage = usage + metrics.bit_usage(bits) * len(batch)
        certainty = certainty + metrics.binary_entropy(probabilities).mean() * len(batch)
        if picture is None:
            picture = torch.cat([batch[:16], reconstruction[:16]])
    usage = usage / len(items)
    return {
        "psnr": torch.cat(psnr).mean().item(),
        "ssim": torch.cat(ssim).mean().item(),
        "bit_usage_min": usage.min().item(),
        "bit_usage_max": usage.max().item(),
        "bit_entropy": metrics.binary_entropy(usage).mean().item(),
        "bit_uncertainty": (certainty / len(items)).item(),
    }, picture
