"""How fast does a generator train, and what does it save to run the transcoder on hidden tokens only?

The same batches, masks and noise go through both: the transcoder on the hidden tokens, and the transcoder on all tokens with the loss
averaged over the hidden ones. Both give the same loss. Steps of the two alternate, so that other load on the machine meets both.
Peak memory is that of a process of its own.

    python benchmarks/training_throughput.py
    python benchmarks/training_throughput.py --model bigr_l --batch-size 8 --steps 6 --precision bf16
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import multiprocessing
import resource
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from bigr_features import BiGR
from bigr_features.evaluate.reports import environment, write_json
from bigr_features.functional.inference import autocast
from bigr_features.functional.masking import positions_of, train_mask_count
from bigr_features.models.presets import PRESETS, preset_configs
from bigr_features.train.distributed import clip_gradients
from bigr_features.train.draws import Draws, draw
from bigr_features.train.ema import EMA
from bigr_features.train.generator import GeneratorLoss
from bigr_features.train.optimizer import build_optimizer


class AllTokensLoss(GeneratorLoss):
    """The same loss from a transcoder that runs on every token."""

    def forward(self, codes: Tensor, labels: Tensor | None, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
        rows, repeats = hidden_rows(draws, codes), draws.timesteps.shape[2]
        timesteps, flips = draws.timesteps.flatten(), draws.flips.flatten(0, 2).to(codes.dtype)
        labels = torch.where(draws.dropped, self.model.null_class, labels)
        clean = codes.flatten(0, 1).repeat_interleave(repeats, 0)
        noisy = (clean - flips).abs()
        with autocast(codes.device, self.precision):
            condition = self.model(codes, labels, draws.mask).flatten(0, 1).repeat_interleave(repeats, 0)
            transcoder = self.model.transcoder
            logits = transcoder.denoiser(noisy, timesteps, condition)
            per_bit = transcoder.loss_per_bit(logits, clean, timesteps, noisy)[0]
            loss = per_bit.index_select(0, rows).mean()
        right = (transcoder.clean_probability(logits, noisy) > 0.5) == (clean > 0.5)
        return loss, loss, right.index_select(0, rows).float().mean()


def hidden_rows(draws: Draws, codes: Tensor) -> Tensor:
    """Rows of the hidden tokens among all tokens of codes (B, N, K), each repeated for its noise levels."""
    repeats = draws.timesteps.shape[2]
    hidden = positions_of(draws.mask, draws.num_hidden * len(codes))
    return (hidden[:, None] * repeats + torch.arange(repeats, device=codes.device)).flatten()


VARIANTS = {"hidden tokens only": GeneratorLoss, "all tokens": AllTokensLoss}


class Training:
    """One model with its optimiser and average, and the batches that it is shown."""

    def __init__(self, args: argparse.Namespace, variant: str, model: BiGR):
        self.device = torch.device(args.device)
        self.model = model.to(self.device).train()
        if args.compile:
            self.model.trunk.compile()
            self.model.transcoder.denoiser.compile(dynamic=True)
        self.loss = VARIANTS[variant](self.model, args.precision)
        self.optimizer = build_optimizer(self.model, 1e-4, 0.02)
        self.ema = EMA(self.model)
        self.generator = torch.Generator().manual_seed(args.seed)
        self.repeats = args.timesteps_per_token
        self.other_generator = torch.Generator()  # so that the steps of both variants draw the same
        config = model.config
        shape = (args.batch_size, config.num_tokens, config.code_dim)
        self.codes = torch.randint(2, shape, generator=self.generator).float().to(self.device)
        self.labels = torch.randint(config.num_classes, shape[:1], generator=self.generator).to(self.device)

    def step(self, number: int) -> tuple[float, float, float]:
        """Seconds and loss of one whole step, and the share of tokens that were hidden."""
        draws = draw(self.model, len(self.codes), self.generator, self.repeats).to(self.device)
        self._wait()
        start = time.perf_counter()
        loss, _, _ = self.loss(self.codes, self.labels, draws)
        loss.backward()
        clip_gradients(self.model, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update(number)
        self._wait()
        return time.perf_counter() - start, loss.item(), draws.num_hidden / self.model.config.num_tokens

    def transcoder_seconds(self, all_tokens: bool, seed: int) -> float:
        """Seconds of forward and backward pass of the transcoder alone, on the conditions of one batch."""
        draws = draw(self.model, len(self.codes), self.other_generator.manual_seed(seed), self.repeats).to(self.device)
        everything = torch.arange(self.codes[..., 0].numel(), device=self.device)
        hidden = positions_of(draws.mask, draws.num_hidden * len(self.codes))
        rows = (everything if all_tokens else hidden).repeat_interleave(self.repeats)
        condition = torch.randn(len(rows), self.model.config.width, device=self.device, requires_grad=True)
        clean = self.codes.flatten(0, 1)[rows]
        timesteps = self.model.transcoder.draw_timesteps(len(rows), self.other_generator)
        self._wait()
        start = time.perf_counter()
        with autocast(self.device, self.loss.precision):
            loss = self.model.transcoder.loss(condition, clean, timesteps, clean).loss
        loss.backward()
        self._wait()
        seconds = time.perf_counter() - start
        self.optimizer.zero_grad()
        return seconds

    def meet_every_count(self) -> None:
        """Run the transcoder on each number of tokens that can be hidden: libraries prepare kernels when they meet a shape."""
        config = self.model.config
        for count in {train_mask_count(config.num_tokens, step) for step in range(config.num_tokens)}:
            clean = self.codes.flatten(0, 1)[: count * len(self.codes)].repeat_interleave(self.repeats, 0)
            condition = torch.zeros(len(clean), config.width, device=self.device, requires_grad=True)
            with autocast(self.device, self.loss.precision):
                loss = self.model.transcoder.loss(condition, clean, generator=self.other_generator).loss
            loss.backward()
        self.optimizer.zero_grad()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def peak_memory_gib(args: argparse.Namespace, variant: str) -> float:
    """Largest memory of a process that trains for three steps: of the GPU, or resident with interpreter and libraries."""
    torch.set_num_threads(args.threads)
    training = Training(args, variant, build(args))
    for number in range(3):
        training.step(number + 1)
    if training.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def build(args: argparse.Namespace) -> BiGR:
    torch.manual_seed(args.seed)
    config = dataclasses.replace(preset_configs(args.model)[1], residual_dropout=0.0, ffn_dropout=0.0)
    return BiGR(config)


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        memory = {name: pool.apply(peak_memory_gib, (args, name)) for name in VARIANTS}
    model = build(args)
    trainings = {name: Training(args, name, copy.deepcopy(model)) for name in VARIANTS}
    steps = {name: [] for name in VARIANTS}
    transcoder = {name: [] for name in VARIANTS}
    for training in trainings.values():
        training.meet_every_count()
    for number in range(1, args.warmup + args.steps + 1):
        for name, training in trainings.items():
            measured = training.step(number)
            alone = training.transcoder_seconds(name == "all tokens", number)
            if number > args.warmup:
                steps[name].append(measured)
                transcoder[name].append(alone)

    tokens = model.config.num_tokens
    rows = []
    for name in VARIANTS:
        # Masked shares differ from step to step, so the mean is what counts; both variants saw the same ones
        step, alone = statistics.fmean(s for s, _, _ in steps[name]), statistics.fmean(transcoder[name])
        rows.append({
            "transcoder on": name,
            "images_per_second": args.batch_size / step,
            "tokens_per_second": args.batch_size * tokens / step,
            "step_milliseconds": 1e3 * step,
            "transcoder_milliseconds": 1e3 * alone,
            "peak_memory_gib": memory[name],
        })  # fmt: skip
    hidden, everything = rows
    differences = [abs(a[1] - b[1]) for a, b in zip(*steps.values(), strict=True)]
    summary = {
        "step_speedup": everything["step_milliseconds"] / hidden["step_milliseconds"],
        "transcoder_speedup": everything["transcoder_milliseconds"] / hidden["transcoder_milliseconds"],
        "mean_hidden_share": statistics.fmean(share for _, _, share in steps["all tokens"]),
        "largest_loss_difference": max(differences),
        "mean_loss": statistics.fmean(loss for _, loss, _ in steps["all tokens"]),
    }
    levels = f", {args.timesteps_per_token} timesteps a token" if args.timesteps_per_token > 1 else ""
    print(f"{args.model}, batch {args.batch_size}{levels}, {args.precision}{', compiled' if args.compile else ''}, {args.device}")
    print(f"{'transcoder on':<20}{'images/s':>10}{'tokens/s':>11}{'step ms':>10}{'transcoder ms':>15}{'peak GiB':>10}")
    for row in rows:
        print("{:<20}{:>10.1f}{:>11.0f}{:>10.1f}{:>15.1f}{:>10.2f}".format(*row.values()))
    print(
        f"hidden tokens only is {summary['transcoder_speedup']:.2f} times as fast in the transcoder and {summary['step_speedup']:.2f} "
        f"times in the whole step, with {summary['mean_hidden_share']:.0%} of tokens hidden; losses differ by at most "
        f"{summary['largest_loss_difference']:.1e}"
    )
    protocol = {
        "step": "forward, backward, clipping, AdamW, EMA; random codes and labels; no dropout; mean over the measured steps",
        "transcoder": "its forward and backward pass alone",
        "peak memory": "largest GPU allocation, or resident set of a process of its own with interpreter and libraries",
        "batch_size": args.batch_size, "timesteps_per_token": args.timesteps_per_token,
        "steps": args.steps, "warmup": args.warmup, "precision": args.precision,
        "compile": args.compile, "device": args.device, "threads": args.threads, "seed": args.seed,
    }  # fmt: skip
    if args.device == "cuda":
        protocol["gpu"] = torch.cuda.get_device_name()
    suffix = ("_compiled" if args.compile else "") + (f"_{args.timesteps_per_token}_timesteps" if args.timesteps_per_token > 1 else "")
    name = f"training_throughput_{args.model}_{args.device}_{args.precision}{suffix}.json"
    result = {"benchmark": "training_throughput", "model": args.model, "protocol": protocol, "rows": rows, "summary": summary}
    write_json(args.out / name, result | {"environment": environment()})
    print(f"wrote {args.out / name}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bigr_nano", choices=list(PRESETS))
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--timesteps-per-token", type=int, default=1, help="noise levels for each hidden token (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=40, help="measured steps of each variant (default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/training_throughput"), help="folder of the JSON (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
