"""The five systems of the poster's Table 1 at nano size, at 12 bits a token."""

from __future__ import annotations

from dataclasses import dataclass, field

CODE_DIM = 12


@dataclass(frozen=True)
class System:
    """What one row is made from.

    Parameters
    ----------
    preset : str
        The size to start from.
    tokenizer : str
        Which tokenizer of the data set it stands on: rows of the same name share it.
    sampling : dict
        As the paper samples from it.
    choices : dict
        Values by setting, all combinations of which `Row.PARTS` "chosen" tries.
    changes : dict
        What is changed of the preset.
    weights : str, optional
        Name of the row whose trained weights this one takes; its own by default.
    """

    preset: str
    tokenizer: str
    sampling: dict
    choices: dict = field(default_factory=dict)
    changes: dict = field(default_factory=lambda: {"code_dim": CODE_DIM})
    weights: str | None = None


DENOISE_STEPS = 16  # the paper visits 100 noise levels; on Fashion-MNIST 16 are as good as 32 within the intervals (benchmarks/README.md)
AUTOREGRESSIVE = {"guidance_scale": 2.0}
GUIDANCE = {"guidance_scale": (1.0, 1.5, 2.5)}
BIGR = {"guidance_scale": 2.5, "num_reveal_steps": 20, "num_denoise_steps": DENOISE_STEPS, "gumbel_temperature": 0.17}
SYSTEMS = {
    "LlamaGen": System("llamagen_nano", "vq", AUTOREGRESSIVE, GUIDANCE, changes={}),  # its codebook has 4,096 codes, which is 12 bits
    "S0": System("bigr_nano_cat_ar", "binary", AUTOREGRESSIVE, GUIDANCE),
    "S1": System("bigr_nano_cat_mask", "binary", {"guidance_scale": 2.5, "num_reveal_steps": 10}, GUIDANCE),
    "S2": System("bigr_nano_bin_ar", "binary", {"guidance_scale": 2.5, "num_denoise_steps": DENOISE_STEPS}, GUIDANCE),
    "S3": System("bigr_nano", "binary", BIGR, {**GUIDANCE, "gumbel_temperature": (0.0, 0.17)}),
}
