"""Time per image of masked sampling, against a plain implementation of the paper's algorithm, and against a floor from counted operations.

The plain implementation below works as the public code does, on the same weights: the transcoder runs on all tokens at every reveal step,
conditional and unconditional branch in separate calls of trunk and denoiser, embeddings computed at every denoise step, and the kernel of
several noise levels multiplied up from single ones in a loop. Fed the same random numbers, both give the same codes, which is checked
first. The two are timed in turn, and the median of several rounds is reported; beside them ours with an order known beforehand, which draws
other images.

On a machine that other jobs share, CPU seconds (summed over threads) tell more than wall-clock seconds; both are reported.

The floor is the number of multiply-adds of the matrix products that our way of sampling needs (hidden tokens only), divided by the rate at
which this machine does such products.

With --cache, causal generators are timed instead, on random weights: token after token with the static key/value cache, and without it,
where every token costs a pass over all tokens before it. The share of tokens that both draw alike is reported: now and then a draw lies
within rounding of the border between two of thousands of classes, and all tokens after it differ.

    python benchmarks/sampling_speed.py
    python benchmarks/sampling_speed.py --batch 32 --rounds 5 --threads 1
    python benchmarks/sampling_speed.py --cache llamagen_nano llamagen_l:2 --batch 1 --threads 1
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

import bigr_features  # noqa: F401  (registers the models)
from bigr_features.checkpoints import fingerprint
from bigr_features.evaluate.reports import environment, write_json
from bigr_features.functional import bernoulli, masking
from bigr_features.models.generator import BiGR
from bigr_features.models.presets import preset_configs

log = logging.getLogger("sampling_speed")


def main() -> None:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.cache:
        return time_caches(args)
    model = timm.create_model(args.model, pretrained=args.model.count(".") > 0).eval().to(args.device)
    generator = model.generator
    settings = {
        "num_reveal_steps": args.reveal_steps,
        "num_denoise_steps": args.denoise_steps,
        "guidance_scale": args.guidance_scale,
    }
    result = {
        "benchmark": "sampling_speed",
        "model": args.model,
        "weights_sha256": fingerprint(model),
        "protocol": {
            "what": "codes only, without the decoder; plain and ours in turn, median of the rounds",
            "dtype": "float32",
            "device": args.device,
            "threads": torch.get_num_threads(),
            "rounds": args.rounds,
            **settings,
        },
        "same_codes_from_same_noise": agreement(generator, settings, args.device),
        "batches": [],
    }
    log.info("same noise: %s", result["same_codes_from_same_noise"])
    for batch in args.batch:
        row = timed(generator, batch, settings, args)
        result["batches"].append(row)
        log.info("%s", row)
    result["environment"] = environment()
    write_json(args.out / f"sampling_speed_{args.model.replace('.', '_')}.json", result)
    print_table(result)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bigr_nano.fashion_mnist")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="images at a time (default: %(default)s)")
    parser.add_argument("--reveal-steps", type=int, default=20)
    parser.add_argument("--denoise-steps", type=int, default=100)
    parser.add_argument("--guidance-scale", type=float, default=2.5)
    parser.add_argument(
        "--cache", nargs="+", metavar="PRESET[:BLOCKS]", help="causal presets, with so many blocks: cached against uncached"
    )
    parser.add_argument("--grid", type=int, default=16, help="side of the token grid, with --cache (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="timed rounds, after one that warms up (default: %(default)s)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; torch's own number by default")
    parser.add_argument("--out", type=Path, default=Path("runs/sampling_speed"), help="folder for the JSON (default: %(default)s)")
    return parser.parse_args()


# ------------------------------------------------------------------------------------------------------ the plain implementation


@torch.no_grad()
def plain_sample_codes(
    model: nn.Module, labels: Tensor, num_reveal_steps: int, num_denoise_steps: int, guidance_scale: float, uniforms=None
) -> Tensor:
    """Codes (B, N, K), entropy order, cosine schedule, constant guidance.

    `uniforms(step, i)` gives (B * N, K) numbers for draw i of a reveal step; without it, draws come from torch's global state.
    """
    config = model.config
    batch, tokens, bits = len(labels), config.num_tokens, config.code_dim
    codes = torch.zeros(batch, tokens, bits, device=labels.device)
    mask = torch.ones(batch, tokens, dtype=torch.bool, device=labels.device)
    null = torch.full_like(labels, model.null_class)
    for step, count in enumerate(masking.reveal_counts(tokens, num_reveal_steps)):
        draw = (lambda p, i: torch.bernoulli(p)) if uniforms is None else (lambda p, i, step=step: (uniforms(step, i) < p).float())
        cond = model.condition(codes, labels, mask).flatten(0, 1)  # (B * N, D)
        uncond = model.condition(codes, null, mask).flatten(0, 1)
        p = plain_chain(model.transcoder, cond, uncond, num_denoise_steps, guidance_scale, draw)
        confidence = (2 * p - 1).abs().mean(-1).reshape(batch, tokens).masked_fill(~mask, -torch.inf)
        revealed = torch.zeros_like(mask).scatter_(1, confidence.topk(count, dim=1).indices, True)
        drawn = draw(p, num_denoise_steps).reshape(batch, tokens, bits)
        codes = torch.where(revealed[..., None], drawn, codes)
        mask = mask & ~revealed
    return codes


def plain_chain(transcoder: nn.Module, cond: Tensor, uncond: Tensor, steps: int, scale: float, draw) -> Tensor:
    """Bit probabilities (B * N, K) of all tokens: two calls of the denoiser a step, single-step kernels multiplied up."""
    levels = transcoder.config.num_timesteps
    keep = bernoulli.keep_probabilities(levels, transcoder.config.noise_schedule).to(cond)
    single = torch.cat([keep[:1], keep[1:] / keep[:-1]])  # a step t - 1 -> t keeps a bit with single[t]
    times = bernoulli.sampling_timesteps(steps, levels)
    bits = draw(torch.full((len(cond), transcoder.config.code_dim), 0.5, device=cond.device), 0)
    for i, t in enumerate(times):
        t_rows = torch.full((len(cond),), t, device=cond.device)
        conditional = transcoder.denoiser(bits, t_rows, cond)
        unconditional = transcoder.denoiser(bits, t_rows, uncond)
        flip = torch.sigmoid(unconditional + scale * (conditional - unconditional))
        clean = bits * (1 - flip) + (1 - bits) * flip if transcoder.config.predict_flip else flip
        if i + 1 == len(times):
            return clean
        evidence = bits
        for level in range(t, times[i + 1], -1):
            evidence = single[level] * evidence + (1 - single[level]) / 2
        prior = keep[times[i + 1]] * clean + (1 - keep[times[i + 1]]) / 2
        joint = prior * evidence
        bits = draw(joint / (joint + (1 - prior) * (1 - evidence)), i + 1)
    raise AssertionError("a chain has at least one step")


# ------------------------------------------------------------------------------------------------------------------- measurement


class SharedUniforms:
    """The same uniform numbers for both implementations, whatever rows they run on: number (step, i, row) is a function of its place."""

    def __init__(self, rows: int, bits: int):
        self.rows, self.bits = rows, bits

    def __call__(self, step: int, i: int) -> Tensor:
        return torch.rand(self.rows, self.bits, generator=torch.Generator().manual_seed(1000 * step + i))


def agreement(model: nn.Module, settings: dict, device: str, batch: int = 2) -> dict:
    """Share of bits in which the two agree when fed the same random numbers, with fewer steps so that it is quick.

    In float32 the two round differently, and a draw within rounding of its probability may turn over.
    """
    settings = settings | {
        "num_reveal_steps": min(8, settings["num_reveal_steps"]),
        "num_denoise_steps": min(20, settings["num_denoise_steps"]),
    }
    labels = (torch.arange(batch) % model.config.num_classes).to(device)
    uniforms = SharedUniforms(batch * model.config.num_tokens, model.config.code_dim)
    plain = plain_sample_codes(model, labels, **settings, uniforms=lambda step, i: uniforms(step, i).to(device))
    feed = _Feed(uniforms, masking.reveal_counts(model.config.num_tokens, settings["num_reveal_steps"]), settings["num_denoise_steps"])
    original, torch.bernoulli = torch.bernoulli, feed
    try:
        ours = model.generate(labels, **settings, on_step=feed.on_step)
    finally:
        torch.bernoulli = original
    return {"images": batch, "steps": settings, "equal_bits": float((plain == ours).float().mean())}


class _Feed:
    """Stands in for torch.bernoulli in our sampler: takes the shared numbers of the rows that are still hidden."""

    def __init__(self, uniforms: SharedUniforms, counts: list[int], steps: int):
        self.uniforms, self.per_step = uniforms, steps + 1
        self.running = [step for step, count in enumerate(counts) if count]
        self.hidden = torch.ones(uniforms.rows, dtype=torch.bool)
        self.calls = 0

    def __call__(self, probability: Tensor, *, generator=None) -> Tensor:
        step, i = self.running[self.calls // self.per_step], self.calls % self.per_step
        self.calls += 1
        return (self.uniforms(step, i)[self.hidden].to(probability) < probability).to(probability.dtype)

    def on_step(self, step) -> None:
        self.hidden = (step.mask & ~step.revealed).flatten().cpu()


def timed(model: nn.Module, batch: int, settings: dict, args: argparse.Namespace) -> dict:
    labels = (torch.arange(batch) % model.config.num_classes).to(args.device)
    ways = {
        "plain": lambda: plain_sample_codes(model, labels, **settings),
        "ours": lambda: model.generate(labels, **settings),
        "ours, halton order": lambda: model.generate(labels, order="halton", **settings),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(args.rounds + 1):
        for name, way in ways.items():
            synchronize(args.device)
            started, cpu_started = time.perf_counter(), time.process_time()
            way()
            synchronize(args.device)
            if round_:  # the first warms up
                seconds[name].append((time.perf_counter() - started) / batch)
                cpu_seconds[name].append((time.process_time() - cpu_started) / batch)
    per_image = {name: statistics.median(values) for name, values in seconds.items()}
    cpu = {name: statistics.median(values) for name, values in cpu_seconds.items()}
    work = multiply_adds(model, settings["num_reveal_steps"], settings["num_denoise_steps"])
    rate = matmul_rate(model, batch, args.device)
    floor = 2 * work["ours"] / rate
    return {
        "batch": batch,
        "seconds_per_image": per_image,
        "all_rounds": seconds,
        "speedup": per_image["plain"] / per_image["ours"],
        "cpu_seconds_per_image": cpu,
        "speedup_in_cpu_seconds": cpu["plain"] / cpu["ours"],
        "multiply_adds_per_image": work,
        "matmul_gflops": rate / 1e9,
        "floor_seconds_per_image": floor,
        "floor_over_time": floor / per_image["ours"],
    }


def multiply_adds(model: nn.Module, reveal_steps: int, denoise_steps: int) -> dict[str, int]:
    """Multiply-adds of all matrix products for one image with guidance, by either way of sampling."""
    config, denoiser = model.config, model.transcoder.denoiser
    counts = masking.reveal_counts(config.num_tokens, reveal_steps)
    hidden = [config.num_tokens - sum(counts[:step]) for step, count in enumerate(counts) if count]
    sequence = config.num_tokens + config.num_cond_tokens
    weights = sum(p.numel() for block in model.trunk.blocks for p in block.parameters() if p.dim() == 2)
    attention = 2 * len(model.trunk.blocks) * sequence**2 * config.width
    trunk = sequence * weights + attention + config.num_tokens * config.code_dim * config.width
    every_step = sum(p.numel() for name, p in denoiser.named_parameters() if p.dim() == 2 and not name.startswith(("condition", "time")))
    once = denoiser.condition_embedding.weight.numel()
    time_embedding = sum(p.numel() for p in denoiser.time_embedding.parameters() if p.dim() == 2)
    ours = sum(2 * (trunk + rows * (once + denoise_steps * every_step)) for rows in hidden)
    per_row = denoise_steps * (every_step + once + time_embedding)
    plain = reveal_steps * 2 * (trunk + config.num_tokens * per_row)
    return {"plain": plain, "ours": ours}


@torch.no_grad()
def matmul_rate(model: nn.Module, batch: int, device: str, seconds: float = 0.5) -> float:
    """Operations a second (two a multiply-add) in products of the denoiser's commonest shape, the best of many."""
    width = model.config.denoiser_width
    rows = torch.randn(min(512, 2 * batch * model.config.num_tokens) if device == "cpu" else 2 * batch * model.config.num_tokens, width)
    rows, weight = rows.to(device), torch.randn(width, 3 * width).to(device)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        synchronize(device)
        started = time.perf_counter()
        for _ in range(20):
            rows @ weight
        synchronize(device)
        best = min(best, (time.perf_counter() - started) / 20)
    return 2 * rows.numel() * weight.shape[1] / best


def time_caches(args: argparse.Namespace) -> None:
    """Times of causal generators with and without their key/value cache, in turn; written as kv_cache.json."""
    protocol = {"dtype": "float32", "device": args.device, "threads": torch.get_num_threads(), "rounds": args.rounds}
    result = {
        "benchmark": "kv_cache",
        "protocol": {"what": "codes only, random weights, in turn, median of the rounds", **protocol},
        "rows": [],
    }
    for name in args.cache:
        preset, _, blocks = name.partition(":")
        config = preset_configs(preset)[1].replace(grid_size=args.grid)
        config = config.replace(depth=int(blocks)) if blocks else config
        model = random_weights(BiGR(config, device=args.device)).eval()
        for batch in args.batch:
            row = timed_cache(model, batch, args)
            result["rows"].append({"preset": preset, "blocks": config.depth, "width": config.width, "tokens": config.num_tokens, **row})
            log.info("%s: %s", name, row)
            result["environment"] = environment()
            write_json(args.out / "kv_cache.json", result)  # after each row: a run that is stopped leaves what it has
    print("".join(f"{title:>16}" for title in ("preset", "blocks", "batch", "guidance", "uncached s", "cached s", "speed-up", "in CPU s")))
    for row in result["rows"]:
        seconds = row["seconds_per_image"]
        print(
            f"{row['preset']:>16}{row['blocks']:>16}{row['batch']:>16}{row['guidance_scale']:>16}{seconds['uncached']:>16.3f}"
            f"{seconds['cached']:>16.3f}{row['speedup']:>15.1f}x{row['speedup_in_cpu_seconds']:>15.1f}x"
        )


def random_weights(model: nn.Module) -> nn.Module:
    """Weights in place of the zeros that a new head starts from, so that tokens differ."""
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            if not parameter.any():
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)))
    return model


def timed_cache(model: nn.Module, batch: int, args: argparse.Namespace) -> dict:
    """Seconds an image with and without the cache, and whether both drew the same tokens."""
    labels = (torch.arange(batch) % model.config.num_classes).to(args.device)
    steps = {} if model.config.categorical else {"num_denoise_steps": args.denoise_steps}
    wall: dict[bool, list[float]] = {False: [], True: []}
    cpu: dict[bool, list[float]] = {False: [], True: []}
    drawn = {}
    for _ in range(args.rounds):
        for cached in (False, True):
            noise = torch.Generator(args.device).manual_seed(0)
            synchronize(args.device)
            started, cpu_started = time.perf_counter(), time.process_time()
            drawn[cached] = model.generate(labels, guidance_scale=args.guidance_scale, use_cache=cached, generator=noise, **steps)
            synchronize(args.device)
            wall[cached].append((time.perf_counter() - started) / batch)
            cpu[cached].append((time.process_time() - cpu_started) / batch)
    names = {False: "uncached", True: "cached"}
    per_image, per_image_cpu = ({names[key]: statistics.median(values) for key, values in times.items()} for times in (wall, cpu))
    return {
        "batch": batch,
        "guidance_scale": args.guidance_scale,
        "seconds_per_image": per_image,
        "cpu_seconds_per_image": per_image_cpu,
        "speedup": per_image["uncached"] / per_image["cached"],
        "speedup_in_cpu_seconds": per_image_cpu["uncached"] / per_image_cpu["cached"],
        "equal_tokens": float((drawn[False] == drawn[True]).float().mean()),
    }


def synchronize(device: str) -> None:
    if device != "cpu":
        torch.accelerator.synchronize()


def print_table(result: dict) -> None:
    protocol = result["protocol"]
    print(
        f"\n{result['model']}, {protocol['num_reveal_steps']} reveal and {protocol['num_denoise_steps']} denoise steps, "
        f"{protocol['device']}, {protocol['threads']} threads"
    )
    head = (
        ("batch", 6),
        ("plain s/image", 15),
        ("ours s/image", 14),
        ("speed-up", 10),
        ("in CPU s", 10),
        ("floor", 10),
        ("floor/ours", 12),
    )
    print("".join(f"{name:>{width}}" for name, width in (*head, ("halton", 10))))
    for row in result["batches"]:
        seconds = row["seconds_per_image"]
        print(
            f"{row['batch']:>6}{seconds['plain']:>15.3f}{seconds['ours']:>14.3f}{row['speedup']:>9.2f}x{row['speedup_in_cpu_seconds']:>9.2f}x"
            f"{row['floor_seconds_per_image']:>10.3f}{row['floor_over_time']:>12.0%}{seconds['ours, halton order']:>10.3f}"
        )
    same = result["same_codes_from_same_noise"]
    print(f"same random numbers: {same['equal_bits']:.4%} of the bits are equal")


if __name__ == "__main__":
    main()
