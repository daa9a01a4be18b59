"""The honest peer: a masked autoencoder of bigr_nano's size, trained on the same images for the same number of steps.

Masked autoencoder of He et al. (arXiv:2111.06377): 75 % of patches hidden, the encoder sees the visible ones only, a light decoder predicts
the hidden patches' normalised pixels. Optimiser, batch, flips and averaged weights are those of bigr_nano's own training, so that the
training objective is what differs. Writes the encoder as timm weights, which `benchmarks/linear_probe.py` takes:

    python benchmarks/train_mae.py --data zalando-datasets/fashion_mnist --steps 20000 --out runs/mae
    python benchmarks/linear_probe.py --model vit_nano_patch4_32=runs/mae/model.safetensors
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import timm
import torch
from peers import VIT_NANO
from safetensors.torch import save_file
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bigr_features.data import open_images
from bigr_features.evaluate.reports import array_hash, environment, write_json
from bigr_features.train.ema import EMA
from bigr_features.train.sampler import hold_out

log = logging.getLogger("train_mae")


@contextmanager
def plain_attention(bf16: bool) -> Iterator[None]:
    """Attention of timm's blocks by plain products where bf16 is asked for: the fused CPU kernel is several times slower in bf16."""
    if not bf16:
        yield
        return
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    with sdpa_kernel(SDPBackend.MATH):
        yield


class MaskedAutoencoder(nn.Module):
    """Encoder (a timm ViT without class token) and decoder.   B images, N patches, V visible ones, P = pixels of a patch, D width"""

    def __init__(self, encoder: nn.Module, decoder_width: int = 96, decoder_depth: int = 2, num_heads: int = 4, mask_ratio: float = 0.75):
        super().__init__()
        self.encoder = encoder
        self.mask_ratio = mask_ratio
        self.patch = encoder.patch_embed.patch_size[0]
        num_patches = encoder.patch_embed.num_patches
        self.to_decoder = nn.Linear(encoder.embed_dim, decoder_width)
        self.mask_token = nn.Parameter(torch.randn(1, 1, decoder_width) * 0.02)
        self.decoder_position = nn.Parameter(torch.randn(1, num_patches, decoder_width) * 0.02)
        self.decoder = nn.Sequential(*(Block(decoder_width, num_heads) for _ in range(decoder_depth)), nn.LayerNorm(decoder_width))
        self.to_pixels = nn.Linear(decoder_width, encoder.in_chans * self.patch**2)

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the hidden patches' normalised pixels; images (B, C, H, W), already normalised for the encoder."""
        encoder = self.encoder
        x = encoder.patch_embed(images) + encoder.pos_embed  # (B, N, D)
        batch, patches, _ = x.shape
        order = torch.rand(batch, patches, generator=generator).argsort(1)
        visible = order[:, : patches - round(self.mask_ratio * patches)]  # (B, V)
        x = encoder.norm(encoder.blocks(x.gather(1, visible[..., None].expand(-1, -1, x.shape[2]))))
        x = self.to_decoder(x)
        full = self.mask_token.to(x.dtype).repeat(batch, patches, 1).scatter(1, visible[..., None].expand(-1, -1, x.shape[2]), x)
        predicted = self.to_pixels(self.decoder(full + self.decoder_position)).float()  # (B, N, P)
        target = self.patches(images)
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
        hidden = torch.ones(batch, patches).scatter(1, visible, 0.0)
        return ((predicted - target).square().mean(-1) * hidden).sum() / hidden.sum()

    def patches(self, images: Tensor) -> Tensor:
        """Pixels of each patch, (B, N, P)."""
        return nn.functional.unfold(images, self.patch, stride=self.patch).transpose(1, 2)


def main() -> None:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    encoder = timm.create_model(VIT_NANO, num_classes=0)
    images = open_images(args.data, "train", size=32, limit=args.limit)
    pixels, labels = images.read(np.arange(len(images)))
    rows, _ = hold_out(len(pixels), args.validation, args.seed)
    pixels = torch.from_numpy(pixels[rows]).permute(0, 3, 1, 2)  # (n, 3, 32, 32) uint8
    mean, std = (torch.tensor(encoder.default_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))

    model = MaskedAutoencoder(encoder)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": args.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.learning_rate, betas=(0.9, 0.95))
    ema = EMA(model, args.ema_decay, warmup=True)
    generator = torch.Generator().manual_seed(args.seed)
    losses, started = [], time.perf_counter()
    for step in range(1, args.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * min(1.0, step / args.warmup_steps)
        batch = pixels[torch.randint(len(pixels), (args.batch_size,), generator=generator)].float() / 255
        flip = torch.rand(args.batch_size, generator=generator) < 0.5
        batch = torch.where(flip[:, None, None, None], batch.flip(-1), batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16), plain_attention(args.bf16):
            loss = model((batch - mean) / std, generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ema.update(step)
        losses.append(float(loss.detach()))
        if step % 500 == 0 or step == args.steps:
            log.info("step %6d  loss %.4f  %.1f steps/s", step, np.mean(losses[-500:]), step / (time.perf_counter() - started))
        if step % args.save_every == 0 or step == args.steps:
            save(
                model,
                ema,
                args,
                {"step": step, "loss": float(np.mean(losses[-500:])), "data_sha256": array_hash(pixels.numpy(), labels[rows])},
            )
    print(f"wrote {args.out / 'model.safetensors'}")


def save(model: MaskedAutoencoder, ema: EMA, args: argparse.Namespace, reached: dict) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    with ema.swapped():
        save_file({key: value.detach().clone() for key, value in model.encoder.state_dict().items()}, args.out / "model.safetensors")
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items() if key not in ("data", "out")}
    counts = {"encoder_parameters": sum(p.numel() for p in model.encoder.parameters())}
    write_json(args.out / "training.json", {"model": VIT_NANO, **reached, **counts, "settings": settings, "environment": environment()})


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", "--data", dest="data", required=True, help="what `bigr train-tokenizer --source` takes")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--warmup-steps", type=int, default=500)
    parser.add_argument("--ema-decay", type=float, default=0.9995)
    parser.add_argument("--validation", type=int, default=2000, help="training images left out, as in `bigr train` (default: %(default)s)")
    parser.add_argument("--save-every", type=int, default=1000)
    parser.add_argument("--limit", type=int, help="use the first images only, to try the script")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/mae"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
