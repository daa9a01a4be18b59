"""How fast is the library beside a plain implementation of the paper, and how near to what the arithmetic allows?

The plain implementation (plain_bigr.py, float32) has the same weights and runs in the same process; calls of all variants alternate. What
counts is the median over rounds of the ratio to the plain call of the same round, in CPU seconds of the process (wall seconds beside them).
The floor is the number of multiplications over the rate of a large matrix product in the same precision. One thread by default; pin the
process to a core. Outputs are compared before anything is timed.

    taskset -c 1 python benchmarks/speed.py
    taskset -c 1 python benchmarks/speed.py --only training --rounds 5
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from plain_bigr import PlainBiGR
from speed_evaluators import evaluators
from speed_timing import alternated, matmul_rate
from threadpoolctl import threadpool_limits

from bigr_features import BiGR, extract_features
from bigr_features.data import load_sample
from bigr_features.evaluate.reports import environment, write_json
from bigr_features.features.inputs import model_inputs
from bigr_features.features.int8 import Computing, Int8Layers
from bigr_features.features.precision import neighbours_kept
from bigr_features.functional.inference import autocast, in_chunks
from bigr_features.models.config import GeneratorConfig
from bigr_features.models.presets import preset_configs
from bigr_features.train.draws import draw
from bigr_features.train.ema import EMA
from bigr_features.train.generator import GeneratorLoss
from bigr_features.train.optimizer import build_optimizer

PARTS = ("extraction", "sampling", "decode", "training", "evaluators")
BLOCKS_OF_L = 4  # of bigr_l's 24: a whole one does not fit the minutes of a default run
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/speed"), help="folder for the JSON, one a part (default: %(default)s)")
    args = parser.parse_args()
    if args.rounds < 1 or args.threads < 1:
        parser.error("--rounds and --threads must be 1 or more")
    torch.set_num_threads(args.threads)
    threadpool_limits(args.threads)  # of the products of numpy and scipy
    args.out.mkdir(parents=True, exist_ok=True)
    rates = {name: matmul_rate(dtype) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
    for part in args.only:
        torch.manual_seed(args.seed)
        rows = {"extraction": extraction, "sampling": sampling, "decode": decode, "training": training, "evaluators": evaluators}[part](
            args.rounds, rates
        )
        print(f"\n{part}\n{'what':<44}{'variant':<26}{'CPU s':>9}{'of plain':>10}{'floor':>8}")
        for row in rows:
            floor = "" if row.get("floor_share") is None else f"{row['floor_share']:.2f}"
            print(f"{row['what']:<44}{row['variant']:<26}{row['cpu_seconds']:>9.4f}{row['ratio']:>10.2f}{floor:>8}", flush=True)
        result = {
            "benchmark": "speed",
            "part": part,
            "protocol": {
                "rounds": args.rounds,
                "threads": args.threads,
                "seed": args.seed,
                "ratio": "median over rounds of CPU seconds over those of the plain implementation in fp32 in the same round",
                "matmul_gmac_per_second": rates,
            },
            "rows": rows,
            "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20),
            "environment": environment(),
        }
        write_json(args.out / f"speed_{part}.json", result)


def configs() -> dict[str, tuple[GeneratorConfig, int]]:
    """Generators by name, without dropout, and the images of a batch."""
    quiet = {"residual_dropout": 0.0, "ffn_dropout": 0.0, "token_dropout": 0.0, "drop_path": 0.0}
    nano, large = preset_configs("bigr_nano")[1], preset_configs("bigr_l")[1]
    return {
        "bigr_nano": (replace(nano, **quiet), 64),
        f"bigr_l, {BLOCKS_OF_L} of 24 blocks": (replace(large, depth=BLOCKS_OF_L, **quiet), 2),
    }


def pair(config: GeneratorConfig) -> tuple[BiGR, PlainBiGR]:
    """Ours and the plain one with the same weights; those that begin at zero are drawn, so that outputs can be compared."""
    ours = BiGR(config)
    with torch.no_grad():
        for parameter in ours.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    plain = PlainBiGR(config)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def trunk_gmac(config: GeneratorConfig, images: int) -> float:
    """1e9 multiplications of the trunk's linear layers and attention for so many images."""
    length, width = config.num_tokens + config.num_cond_tokens, config.width
    a_token = 4 * width**2 + 3 * width * config.ffn_width + 2 * length * width
    return images * length * config.depth * a_token / 1e9


def head_gmac(config: GeneratorConfig, tokens: int) -> float:
    """1e9 multiplications of the denoiser's blocks for so many tokens."""
    width = config.denoiser_width
    return tokens * (config.denoiser_depth * 5 * width**2 + config.width * width + 2 * width**2 + 2 * width * config.code_dim) / 1e9


@torch.no_grad()
def extraction(rounds: int, rates: dict[str, float]) -> list[dict]:
    """Features of all tokens from codes."""
    rows = []
    for name, (config, images) in configs().items():
        ours, plain = (model.eval() for model in pair(config))
        codes = torch.randint(2, (images, config.num_tokens, config.code_dim)).float()
        null = torch.full((images,), config.null_class)

        layers = Int8Layers(ours)

        def of(precision, ours=ours, codes=codes, config=config, layers=layers):
            with layers.running() if precision == "int8" else nullcontext(), autocast(CPU, "fp32" if precision == "fp32" else "bf16"):
                return ours.hidden_states(codes, layers=[config.depth - 1])[0]

        def plainly(plain=plain, codes=codes, null=null):
            return plain.hidden(codes, null)

        expected = plainly()
        precisions = (*rates, "int8")
        pooled = {p: of(p).float().mean(1) for p in precisions}
        cosines = {f"cosine_{p}": torch.nn.functional.cosine_similarity(pooled[p], expected.mean(1)).min().item() for p in precisions}
        calls = {"plain, fp32": plainly, **{f"ours, {p}": lambda p=p, of=of: of(p) for p in precisions}}
        floors = {call: trunk_gmac(config, images) / rates[call[-4:]] for call in calls if call[-4:] in rates}
        rows += alternated(f"{name}: codes to features", calls, rounds, floors, images=images, **cosines)
    return rows + from_images(rounds)


def from_images(rounds: int) -> list[dict]:
    """Images to the nano's trained features, and the share of the 10 nearest neighbours that stays, of images and of the same codes."""
    import timm

    model = timm.create_model("bigr_nano.fashion_mnist", pretrained=True, num_classes=0).eval()
    images = model_inputs(load_sample("fashion_mnist").test_images, model)
    names = ("fp32", "bf16", "int8")
    computing = Computing(model)

    def of(precision, batch):
        return extract_features(model, batch, layers=model.feature_layer, dtype=precision, progress=False, batch_size=64)[
            model.feature_layer
        ]

    def of_codes(precision, codes):
        with computing.context({"precision": precision, "rest": "bf16"}):
            return model.generator.features(codes, model.feature_layer, model.shifted).mean(1).float().numpy()

    codes = in_chunks(model.encode, images, 64)
    kept: dict[str, dict[str, float | None]] = {"of images": {}, "of the same codes": {}}
    full = {"of images": {"": of("fp32", images)}, "of the same codes": {"": in_chunks_of(of_codes, "fp32", codes)}}
    for name in names[1:]:
        kept["of images"][name] = neighbours_kept(full["of images"], {"": of(name, images)})
        kept["of the same codes"][name] = neighbours_kept(full["of the same codes"], {"": in_chunks_of(of_codes, name, codes)})
    calls = {f"ours, {name}": lambda name=name: of(name, images[:64]) for name in names}
    return alternated("bigr_nano: images to features", calls, rounds, images=64, neighbours_kept=kept, neighbours_among=len(images))


def in_chunks_of(function: Callable, precision: str, codes: torch.Tensor) -> np.ndarray:
    return np.concatenate([function(precision, part) for part in codes.split(64)])


def training(rounds: int, rates: dict[str, float]) -> list[dict]:
    """A whole step: loss, gradients, clipping, AdamW, moving average."""
    rows = []
    for name, (config, images) in configs().items():
        rows += training_of(name, config, max(1, images // 2) if images < 64 else images, rounds, rates)
    return rows


def training_of(name: str, config: GeneratorConfig, images: int, rounds: int, rates: dict[str, float]) -> list[dict]:
    ours, plain = pair(config)
    codes = torch.randint(2, (images, config.num_tokens, config.code_dim)).float()
    labels = torch.randint(config.num_classes, (images,))
    draws = draw(ours, images, torch.Generator().manual_seed(0), 1)
    given = draws.loss_arguments(codes)
    seen = torch.where(draws.dropped, config.null_class, labels)
    timesteps, noisy = given["timesteps"][:, :, 0], given["noisy_codes"][:, :, 0]
    steps = {"plain, fp32": _Step(plain, lambda: plain.loss(codes, seen, given["mask"], timesteps, noisy))}
    for precision in rates:
        model = BiGR(config)
        model.load_state_dict(ours.state_dict())
        module = GeneratorLoss(model, precision)
        steps[f"ours, {precision}"] = _Step(model, lambda module=module: module(codes, labels, draws)[0])
    losses = {step: steps[step].loss().item() for step in steps}
    hidden = images * draws.num_hidden
    gmac = 3 * (trunk_gmac(config, images) + head_gmac(config, hidden))
    floors = {step: gmac / rates[step[-4:]] for step in steps}
    facts = {"images": images, "hidden_tokens": hidden, "losses": losses}
    return alternated(f"{name}: training step", {step: call.run for step, call in steps.items()}, rounds, floors, **facts)


class _Step:
    """A training step of a model; the plain one has torch's own optimiser and averages one parameter after the other."""

    def __init__(self, model: torch.nn.Module, loss: Callable[[], torch.Tensor]):
        self.model, self.loss = model.train(), loss
        own = isinstance(model, BiGR)
        self.optimizer = build_optimizer(model, 1e-5, 0.02) if own else torch.optim.AdamW(model.parameters(), 1e-5, (0.9, 0.95))
        self.average = EMA(model) if own else [p.detach().clone() for p in model.parameters()]

    def run(self) -> None:
        self.loss().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if isinstance(self.average, EMA):
            self.average.update(1)
            return
        with torch.no_grad():
            for average, parameter in zip(self.average, self.model.parameters(), strict=True):
                average.mul_(0.9999).add_(parameter, alpha=0.0001)


def sampling(rounds: int, rates: dict[str, float]) -> list[dict]:
    """Codes of new images with guidance; variants in the order exact, exact for another order, approximate."""
    config, _ = configs()["bigr_nano"]
    images, reveals, denoise = 4, 10, 20
    ours, plain = (model.eval() for model in pair(config))
    labels = torch.arange(images)

    def of(precision="fp32", **settings):
        given = {"num_reveal_steps": reveals, "num_denoise_steps": denoise, "guidance_scale": 2.5, **settings}
        with autocast(CPU, precision):
            return ours.generate(labels, generator=torch.Generator().manual_seed(0), **given)

    exact, rounded = of(), of("bf16")
    calls = {
        "plain, fp32": lambda: plain.sample(labels, reveals, denoise, 2.5),
        "entropy, fp32": of,
        "halton, fp32": lambda: of(order="halton"),
        "entropy, bf16": lambda: of("bf16"),
        "halton, bf16": lambda: of("bf16", order="halton"),
    }
    facts = {"images": images, "reveal_steps": reveals, "denoise_steps": denoise}
    facts["bits_differing_bf16"] = (exact != rounded).float().mean().item()
    return alternated("bigr_nano: sampling", calls, rounds, **facts)


@torch.no_grad()
def decode(rounds: int, rates: dict[str, float]) -> list[dict]:
    """Codes to images; the plain way is the network as it is, in fp32."""
    import timm

    model = timm.create_model("bigr_nano.fashion_mnist", pretrained=True, num_classes=0).eval()
    codes = torch.randint(2, (32, 64, model.tokenizer.code_dim)).float()
    last = timm.create_model("bigr_nano.fashion_mnist", pretrained=True, num_classes=0).eval().to(memory_format=torch.channels_last)

    def of(precision, which=model):
        with autocast(CPU, precision):
            return which.decode(codes)

    calls = {
        "plain, fp32": lambda: of("fp32"),
        "channels last, fp32": lambda: of("fp32", last),
        "bf16": lambda: of("bf16"),
        "channels last, bf16": lambda: of("bf16", last),
    }
    difference = (of("bf16").float() - of("fp32")).abs().max().item()
    return alternated("bigr_nano: decode", calls, rounds, images=32, largest_difference_bf16=difference)


if __name__ == "__main__":
    main()
