"""Model sizes by name, as the commands know them."""

from __future__ import annotations

from ..models.config import GeneratorConfig, TokenizerConfig

TOKENIZERS = {
    "bigr_nano": TokenizerConfig(
        image_size=32, channels=32, channel_multipliers=(1, 1, 2), num_res_blocks=1, attention_resolutions=(), embed_dim=64, code_dim=16
    ),
    "bigr_d24": TokenizerConfig(code_dim=24),
    "bigr_d32": TokenizerConfig(code_dim=32),
}
GENERATORS = {
    "bigr_nano": GeneratorConfig(
        code_dim=16,
        depth=8,
        width=160,
        num_heads=4,
        grid_size=8,
        num_classes=10,
        ffn_multiple_of=64,
        denoiser_depth=2,
        residual_dropout=0.0,
        ffn_dropout=0.0,
    ),
    "bigr_l": GeneratorConfig(),
    "bigr_xl": GeneratorConfig(depth=36, width=1280, num_heads=20, denoiser_depth=6),
    "bigr_xxl": GeneratorConfig(depth=48, width=1536, num_heads=24, denoiser_depth=8),
}
