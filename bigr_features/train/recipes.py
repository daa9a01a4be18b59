"""Settings of training that follow from the preset: nano sizes have the defaults, the others differ by what stands here.

Nano sizes train well within an hour on two CPU cores by the defaults. The large ones are trained as published: BiGR by Table 7 of
arXiv:2410.14672 and its scripts, the systems with a softmax over bits by arXiv:2410.16257 (ELM), LlamaGen and its tokenizer by
arXiv:2406.06525. bigr_l_t2i, whose training nobody published, has the settings of bigr_l. Steps are epochs of the 1,281,167 images of
ImageNet.
"""

from __future__ import annotations

IMAGES = 1_281_167
_RARELY = dict(validate_every=5_000, checkpoint_every=5_000)
_LARGE = dict(learning_rate=1e-4, warmup_steps=500, schedule="constant", ema_decay=0.9999, sample_every=5_000, **_RARELY)


def _epochs(epochs: int, batch_size: int) -> dict:
    return dict(batch_size=batch_size, steps=epochs * IMAGES // batch_size)


_SOFTMAX = dict(_LARGE, **_epochs(400, 256), weight_decay=0.05)
_LLAMAGEN = dict(_LARGE, **_epochs(300, 256), weight_decay=0.05)
_BIGR_512 = dict(_LARGE, **_epochs(400, 512))

GENERATOR_RECIPES: dict[str, dict] = {
    "bigr_l": dict(_LARGE, **_epochs(400, 1024)),
    "bigr_xl": _BIGR_512,
    "bigr_xxl": _BIGR_512,
    "bigr_xxl_d32": _BIGR_512,
    "bigr_l_512": _BIGR_512,
    "bigr_l_t2i": dict(_LARGE, **_epochs(400, 1024)),
    "llamagen_b": _LLAMAGEN,
    "llamagen_l": _LLAMAGEN,
    "bigr_l_cat_ar": _SOFTMAX,
    "bigr_l_cat_mask": _SOFTMAX,
    "bigr_l_bin_ar": _SOFTMAX,
}
_LARGE_TOKENIZER = dict(
    _RARELY, **_epochs(40, 128), learning_rate=1e-4, weight_decay=0.05, warmup_steps=500, schedule="constant", ema_decay=0.9999
)
TOKENIZER_RECIPES: dict[str, dict] = dict.fromkeys(GENERATOR_RECIPES, _LARGE_TOKENIZER)
