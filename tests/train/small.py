"""Sizes for tests, and what tests read out of a run folder."""

from __future__ import annotations

import json
from pathlib import Path

from bigr_features import GeneratorConfig, TokenizerConfig, VQTokenizerConfig

TOKENIZER = TokenizerConfig(
    image_size=16, channels=32, channel_multipliers=(1, 1, 1), num_res_blocks=1, attention_resolutions=(), embed_dim=32, code_dim=8
)
VQ_TOKENIZER = VQTokenizerConfig(
    image_size=16, channels=32, channel_multipliers=(1, 1, 1), num_res_blocks=1, embed_dim=32, codebook_size=32, codebook_dim=4
)
GENERATOR = GeneratorConfig(
    code_dim=8, depth=2, width=32, num_heads=2, grid_size=4, num_classes=10, ffn_multiple_of=16, denoiser_depth=1,
    num_timesteps=16, num_denoise_steps=4,
)  # fmt: skip


def logged(run: Path, split: str = "train") -> list[dict]:
    """Lines of a run's log."""
    lines = [json.loads(line) for line in (Path(run) / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["split"] == split]
