"""BiGR as a timm model: pixels to the residual stream after a middle block, and the whole generator beside it.

B batch, H x W pixels, N = G * G tokens, K bits, D width
"""

# No `from __future__ import annotations`: torch.fx writes annotations into its graphs, where TorchScript cannot read strings.

import torch
from timm.models.vision_transformer import global_pool_nlc
from torch import Tensor, nn

from ..data.pixels import OUTPUTS, as_output
from ..functional.checks import check_image_batch
from ..functional.inference import in_chunks
from ..functional.positions import resample_positions
from ..models.autoencoder import BinaryAutoencoder
from ..models.config import GeneratorConfig, check_same_codes
from ..models.generator import BiGR
from ..models.heads import CategoricalLossTerms
from ..models.token_transformer import resolve_layers
from ..models.tokenizer_config import TokenizerConfig, VQTokenizerConfig
from ..models.transcoder import LossTerms
from ..models.transformer import Trunk
from ..models.vq_autoencoder import VQAutoencoder
from ..sampling.start import runs_one_by_one

torch.fx.wrap("check_image_batch")

LEARNED_POSITIONS = ("position_embedding", "input_position_embedding")
POOLS = ("avg", "max", "avgmax", "")
FEATURE_TOKENS = ("image", "shifted")
TOKENIZERS = {TokenizerConfig: BinaryAutoencoder, VQTokenizerConfig: VQAutoencoder}
# what only generates: no part of the path from pixels to features
GENERATIVE_PREFIXES = (
    "tokenizer.decoder.",
    "tokenizer.quantizer.embedding",
    "tokenizer.from_latent.",
    "generator.transcoder.",
    "generator.output.",
    "generator.text.",
    "generator.position_embedding",
    "generator.embedding.mask_embedding",
    "generator.trunk.norm.",
)


class BiGRBackbone(nn.Module):
    """The full generator, BiGR or a system it is compared with, with the promises of a timm model.

    Features are the image tokens of the residual stream after block `feature_layer`, averaged: bits thresholded at 0.5, nothing hidden,
    the null class as condition, no final norm (BiGR, Fig. 2; the authors' code). A causal trunk is fed all tokens of the image too. The
    path is deterministic and traceable; it is differentiable straight through bits that are embedded linearly, while through indices no
    gradient passes to the tokenizer.

    Parameters
    ----------
    tokenizer, generator : TokenizerConfig or VQTokenizerConfig, GeneratorConfig
    img_size : int or (int, int), optional
        Side of the images in pixels, a multiple of the tokenizer's downsampling; the tokenizer's own by default.
    in_chans : int
        Image channels, in and out.
    num_classes : int
        Classes of the classifier; 0 leaves pooled features. (The generator's own classes are generator.num_classes.)
    global_pool : "avg", "max", "avgmax" or ""
    feature_layer : int, optional
        0-based block whose output is used, negative from the end. By default the one that pretrained weights name, because it was chosen
        for them on held-out training images, else depth // 2 - 1, the middle.
    generative : bool
        False leaves out decoder, transcoder, blocks after feature_layer, and whatever else only generates.
    drop_rate : float
        Dropout before the classifier.
    feature_tokens : "image" or "shifted"
        Of a causal generator: all image tokens, or what training feeds, the class and all tokens but the last, with the class position
        among the N that are averaged (GigaTok).

    Attributes
    ----------
    tokenizer : BinaryAutoencoder or VQAutoencoder
    generator : BiGR
    feature_layer, num_features, embed_dim, head_hidden_size, num_classes, in_chans, global_pool, feature_info : as in timm
    """

    output_fmt = "NLC"

    def __init__(
        self,
        tokenizer: TokenizerConfig | VQTokenizerConfig,
        generator: GeneratorConfig,
        *,
        img_size: int | tuple[int, int] | None = None,
        in_chans: int = 3,
        num_classes: int = 0,
        global_pool: str = "avg",
        feature_layer: int | None = None,
        generative: bool = True,
        drop_rate: float = 0.0,
        feature_tokens: str = "image",
        device=None,
        dtype=None,
    ):
        super().__init__()
        check_same_codes(tokenizer, generator)
        if feature_tokens not in FEATURE_TOKENS:
            raise ValueError(f"feature_tokens={feature_tokens!r}; choose one of {', '.join(FEATURE_TOKENS)}.")
        if feature_tokens == "shifted" and not generator.causal:
            raise ValueError("feature_tokens='shifted' feeds what a causal generator is trained on, but this one is masked; leave it out.")
        dd = {"device": device, "dtype": dtype}
        layer = generator.middle_layer if feature_layer is None else resolve_layers(feature_layer, generator.depth)[0]
        if not generative:
            generator = generator.replace(depth=layer + 1)
        self.tokenizer = TOKENIZERS[type(tokenizer)](tokenizer.replace(in_chans=in_chans), **dd)
        self.generator = BiGR(generator, **dd)
        self.grad_checkpointing = False
        self.in_chans = in_chans
        self.feature_layer = layer
        self.feature_tokens = feature_tokens
        self.shifted = feature_tokens == "shifted"
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = self.embed_dim = generator.width
        self.num_prefix_tokens = self.num_reg_tokens = 0
        self.has_class_token = False
        self.global_pool = _known_pool(global_pool)
        self.fc_norm = nn.Identity()
        self.head_drop = nn.Dropout(drop_rate)
        self.head = _classifier(self.num_features, num_classes, **dd)
        self._describe_features()
        self.set_input_size(tokenizer.image_size if img_size is None else img_size)
        if not generative:
            self._drop_generative_parts(layer + 1)
        self.register_load_state_dict_pre_hook(_adapt_before_load)

    # ------------------------------------------------------------------------------------------------------------ features

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features (B, D), or logits (B, num_classes), of images (B, C, H, W) in the tokenizer's range of pixels."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Image tokens (B, N, D) after block `feature_layer`; shapes and dtype of x are checked, values are not."""
        x = check_image_batch(x, self.in_chans, self.img_size, self.img_size)
        return self.generator.features(self.tokenizer.look_up(x), self.feature_layer, self.shifted)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool tokens (B, N, D), then dropout and classifier; `pre_logits` stops before the classifier."""
        if self.global_pool != "":
            x = global_pool_nlc(x, pool_type=self.global_pool, num_prefix_tokens=0)
        x = self.head_drop(self.fc_norm(x))
        return x if pre_logits else self.head(x)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
        output_dict: bool = False,
    ):
        """Tokens after several blocks in one pass, as timm models give them.

        Parameters
        ----------
        x : Tensor (B, C, H, W)
        indices : int, list of int or None
            The last n blocks, chosen blocks (negative from the end), or all.
        return_prefix_tokens : bool
            Pair each intermediate with the condition tokens (B, c, D).
        norm : bool
            Apply the generator's final norm to the intermediates.
        stop_early : bool
            Do not run past the last chosen block; the final features are then those of that block if `feature_layer` lies beyond it.
        output_fmt : "NCHW" or "NLC"
        intermediates_only, output_dict : bool
            Return the list alone, or a dictionary with image_features, image_intermediates and image_intermediates_prefix.

        Returns
        -------
        (final, list), list, or dict
            `final` (B, N, D) equals `forward_features(x)`.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise ValueError(f"output_fmt={output_fmt!r}; choose NCHW or NLC.")
        x = check_image_batch(x, self.in_chans, self.img_size, self.img_size)
        wanted = self._take_indices(indices)
        final = min(self.feature_layer, max(wanted)) if stop_early else self.feature_layer
        layers = wanted if intermediates_only else [*wanted, final]
        streams = self.generator.hidden_states(self.tokenizer.look_up(x), layers=layers, return_prefix=True, shifted=self.shifted)
        cond = self.generator.num_prefix - int(self.shifted)
        intermediates = streams[: len(wanted)]
        if norm:
            intermediates = [self.generator.trunk.norm(stream) for stream in intermediates]
        prefixes = [stream[:, :cond] for stream in intermediates]
        intermediates = [stream[:, cond:] for stream in intermediates]
        if output_fmt == "NCHW":
            side = self.generator.config.grid_size
            intermediates = [tokens.unflatten(1, (side * side, -1)).mean(2) for tokens in intermediates]  # of sub-codes side by side
            intermediates = [tokens.transpose(1, 2).unflatten(2, (side, side)).contiguous() for tokens in intermediates]
        if output_dict:
            result = {"image_intermediates": intermediates}
            if return_prefix_tokens:
                result["image_intermediates_prefix"] = prefixes
            if not intermediates_only:
                result["image_features"] = streams[-1][:, cond:]
            return result
        if return_prefix_tokens:
            intermediates = list(zip(intermediates, prefixes, strict=True))
        return intermediates if intermediates_only else (streams[-1][:, cond:], intermediates)

    def prune_intermediate_layers(
        self, indices: int | list[int] | None = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop blocks after the last chosen one and everything that only generates; returns the chosen indices, 0-based."""
        wanted = self._take_indices(indices)
        self._drop_generative_parts(max(wanted) + 1, keep_norm=not prune_norm)
        if prune_head:
            self.reset_classifier(0, "")
        return wanted

    def _take_indices(self, indices: int | list[int] | tuple[int, ...] | None) -> list[int]:
        depth = len(self.generator.trunk.blocks)
        if isinstance(indices, int):
            if not 1 <= indices <= depth:
                raise ValueError(f"indices={indices} asks for the last {indices} blocks, but the model has {depth}; give 1..{depth}.")
            return list(range(depth - indices, depth))
        return resolve_layers(indices, depth)

    def _drop_generative_parts(self, keep_blocks: int, keep_norm: bool = False) -> None:
        self.tokenizer.drop_decoder()
        self.generator.drop_generative_parts(keep_blocks, keep_norm)
        self.feature_layer = min(self.feature_layer, keep_blocks - 1)
        self._describe_features()

    def _describe_features(self) -> None:
        reduction = self.tokenizer.config.downsampling
        self.feature_info = [
            {"module": f"generator.trunk.blocks.{i}", "num_chs": self.num_features, "reduction": reduction}
            for i in range(len(self.generator.trunk.blocks))
        ]

    # ---------------------------------------------------------------------------------------------------------- generation

    def encode(self, images: Tensor, **draws) -> Tensor:
        """Codes (B, N, K) or indices (B, N) of images in the tokenizer's range; see its `encode`, which checks pixel values."""
        return self.tokenizer.encode(images, **draws)

    def decode(self, codes: Tensor) -> Tensor:
        """Images (B, C, H, W) of codes in the tokenizer's range, not clamped; see its `decode`."""
        return self.tokenizer.decode(codes)

    def loss(self, images_or_codes: Tensor, labels: Tensor | None = None, **draws) -> LossTerms | CategoricalLossTerms:
        """The generative training loss; see `BiGR.loss`. Images (four dimensions) are encoded first, without gradient to the tokenizer."""
        codes = images_or_codes
        if images_or_codes.dim() == 4:
            with torch.no_grad():
                codes = self.encode(images_or_codes)
        return self.generator.loss(codes, labels, **draws)

    @torch.no_grad()
    def generate(self, labels: Tensor | None = None, *, output: str = "tensor", decode_batch: int | None = None, **settings):
        """New images for labels (B,), for prompts (`text`), or without condition for a batch_size of them.

        Parameters
        ----------
        labels : Tensor (B,) int64, or None
            Classes; a model of captions takes `text` in their place: a prompt an image, or a single str for all.
        output : "tensor", "uint8" or "pil"
            Tensor (B, C, H, W) in [0, 1], uint8 array (B, H, W, C), or a list of PIL images.
        decode_batch : int, optional
            Images decoded at a time, to bound memory; 64 by default, and 1 where seeded images run one by one (`batch_invariant`).
        **settings
            As in `BiGR.generate`: preset, text, negative_text, seeds or generator, guidance_scale, num_reveal_steps (masked), top_k, ...
        """
        if output not in OUTPUTS:
            raise ValueError(f"output={output!r}; choose one of {', '.join(OUTPUTS)}.")
        codes = self.generator.generate(labels, **settings)
        alone = settings.get("seeds") is not None and runs_one_by_one(settings.get("batch_invariant"), codes.device)
        images = in_chunks(self.decode, codes, decode_batch if decode_batch is not None else 1 if alone else 64)
        return as_output(self.tokenizer.denormalize(images).clamp(0, 1), output)

    # ------------------------------------------------------------------------------------------------- what timm asks for

    def get_classifier(self) -> nn.Module:
        """The classifier, or an identity."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """New classifier (0: none) on the device, dtype and mode of the model; `global_pool=None` keeps the pooling."""
        if global_pool is not None:
            self.global_pool = _known_pool(global_pool)
        weight = self.generator.class_embedding.weight
        self.num_classes = num_classes
        self.head = _classifier(self.num_features, num_classes, device=weight.device, dtype=weight.dtype).train(self.training)
        self._record(num_classes=num_classes, **({} if global_pool is None else {"global_pool": global_pool}))

    def set_input_size(self, img_size: int | tuple[int, int], patch_size: int | None = None) -> None:
        """Take square images of another size, a multiple of the tokenizer's downsampling.

        Rotary positions are recomputed for the new grid, learned positions resampled bicubically.
        """
        if patch_size not in (None, self.tokenizer.config.downsampling):
            raise ValueError(f"patch_size={patch_size}, but a token always covers {self.tokenizer.config.downsampling} pixels a side.")
        height, width = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        if height != width:
            raise ValueError(f"img_size={(height, width)}; only square images are supported.")
        self.tokenizer.set_image_size(height)
        self.img_size = height
        generator, side = self.generator, self.tokenizer.grid_size
        if side == generator.config.grid_size:
            return
        generator.config = generator.config.replace(grid_size=side)
        weight = generator.class_embedding.weight
        generator.trunk.rope = Trunk.rope_of(generator.config, device=weight.device, dtype=weight.dtype)
        for name in LEARNED_POSITIONS:
            positions = getattr(generator, name)
            if positions is not None:
                resampled = resample_positions(positions.detach(), side)
                setattr(generator, name, nn.Parameter(resampled, requires_grad=positions.requires_grad))
        self._traits = dict(getattr(self, "_traits", {}), img_size=(height, width))
        self._record(img_size=height)

    def _record(self, **args) -> None:
        """Remember a change made after construction, so that timm's save_for_hf rebuilds the model as it is."""
        self._model_args = dict(getattr(self, "_model_args", {}), **args)

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute block activations in the backward pass instead of keeping them."""
        self.grad_checkpointing = enable
        self.generator.trunk.grad_checkpointing = enable

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict:
        """Patterns for layer-wise learning rates: a stem and the blocks."""
        return {
            "stem": r"^tokenizer|^generator\.(?:embedding|text|input_position_embedding|class_embedding|trunk\.modulation)",
            "blocks": [
                (r"^generator\.trunk\.blocks\.(\d+)", None),
                (r"^generator\.(?:trunk\.norm|position_embedding|transcoder|output)", (99999,)),
            ],
        }

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Everything in the denoiser, as in the official training; one-dimensional parameters are left out by timm anyway."""
        return {name for name, _ in self.named_parameters() if name.startswith("generator.transcoder.")}


def drop_generative_entries(state: dict[str, Tensor], model: BiGRBackbone) -> dict[str, Tensor]:
    """The state dict without what only generates, if the model was built or pruned without it."""
    own = model.state_dict().keys()
    depth = len(model.generator.trunk.blocks)

    def superfluous(key: str) -> bool:
        if key in own:
            return False
        block = key.removeprefix("generator.trunk.blocks.").split(".")[0]
        return key.startswith(GENERATIVE_PREFIXES) or (key.startswith("generator.trunk.blocks.") and int(block) >= depth)

    return state if model.generator.generative else {key: value for key, value in state.items() if not superfluous(key)}


def _adapt_before_load(model: BiGRBackbone, state: dict[str, Tensor], prefix: str, *_) -> None:
    """A full checkpoint loads into a feature extractor; an official file is named for what it is."""
    if prefix:
        return
    if "diffusion_pos_embed_learned" in state or any(key.startswith("ae.") for key in state):
        raise ValueError(
            "these are official weights (one of the two files of a model), not a whole model; load them with "
            "pretrained=True, pretrained_cfg_overlay=dict(file='<generator .pt>'), or bigr_features.checkpoints.load_official_generator."
        )
    kept = drop_generative_entries(state, model)
    for key in [key for key in state if key not in kept]:
        del state[key]


def _known_pool(global_pool: str) -> str:
    if global_pool not in POOLS:
        raise ValueError(f"global_pool={global_pool!r}; choose one of {', '.join(map(repr, POOLS))}.")
    return global_pool


def _classifier(features: int, num_classes: int, device=None, dtype=None) -> nn.Module:
    if num_classes == 0:
        return nn.Identity()
    head = nn.Linear(features, num_classes, device=device, dtype=dtype)
    nn.init.trunc_normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head
