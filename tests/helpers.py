"""What several test files share: the golden sets, small random models, and scripted draws."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bigr_features import BiGR, BinaryAutoencoder, GeneratorConfig, TokenizerConfig, VQAutoencoder, VQTokenizerConfig
from bigr_features.checkpoints import load_elm_generator, load_llamagen_generator

GOLDEN = Path(__file__).parent / "golden"
SYSTEMS = ("systems/llamagen_gpt", "systems/elm_ar", "systems/elm_ar_split", "systems/elm_mlm", "systems/elm_mlm_split")
SETS = ("gen_a", "gen_b", "ae", "systems/llamagen_vq", *SYSTEMS)

# What was put into the public code; everything else came out of it and is compared.
INPUTS = (
    "input.*",
    "image",
    "code_random",
    "indices_random",
    "quantizer.z",
    "corrupt.t",
    "corrupt.z0",
    "denoiser.cond",
    "denoiser.t",
    "denoiser.x",
    "reverse.p_flip",
    "reverse.t",
    "reverse.t_prev",
    "reverse.x_t",
    "sample.cond",
    "sample.*.u",
    "train.noise",
    "train.t",
    "train.codes",
    "train.labels",
    "train.u_class",
    "train.valid",
    "filter.logits",
    "bits.codes",
    "bits.indices_random",
    "softlabel.bits",
    "train.u",
    "gen.*.labels",
    "gen.*.labels2",
    "gen.*.inpaint_mask",
    "gen.*.gumbel",
    "gen.*.u",
    "gen.*.u_chain",
    "gen.*.u_reveal",
)


class GoldenSet:
    """One folder of recorded tensors: `golden[name]` reads one, `golden.check(name, ours)` compares within its tolerance."""

    def __init__(self, name: str):
        self.name = name
        self.folder = GOLDEN / name
        self.tensors = load_file(self.folder / "goldens.safetensors")
        self.noise = json.loads((self.folder / "noise.json").read_text())
        self.record = json.loads((self.folder / "config.json").read_text())
        self.checked: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def matching(self, patterns: Iterable[str]) -> set[str]:
        return {key for key in self.tensors for pattern in patterns if fnmatch.fnmatchcase(key, pattern)}

    def runs(self, kind: str) -> dict[str, dict]:
        """Settings of the recorded runs: "train_variants", "sample_runs" or "gen_runs"."""
        return self.record[kind]

    def check(self, name: str, ours: Tensor, where: Tensor | None = None) -> None:
        """The whole tensor, or what `where` selects, equals the recorded one: exactly, or within the recorded tolerance."""
        expected = self.tensors[name]
        ours = ours.detach()
        assert ours.shape == expected.shape, f"{name}: {tuple(ours.shape)} is not {tuple(expected.shape)}"
        if where is not None:
            assert where.any(), f"{name}: nothing to compare"
            ours, expected = ours[where], expected[where]
        tolerance = self.noise.get(name, {}).get("tolerance_abs", 4e-6) if expected.is_floating_point() else 0
        torch.testing.assert_close(ours.to(expected.dtype), expected, rtol=0, atol=tolerance, msg=lambda text: f"{name}: {text}")
        self.checked.add(name)

    @cached_property
    def config(self) -> GeneratorConfig | TokenizerConfig | VQTokenizerConfig:
        build = {"ae": tokenizer_config, "systems/llamagen_vq": vq_config, **dict.fromkeys(SYSTEMS, system_config)}
        build = build.get(self.name, generator_config)
        return build(self.record["config"])


def generator_config(values: dict, **changes) -> GeneratorConfig:
    """Our configuration of a generator that is described in the words of the public code."""
    names = {
        "binary_size": "code_dim",
        "n_layer": "depth",
        "dim": "width",
        "n_head": "num_heads",
        "num_classes": "num_classes",
        "cls_token_num": "num_cond_tokens",
        "use_adaLN": "adaln",
        "multiple_of": "ffn_multiple_of",
        "norm_eps": "norm_eps",
        "rope_base": "rope_base",
        "class_dropout_prob_for_table": "class_dropout",
        "token_dropout_p": "token_dropout",
        "resid_dropout_p": "residual_dropout",
        "ffn_dropout_p": "ffn_dropout",
        "denoise_hidden_dim": "denoiser_width",
        "num_block_mlp": "denoiser_depth",
        "n_sample_steps": "num_timesteps",
        "infer_steps": "num_denoise_steps",
    }
    fields = {ours: values[theirs] for theirs, ours in names.items()}
    return GeneratorConfig(**{**fields, "grid_size": round(values["block_size"] ** 0.5), **loss_settings(values), **changes})


def loss_settings(values: dict) -> dict:
    """Our loss fields of the public code's p_flip, focal, alpha and aux; -1 there is None here."""
    return {
        "predict_flip": values["p_flip"],
        "focal_gamma": None if values["focal"] < 0 else float(values["focal"]),
        "focal_alpha": None if values["alpha"] < 0 else float(values["alpha"]),
        "aux_weight": values["aux"],
    }


def tokenizer_config(values: dict) -> TokenizerConfig:
    """Our configuration of an autoencoder that is described in the words of the public code."""
    code_dim = values["code_bits"] if "code_bits" in values else values["codebook_size"]
    return TokenizerConfig(
        image_size=values["img_size"],
        in_chans=values.get("n_channels", 3),
        channels=values["nf"],
        channel_multipliers=tuple(values["ch_mult"]),
        num_res_blocks=values["res_blocks"],
        decoder_multiplier=values["gen_mul"],
        attention_resolutions=tuple(values["attn_resolutions"]),
        embed_dim=values["emb_dim"],
        code_dim=code_dim,
        norm_first=values["norm_first"],
    )


def vq_config(values: dict) -> VQTokenizerConfig:
    """Our configuration of a VQ tokenizer that is described in the words of the public code."""
    return VQTokenizerConfig(
        image_size=values["image_size"],
        channels=values["ch"],
        channel_multipliers=tuple(values["ch_mult"]),
        num_res_blocks=values["num_res_blocks"],
        embed_dim=values["z_channels"],
        codebook_size=values["codebook_size"],
        codebook_dim=values["codebook_embed_dim"],
        l2_norm=values["codebook_l2_norm"],
        commitment_weight=values["commit_loss_beta"],
        entropy_weight=values["entropy_loss_ratio"],
    )


def system_config(values: dict, **changes) -> GeneratorConfig:
    """Our configuration of a generator of LlamaGen or ELM that is described in the words of the public code."""
    names = {
        "n_layer": "depth",
        "dim": "width",
        "n_head": "num_heads",
        "num_classes": "num_classes",
        "cls_token_num": "num_cond_tokens",
        "multiple_of": "ffn_multiple_of",
        "norm_eps": "norm_eps",
        "rope_base": "rope_base",
        "token_dropout_p": "token_dropout",
        "resid_dropout_p": "residual_dropout",
        "ffn_dropout_p": "ffn_dropout",
    }
    fields = {ours: values[theirs] for theirs, ours in names.items()}
    if "vocab_size" in values:
        fields |= {"tokens": "index", "vocab_size": values["vocab_size"]}
    else:
        fields |= {"code_dim": values["code_dim"] * values["token_each"], "num_sub_codes": values["token_each"]}
    masked = "gen_iter" in values
    fields |= {"head": "mlm", "mask_levels": values["gen_iter"]} if masked else {"head": "linear", "causal": True}
    return GeneratorConfig(**{**fields, "grid_size": round(values["block_size"] ** 0.5), "adaln": False, "class_dropout": 0.1, **changes})


def load_system(name: str) -> BiGR:
    """The generator of a recorded set of `SYSTEMS`, in eval mode."""
    golden = GoldenSet(name)
    load = load_llamagen_generator if golden.config.tokens == "index" else load_elm_generator
    return load(golden.folder / golden.record["checkpoint_file"], golden.config).eval()


TINY = GeneratorConfig(
    code_dim=5,
    depth=3,
    width=32,
    num_heads=2,
    grid_size=3,
    num_classes=4,
    ffn_multiple_of=16,
    denoiser_width=24,
    denoiser_depth=1,
    num_timesteps=16,
    num_denoise_steps=4,
)
TINY_TOKENIZER = TokenizerConfig(
    image_size=16,
    channels=32,
    channel_multipliers=(1, 2),
    num_res_blocks=1,
    attention_resolutions=(8,),
    embed_dim=32,
    code_dim=5,
)
TINY_VQ = VQTokenizerConfig(
    image_size=16, channels=32, channel_multipliers=(1, 2), num_res_blocks=1, embed_dim=24, codebook_size=12, codebook_dim=4
)


def randomized(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with every weight redrawn, so that no zero of the initialisation hides an error; norm weights lie near 1."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=source)
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
            is_norm = "norm" in name and name.endswith("weight")
            parameter.copy_(1 + 0.1 * noise if is_norm else noise * 0.7 / fan_in**0.5)
    return model


def tiny_generator(seed: int = 0, **changes) -> BiGR:
    """A random generator of 3 blocks on 3 x 3 tokens of 5 bits, in eval mode."""
    return randomized(BiGR(TINY.replace(**changes)), seed).eval()


def tiny_tokenizer(seed: int = 0, **changes) -> BinaryAutoencoder:
    """A random tokenizer of 16 x 16 images to 8 x 8 tokens of 5 bits, in eval mode."""
    return randomized(BinaryAutoencoder(TINY_TOKENIZER.replace(**changes)), seed).eval()


def tiny_vq(seed: int = 0, **changes) -> VQAutoencoder:
    """A random VQ tokenizer of 16 x 16 images to 8 x 8 tokens of 12 codes, in eval mode."""
    return randomized(VQAutoencoder(TINY_VQ.replace(**changes)), seed).eval()


def random_codes(config: GeneratorConfig, batch: int = 2, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    if config.tokens == "index":
        return torch.randint(config.vocab_size, (batch, config.num_tokens), generator=source)
    return torch.randint(2, (batch, config.num_tokens, config.code_dim), generator=source).float()


# what makes TINY each of the five systems (and a factorised one of each order)
SYSTEM_CHANGES = {
    "llamagen": {"code_dim": None, "tokens": "index", "head": "linear", "vocab_size": 12, "causal": True, "adaln": False},
    "cat_ar": {"head": "linear", "causal": True, "adaln": False},
    "cat_ar_split": {"code_dim": 6, "head": "linear", "num_sub_codes": 2, "causal": True, "adaln": False},
    "cat_mask": {"head": "mlm", "adaln": False},
    "cat_mask_split": {"code_dim": 6, "head": "mlm", "num_sub_codes": 3, "adaln": False},
    "bin_ar": {"causal": True},
    "bigr": {},
}
CAUSAL = [name for name, changes in SYSTEM_CHANGES.items() if changes.get("causal")]
MASKED = [name for name in SYSTEM_CHANGES if name not in CAUSAL]


def tiny_system(name: str, seed: int = 0, **changes) -> BiGR:
    """A random generator of a compared system, as small as `tiny_generator`."""
    return tiny_generator(seed, **{**SYSTEM_CHANGES[name], **changes})


class Draws:
    """Stands in place of `torch.bernoulli` and keeps the probabilities it was asked about.

    Without uniforms a bit is 1 exactly when p > 0.5; with them, when the next uniform tensor lies below p.
    """

    def __init__(self, uniforms: Iterable[Tensor] | None = None):
        self.uniforms = None if uniforms is None else iter(uniforms)
        self.probabilities: list[Tensor] = []

    def __call__(self, probability: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        self.probabilities.append(probability.clone())
        threshold = 0.5 if self.uniforms is None else next(self.uniforms)
        return (probability > threshold).to(probability.dtype)


def recording(function: Callable) -> tuple[Callable, list[tuple[tuple, dict]]]:
    """The function, and a list that grows by the arguments of each call."""
    calls: list[tuple[tuple, dict]] = []

    def wrapper(*args, **kwargs):
        calls.append((args, kwargs))
        return function(*args, **kwargs)

    return wrapper, calls


def assert_same_weights(model: nn.Module, other: nn.Module) -> None:
    """Both have the same entries, equal to the last bit."""
    ours, expected = model.state_dict(), other.state_dict()
    assert ours.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(ours[key], value, rtol=0, atol=0, msg=lambda text, key=key: f"{key}: {text}")


# Two models of the timm entries: an official architecture made small (attention in the tokenizer, 2 condition tokens, 64 x 64
# images on a 4 x 4 grid), and bigr_nano as it is.
BACKBONES = {
    "tiny": (
        "bigr_l",
        {
            "img_size": 64,
            "channels": 32,
            "num_res_blocks": 1,
            "embed_dim": 32,
            "code_dim": 6,
            "depth": 6,
            "width": 48,
            "num_heads": 3,
            "ffn_multiple_of": 16,
            "num_cond_tokens": 2,
            "generator_num_classes": 7,
            "denoiser_width": 24,
            "denoiser_depth": 1,
            "num_timesteps": 16,
            "num_denoise_steps": 4,
        },
    ),
    "nano": ("bigr_nano", {}),
}


# The compared systems, as small; of each what `_nano` says, and fewer classes, so that one test is quick.
_SMALL = {"channels": 32, "num_res_blocks": 1, "embed_dim": 32, "depth": 4, "width": 48, "num_heads": 3, "generator_num_classes": 7}
SYSTEM_BACKBONES = {
    "llamagen": ("llamagen_nano", {**_SMALL, "codebook_size": 30, "channel_multipliers": (1, 1, 1)}),
    "cat_ar": ("bigr_nano_cat_ar", {**_SMALL, "code_dim": 6, "num_cond_tokens": 2}),
    "cat_mask": ("bigr_nano_cat_mask", {**_SMALL, "code_dim": 6}),
    "bin_ar": ("bigr_nano_bin_ar", {**_SMALL, "code_dim": 6, "denoiser_width": 24, "num_timesteps": 16, "num_denoise_steps": 4}),
    "t2i": (
        "bigr_nano_t2i",
        {name: value for name, value in _SMALL.items() if name != "generator_num_classes"}
        | {"code_dim": 6, "denoiser_width": 24, "num_timesteps": 16, "num_denoise_steps": 4},
    ),
}
ALL_BACKBONES = {**BACKBONES, **SYSTEM_BACKBONES}


def backbone(name: str, seed: int | None = 0, **changes) -> nn.Module:
    """A model of `ALL_BACKBONES` from `timm.create_model`, with random weights everywhere unless seed is None, in eval mode."""
    arch, fields = ALL_BACKBONES[name]
    model = timm.create_model(arch, **{**fields, **changes})
    return (model if seed is None else randomized(model, seed)).eval()


def pixels(model: nn.Module, batch: int = 2, seed: int = 0) -> Tensor:
    """Random images of the size, channels and range of pixels that a backbone takes."""
    images = torch.rand(batch, model.in_chans, model.img_size, model.img_size, generator=torch.Generator().manual_seed(seed))
    return model.tokenizer.normalize(images)
