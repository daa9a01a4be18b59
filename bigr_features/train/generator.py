"""Train a generator on codes.   B images, N tokens, K bits, M hidden tokens"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import checkpoints
from ..data import open_images
from ..functional.compiling import check_compiler
from ..functional.inference import autocast, in_chunks
from ..functional.masking import check_mask_distribution
from ..functional.progress import progress
from ..models.config import check_same_codes
from ..models.generator import BiGR
from ..models.image_tokenizer import ImageTokenizer
from ..sampling.captions import Captions
from . import checkpoint, distributed, settings, state
from .batches import CachedCodes, EncodedImages
from .captions import TrainingCaptions, captions_of_cache, with_text
from .code_cache import CodeCache
from .continuing import start_from, teach_classes
from .draws import Draws, draw
from .ema import EMA
from .estimate import Estimate
from .interruption import Interruption
from .monitor import Monitor
from .neighbours import knn_accuracy
from .optimizer import build_optimizer
from .precision import settled_for_all
from .run import Run, names_of_class
from .sampler import BatchSampler, SampledBatch, hold_out
from .schedule import learning_rate_factor, set_learning_rate
from .settings import TrainConfig
from .two_views import TwoViews, check_views, view_layer

log = logging.getLogger(__name__)

DECODED_AT_A_TIME = 16
COLUMNS = 20  # classes that stand side by side in a picture, at most


FREE = (
    *settings.FREE, "tokenizer", "out", "codes", "source", "preset", "weights", "sample_every", "num_samples", "sample_reveal_steps",
    "sample_denoise_steps", "guidance_scale", "fsdp", "captions", "caption_column", "caption_cache", "sample_prompts", "text",
    "model.text.name",
)  # fmt: skip


class GeneratorLoss(nn.Module):
    """The training loss as a forward pass: a module of its own, because that is what data-parallel wrappers wrap."""

    def __init__(self, model: BiGR, precision: str = "fp32", pooled_layer: int | None = None):
        super().__init__()
        self.model = model
        self.precision = precision
        self.pooled_layer = pooled_layer

    def forward(self, codes: Tensor, labels: Tensor | Captions | None, draws: Draws) -> tuple[Tensor, ...]:
        """The terms that the head names, the loss first, of codes (B, N, K) or (B, N) and labels (B,) or captions, all draws given.

        With a `pooled_layer` the features (B, D) after that block, averaged over tokens, come after them.
        """
        with autocast(codes.device, self.precision):
            terms = self.model.loss(codes, labels, stream_layer=self.pooled_layer, **draws.loss_arguments(codes))
        pooled = () if terms.stream is None else (terms.stream.float().mean(1),)
        return (*(getattr(terms, name) for name in self.model.head.loss_names), *pooled)


def train(config: TrainConfig) -> Path:
    """Run the training that `config` describes; returns the folder of the finished generator."""
    accelerator = distributed.start(config)
    device, main = accelerator.device, accelerator.is_main_process
    tokenizer = checkpoints.load_trained(config.tokenizer)
    if not isinstance(tokenizer, ImageTokenizer):
        raise ValueError(f"{config.tokenizer} holds a {type(tokenizer).__name__}, not a tokenizer.")
    tokenizer_identity = checkpoints.fingerprint(tokenizer)
    tokenizer = tokenizer.to(device, memory_format=torch.channels_last)
    with accelerator.main_process_first():
        data = _open_data(config, tokenizer, tokenizer_identity)
    _check_fit(config, data, tokenizer, accelerator.num_processes)
    train_items, held_out = hold_out(len(data), config.validation, config.seed)
    free = FREE if config.schedule == "cosine" else (*FREE, "steps")
    identity = {"fingerprint of the tokenizer": tokenizer_identity, "fingerprint of the data": data.identity}
    start = None if config.weights is None else checkpoints.load_trained(config.weights)
    if start is not None and not isinstance(start, BiGR):
        raise ValueError(f"{config.weights} holds a {type(start).__name__}, but a generator is trained; give the folder of one.")
    if data.captions is not None:
        with accelerator.main_process_first():
            config = with_text(config, data.captions, None if start is None else start.config)
        identity["fingerprint of the captions"] = data.captions.identity
    if start is not None:
        identity["fingerprint of the first weights"] = checkpoints.fingerprint(start)
    config, precision = settled_for_all(accelerator, config, (config.model.width, config.model.ffn_width))
    run = Run(config, identity, free, main, data.class_names, precision)

    checkpoint.seed(config.seed)
    model = BiGR(config.model)
    if start is not None:
        start_from(start, model, str(config.weights))
    if data.captions is not None and data.captions.encoder is not None:
        model.attach_text_encoder(data.captions.encoder)
    model = model.to(device)
    if run.state is None and start is not None and start.config.text is None and data.captions is not None and data.classes is not None:
        teach_classes(start, model, data.captions, data.classes, train_items, config.seed)
    model.trunk.grad_checkpointing = config.grad_checkpointing
    if config.compile:
        check_compiler(device)
        model.trunk.compile()
        getattr(model.head, "denoiser", model.head).compile(dynamic=True)
    paired = config.two_view_weight > 0
    module = GeneratorLoss(model, config.precision, view_layer(config) if paired else None)
    module = distributed.shard(module, model.trunk.blocks) if config.fsdp else accelerator.prepare(module)
    optimizer = build_optimizer(model, config.learning_rate, config.weight_decay, config.betas)
    two_views = TwoViews(config, accelerator) if paired else None
    ema = EMA(model, config.ema_decay, config.ema_warmup)
    generator = torch.Generator().manual_seed(config.seed)  # of the CPU: see `draws`
    checkpoint.seed(config.seed + accelerator.process_index)  # dropout
    monitor = Monitor(accelerator)
    first, best, last_good = 0, None, None
    if run.state is not None:
        first, best = state.restore(run.state, model, optimizer, ema, generator, accelerator)
        if two_views is not None:
            two_views.load_state_dict(run.state["two_views"])
        run.state, last_good = None, first
        log.info("continuing after step %d", first)
    run.start_trackers(accelerator)
    if main:
        checkpoints.save_model(tokenizer, run.path / "tokenizer")

    mine = distributed.share(accelerator, config.batch_size)
    sampler = BatchSampler(train_items, range(first, config.steps), config.batch_size, mine, data.num_views, config.seed, paired)
    batches = data.batches(sampler, device)
    steps = range(first + 1, config.steps + 1)
    bar = progress(steps, initial=first, total=config.steps, unit="step", desc="training", shown=main)
    estimate = Estimate(first, config.steps, main)
    interruption = Interruption(alone=accelerator.num_processes == 1)
    for step in interruption.over(bar):
        module.train()
        factor = learning_rate_factor(step, warmup_steps=config.warmup_steps, total_steps=config.steps, schedule=config.schedule)
        set_learning_rate(optimizer, factor)
        codes, labels = next(batches)
        draws = draw(model, config.batch_size, generator, config.timesteps_per_token, config.mask_distribution, config.bit_flips)
        draws = draws.part(mine).to(device)

        totals: dict[str, Tensor] = {}
        for last, part in distributed.parts(len(codes), config.micro_batches):
            with nullcontext() if last else accelerator.no_sync(module):
                found = module(codes[part], None if labels is None else labels[part], draws.part(part))
                terms = dict(zip(model.head.loss_names, found, strict=False))
                loss = terms["loss"]
                if two_views is not None:
                    terms |= two_views.terms(found[-1])
                    loss = loss + terms["two_view"]
                accelerator.backward(loss / config.micro_batches)
            for name, value in terms.items():
                totals[name] = totals.get(name, 0) + value.detach() / config.micro_batches
        norm = distributed.clip_gradients(model, config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        if two_views is not None:
            two_views.step(factor, config.max_grad_norm)
        ema.update(step)
        monitor.add(step, totals, norm)
        estimate.after(step)

        if step % config.log_every == 0 or step == config.steps:
            values = monitor.report(run, step, optimizer, config.batch_size, last_good)
            bar.set_postfix(loss=f"{values['loss']:.4f}")
        improved = False
        if held_out.size and (step % config.validate_every == 0 or step == config.steps):
            monitor.check(last_good)
            with ema.swapped():
                values = validate(module.eval(), model, data, held_out, config, accelerator)
                accuracy = knn_accuracy(model, data, train_items, held_out, config.batch_size) if main and not config.fsdp else None
                values |= {} if accuracy is None else {"knn_accuracy": accuracy}
            run.log(accelerator, step, "validation", values)
            log.info("step %d  %s", step, "  ".join(f"{key} {value:.4f}" for key, value in values.items()))
            improved = distributed.of_main(accelerator, checkpoint.improves(best, "loss", values["loss"]))
            best = {"step": step, "loss": values["loss"]} if improved else best
        if main and config.sample_every and (step % config.sample_every == 0 or step == config.steps) and not config.fsdp:
            with ema.swapped():
                prompts = prompts_of(config, data.captions)
                images, labels = sample(model.eval(), tokenizer, config, prompts)
                columns, captions = columns_of(labels, config, data.class_names)
                if prompts is not None:
                    columns, captions = samples_a_prompt(config, prompts), None
                run.save_picture(accelerator, step, images, columns, f"generated{guided(config)}", captions)
        if interruption.asked() or checkpoint.due(config, step, improved):
            monitor.check(last_good)
            more = {} if two_views is None else {"two_views": two_views.state_dict()}
            state.save(run, step, best, model, optimizer, ema, generator, accelerator, more)
            last_good = step
    with ema.swapped():
        averaged = distributed.model_state(model)
    if main:
        result = BiGR(config.model)
        result.load_state_dict(averaged)
        checkpoints.save_model(result, run.path / "model", class_names=data.class_names)
        log.info("wrote %s", run.path / "model")
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return run.path / "model"


@torch.no_grad()
def validate(module: nn.Module, model: BiGR, data, items: np.ndarray, config: TrainConfig, accelerator) -> dict[str, float]:
    """Means over held-out images of what training minimises, with the same masks and noise every time."""
    generator = torch.Generator().manual_seed(0)
    count = len(items) // accelerator.num_processes * accelerator.num_processes
    chunks = [items[start : min(start + config.batch_size, count)] for start in range(0, count, config.batch_size)]
    shares = [distributed.share(accelerator, len(chunk)) for chunk in chunks]
    sampler = [SampledBatch(0, chunk[mine]) for chunk, mine in zip(chunks, shares, strict=True)]
    total = torch.zeros(len(model.head.loss_names), device=accelerator.device)
    for chunk, mine, (codes, labels) in zip(chunks, shares, data.batches(sampler, accelerator.device), strict=True):
        draws = draw(model, len(chunk), generator, config.timesteps_per_token).part(mine).to(accelerator.device)
        draws.dropped = torch.zeros_like(draws.dropped)
        total += torch.stack(module(codes, labels, draws)[: len(total)]).float() * (len(chunk) / count)
    means = distributed.mean_over_processes(accelerator, total).tolist()
    return dict(zip(model.head.loss_names, means, strict=True))


def sample(model: BiGR, tokenizer: ImageTokenizer, config: TrainConfig, prompts: list[str] | None = None) -> tuple[Tensor, Tensor]:
    """Generated images (n, C, H, W) and their labels, from the same noise every time: the classes in turn, or a row a prompt."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(0)
    classes = config.model.null_class + 1 if config.unconditional else max(1, config.model.num_classes)
    labels = torch.arange(config.num_samples, device=device)
    labels = labels % classes if classes <= config.num_samples else labels * classes // config.num_samples
    if config.unconditional:
        labels = torch.full_like(labels, config.model.null_class)
    steps = min(config.sample_denoise_steps, config.model.num_timesteps)
    scale = 1.0 if config.unconditional else config.guidance_scale
    wanted: dict[str, Any] = {"num_reveal_steps": config.sample_reveal_steps, "num_denoise_steps": steps, "guidance_scale": scale}
    settings = {name: value for name, value in wanted.items() if name in model.order.sampler.fields}
    if prompts is None:
        codes = model.generate(labels, generator=generator, **settings)
    else:
        rows = [prompt for prompt in prompts for _ in range(samples_a_prompt(config, prompts))]
        codes = model.generate(text=rows, generator=generator, **settings)
    with torch.no_grad():
        return tokenizer.denormalize(in_chunks(tokenizer.decode, codes, DECODED_AT_A_TIME)), labels


def columns_of(labels: Tensor, config: TrainConfig, class_names) -> tuple[int, list[str] | None]:
    """Number of columns of a picture of `sample`, and what stands over them: a class each, if they are few enough."""
    classes = config.model.num_classes
    if config.unconditional or not 1 < classes <= min(COLUMNS, len(labels)):
        return min(10, len(labels)), None
    return classes, [names_of_class(class_names, label) for label in range(classes)]


def guided(config: TrainConfig) -> str:
    """The guidance of a picture, for its title."""
    return "" if config.unconditional else f", guidance scale {config.guidance_scale:g}"


def prompts_of(config: TrainConfig, captions: TrainingCaptions | None) -> list[str] | None:
    """Prompts of the pictures: those of the settings, or the first captions; None without captions."""
    if captions is None:
        return None
    return list(config.sample_prompts) or captions.distinct[: min(10, config.num_samples)]


def samples_a_prompt(config: TrainConfig, prompts: list[str]) -> int:
    """Images of each prompt in a picture."""
    return max(1, config.num_samples // len(prompts))


def _open_data(config: TrainConfig, tokenizer: ImageTokenizer, tokenizer_identity: str) -> CachedCodes | EncodedImages:
    if (config.codes is None) == (config.source is None):
        raise ValueError("give either --codes (a cache made by `bigr encode`) or --source (images to encode on the fly), and not both.")
    if config.codes is not None:
        cache = CodeCache(config.codes)
        cache.check_tokenizer(tokenizer_identity)
        captions = captions_of_cache(config, len(cache), cache.manifest.get("listing_sha256")) if config.captioned else None
        return CachedCodes(cache, config.unconditional or config.captioned, captions)
    assert config.source is not None
    images = open_images(
        config.source, config.split, size=tokenizer.image_size, in_chans=tokenizer.in_chans, labelled=not config.unconditional,
        captioned=config.captioned, caption_column=config.caption_column,
    )  # fmt: skip
    captions = TrainingCaptions(images.captions or [], config.seed) if config.captioned else None
    return EncodedImages(
        images, tokenizer, flip=config.flip, sample_bits=config.sample_bits, unconditional=config.unconditional or config.captioned,
        captions=captions, num_workers=config.num_workers, seed=config.seed,
    )  # fmt: skip


def _check_fit(config: TrainConfig, data, tokenizer: ImageTokenizer, num_processes: int) -> None:
    model = config.model
    check_views(config, data.num_views, num_processes)
    if config.timesteps_per_token < 1:
        raise ValueError(f"timesteps_per_token={config.timesteps_per_token}; expected 1 or more.")
    if config.timesteps_per_token > 1 and model.categorical:
        raise ValueError(f"timesteps_per_token={config.timesteps_per_token}, but head={model.head!r} has no noise levels; leave it at 1.")
    check_mask_distribution(config.mask_distribution)
    if config.mask_distribution != "cosine" and model.causal:
        raise ValueError(f"mask_distribution={config.mask_distribution!r}, but a causal model hides nothing; leave it out.")
    if not 0 <= config.bit_flips < 0.5:
        raise ValueError(f"bit_flips={config.bit_flips}; expected a probability in [0, 0.5): at 0.5 nothing is left of a code.")
    if config.bit_flips and model.tokens != "bits":
        raise ValueError(f"bit_flips={config.bit_flips}, but this model takes indices, which have no bits to turn over; leave it at 0.")
    grid = tokenizer.grid_size
    if tokenizer.tokens != model.tokens or tokenizer.tokens == "index":
        check_same_codes(tokenizer.config, model)
        if grid != model.grid_size:
            raise ValueError(
                f"the tokenizer makes {grid} x {grid} tokens, but the model has grid_size={model.grid_size}; give --model.grid-size {grid}."
            )
    elif data.codes.code_dim != model.code_dim or data.codes.num_tokens != model.num_tokens:
        raise ValueError(
            f"the tokenizer makes {grid} x {grid} tokens of {data.codes.code_dim} bits, but the model has grid_size={model.grid_size} and "
            f"code_dim={model.code_dim}; give --model.grid-size {grid} --model.code-dim {data.codes.code_dim}."
        )
    if config.unconditional or config.captioned:
        return
    if data.labels is None:
        raise ValueError(
            "the images have no labels; train without them (--unconditional), or give one folder a class, or captions (--text)."
        )
    most = int(data.labels.max())
    if most >= model.num_classes or int(data.labels.min()) < 0:
        raise ValueError(f"label {most} is out of range for num_classes={model.num_classes}; give --model.num-classes {most + 1}.")
