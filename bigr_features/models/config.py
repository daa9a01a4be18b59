"""Every number that shapes a generator: a frozen dataclass, saved as JSON beside the weights."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

from ..functional.schedules import NOISE_SCHEDULES
from .config_fields import Config, check_positive
from .text_config import TextConfig
from .tokenizer_config import TokenizerConfig, VQTokenizerConfig

TOKENS = ("bits", "index")
HEADS = ("bernoulli", "linear", "mlm")
DEFAULT_CODE_DIM = 24
MAX_CLASSES = 2**16  # the largest joint softmax that was published


@dataclass(frozen=True)
class GeneratorConfig(Config):
    """Shape of the generator and of its training loss. The default is the official BiGR-L with 24 bits.

    Parameters
    ----------
    code_dim : int, optional
        K, bits a token; 24 by default. None for tokens that are indices.
    tokens : "bits" or "index"
        What the tokenizer gives: K bits a token (BinaryAutoencoder), or one index of a codebook (VQAutoencoder).
    head : "bernoulli", "linear" or "mlm"
        What turns an output of the trunk into a token: the Bernoulli transcoder on bits; a linear map to class logits (causal systems:
        LlamaGen, S0); linear, GELU, layer norm and product with the token table (masked systems: S1).
    vocab_size : int, optional
        V, classes of a categorical head. Of index tokens the size of the codebook; of bits 2 ** (code_dim / num_sub_codes), and need not
        be given.
    num_sub_codes : int
        S; with a categorical head the K bits are predicted as S classes of K / S bits each (ELM's 2-8, 2-10, 2-12).
    label_smoothing : float
        Label smoothing of the cross-entropy of a categorical head, in [0, 1).
    mask_levels : int, optional
        Mask ratios of training lie at cos(pi/2 * s / mask_levels), s uniform; N levels by default (BiGR), 10 in ELM.
    depth, width, num_heads : int
        Blocks, channels and attention heads of the trunk. width / num_heads must be a multiple of 4 (2-D rotary positions).
    grid_size : int
        G; N = G * G tokens.
    num_classes : int
        C. The class embedding has C + 1 rows, the last of them the null class. 0 of a generator with `text`.
    text : TextConfig, optional
        Captions as condition, in place of classes; the one row of the class embedding is the null caption then.
    num_cond_tokens : int
        Condition tokens before the image tokens.
    input_positions : bool
        Add a learned position to every token before the first block, as ViT does, besides the rotary positions. The released models do
        without: their tokens learn where they lie from their neighbours.
    visible_blocks : int
        Blocks at the start that see visible tokens only, as the encoders of MAE and MAGE do (arXiv:2111.06377, 2211.09117): less work in
        training, and features that have met no hidden tokens. Hidden tokens join in the block after. 0, BiGR's, for none.
    causal : bool
        Causal attention (autoregressive systems) instead of bidirectional.
    adaln : bool
        One modulation shared by all blocks, from the class embedding, plus an offset of each block's own.
    ffn_multiple_of : int
        The feed-forward width is 8/3 of the width, rounded up to a multiple of this.
    norm_eps, rope_base : float
    init_std : float
        Standard deviation of the linear weights of a new model, where they do not start at zero. 0.02, the official value, is made for a
        width of 1024; a narrow trunk starts too close to linear with it, and trains slowly.
    position_init_std : float
        The same of learned positions; 0.02 is the official value.
    gate_init : float
        Mean of the gates by which adaLN multiplies what a block adds, in a new model. 0, the official value, opens them over thousands of
        steps; short trainings gain from more.
    class_dropout, token_dropout, residual_dropout, ffn_dropout, drop_path : float
        Probabilities in training: label replaced by the null class (1.0: trained without labels); input tokens; attention output;
        feed-forward output; whole residual branches (linearly rising with depth).
    denoiser_width, denoiser_depth : int
        Channels (None: the width) and blocks of the transcoder's MLP.
    num_timesteps, num_denoise_steps : int
        T noise levels in training; how many of them sampling visits by default.
    noise_schedule : "linear", "cosine" or "sigmoid"
    predict_flip : bool
        The transcoder predicts z_t xor z_0 (True) or z_0 (False).
    focal_gamma, focal_alpha : float or None
        See `bernoulli.bit_loss`. (0.0, None) is the paper's wBCE, (None, None) the plain BCE.
    aux_weight : float
        Weight of the variational-bound term.
    """

    code_dim: int | None = None
    tokens: str = "bits"
    head: str = "bernoulli"
    vocab_size: int | None = None
    num_sub_codes: int = 1
    label_smoothing: float = 0.0
    mask_levels: int | None = None
    depth: int = 24
    width: int = 1024
    num_heads: int = 16
    grid_size: int = 16
    num_classes: int = 1000
    text: TextConfig | None = None
    num_cond_tokens: int = 1
    input_positions: bool = False
    visible_blocks: int = 0
    causal: bool = False
    adaln: bool = True
    ffn_multiple_of: int = 256
    norm_eps: float = 1e-5
    rope_base: float = 10000.0
    init_std: float = 0.02
    position_init_std: float = 0.02
    gate_init: float = 0.0
    class_dropout: float = 0.1
    token_dropout: float = 0.0
    residual_dropout: float = 0.1
    ffn_dropout: float = 0.1
    drop_path: float = 0.0
    denoiser_width: int | None = None
    denoiser_depth: int = 3
    num_timesteps: int = 256
    num_denoise_steps: int = 100
    noise_schedule: str = "linear"
    predict_flip: bool = True
    focal_gamma: float | None = field(default=0.0)
    focal_alpha: float | None = None
    aux_weight: float = 0.0

    def __post_init__(self):
        if self.denoiser_width is None:
            object.__setattr__(self, "denoiser_width", self.width)
        self._check_condition()
        for name in ("depth", "width", "num_heads", "grid_size", "num_timesteps"):
            check_positive(self, name)
        self._check_tokens()
        self._check_head()
        for name in ("denoiser_width", "denoiser_depth", "ffn_multiple_of"):
            check_positive(self, name)
        if self.width % self.num_heads or (self.width // self.num_heads) % 4:
            raise ValueError(
                f"width={self.width} with num_heads={self.num_heads} gives heads of {self.width / self.num_heads:g} channels; "
                "2-D rotary positions need a multiple of 4."
            )
        if not 1 <= self.num_denoise_steps <= self.num_timesteps:
            raise ValueError(f"num_denoise_steps={self.num_denoise_steps}, but it must lie in 1..{self.num_timesteps} (num_timesteps).")
        if self.noise_schedule not in NOISE_SCHEDULES:
            raise ValueError(f"noise_schedule={self.noise_schedule!r}; choose one of {', '.join(NOISE_SCHEDULES)}.")
        if self.focal_gamma is not None and not self.focal_gamma >= 0:
            raise ValueError(f"focal_gamma={self.focal_gamma}; expected 0 or more, or None for the plain BCE (-1 in official settings).")
        if self.focal_alpha is not None and not 0 <= self.focal_alpha <= 1:
            raise ValueError(
                f"focal_alpha={self.focal_alpha}; expected 0..1, or None for the balance of the wBCE (-1 in official settings)."
            )
        for name in ("init_std", "position_init_std"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}; expected a positive number.")
        if not math.isfinite(self.gate_init):
            raise ValueError(f"gate_init={self.gate_init}; expected a finite number.")
        if not self.aux_weight >= 0:
            raise ValueError(f"aux_weight={self.aux_weight}; expected 0 or more.")
        if not 0 <= self.class_dropout <= 1:
            raise ValueError(f"class_dropout={self.class_dropout}, but a probability in [0, 1] is expected.")
        for name in ("token_dropout", "residual_dropout", "ffn_dropout", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}, but a probability in [0, 1) is expected.")

    def _check_condition(self) -> None:
        """Classes or captions."""
        check_positive(self, "num_cond_tokens")
        if self.text is None:
            check_positive(self, "num_classes")
            return
        if isinstance(self.text, dict):  # as JSON has it
            object.__setattr__(self, "text", TextConfig.from_dict(self.text))
        object.__setattr__(self, "num_classes", 0)
        if self.causal:
            raise ValueError("text conditions masked generators, but causal=True was given; take bigr_*, or *_cat_mask.")
        if self.num_cond_tokens != 1:
            raise ValueError(f"num_cond_tokens={self.num_cond_tokens} are of a class; captions have text.length={self.text.length}.")

    def _check_tokens(self) -> None:
        """What a token is, and how many classes a categorical head has."""
        if self.tokens not in TOKENS:
            raise ValueError(f"tokens={self.tokens!r}; choose one of {', '.join(TOKENS)}.")
        if self.tokens == "index":
            if self.code_dim is not None:
                raise ValueError(f"code_dim={self.code_dim} counts bits, but tokens='index' has none; leave it out, and give vocab_size.")
            check_positive(self, "vocab_size")
            if self.num_sub_codes != 1:
                raise ValueError(f"num_sub_codes={self.num_sub_codes} cuts bits into parts, but tokens='index' has none; leave it at 1.")
            assert self.vocab_size is not None
            _one_softmax(self.vocab_size, "vocab_size", "train a tokenizer with a smaller codebook, or one on bits with num_sub_codes")
            return
        if self.code_dim is None:
            object.__setattr__(self, "code_dim", DEFAULT_CODE_DIM)
        for name in ("code_dim", "num_sub_codes"):
            check_positive(self, name)
        if self.head == "bernoulli":
            if self.num_sub_codes != 1 or self.vocab_size is not None:
                raise ValueError(
                    f"num_sub_codes={self.num_sub_codes} and vocab_size={self.vocab_size} belong to a categorical head, but "
                    "head='bernoulli' draws bits; leave them out, or give head='linear' or 'mlm'."
                )
            return
        assert self.code_dim is not None
        if self.code_dim % self.num_sub_codes:
            raise ValueError(f"code_dim={self.code_dim} bits cannot be cut into num_sub_codes={self.num_sub_codes} equal parts.")
        parts = [count for count in range(1, self.code_dim + 1) if self.code_dim % count == 0 and self.code_dim // count <= 12]
        remedy = f"cut them into num_sub_codes={parts[0]} parts of {self.code_dim // parts[0]} bits"
        bits = self.code_dim // self.num_sub_codes
        _one_softmax(2**bits, f"code_dim={self.code_dim} with num_sub_codes={self.num_sub_codes}", remedy)
        if self.vocab_size not in (None, 2**bits):
            raise ValueError(f"vocab_size={self.vocab_size}, but {bits} bits make {2**bits} classes; leave vocab_size out.")
        object.__setattr__(self, "vocab_size", 2**bits)

    def _check_head(self) -> None:
        """Which heads go with which tokens and which order."""
        if self.head not in HEADS:
            raise ValueError(f"head={self.head!r}; choose one of {', '.join(HEADS)}.")
        if self.head == "bernoulli" and self.tokens == "index":
            raise ValueError("head='bernoulli' draws bits, but tokens='index' has none; give head='linear' (causal) or 'mlm' (masked).")
        if self.head == "linear" and not self.causal:
            raise ValueError("head='linear' predicts the next token and needs causal=True; a masked generator takes head='mlm'.")
        if self.head == "mlm" and self.causal:
            raise ValueError("head='mlm' predicts hidden tokens and needs causal=False; a causal generator takes head='linear'.")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing={self.label_smoothing}; expected a number in [0, 1).")
        if self.label_smoothing and self.head == "bernoulli":
            raise ValueError(f"label_smoothing={self.label_smoothing} is of a cross-entropy over classes; head='bernoulli' has none.")
        if self.mask_levels is not None:
            check_positive(self, "mask_levels")
            if self.causal:
                raise ValueError(f"mask_levels={self.mask_levels}, but a causal generator hides nothing; leave it out.")
        if not 0 <= self.visible_blocks < self.depth:
            raise ValueError(
                f"visible_blocks={self.visible_blocks}; expected 0 to depth - 1 = {self.depth - 1}: hidden tokens need a block."
            )
        if self.visible_blocks and self.causal:
            raise ValueError(f"visible_blocks={self.visible_blocks}, but a causal generator hides nothing; leave it out.")

    def without_derived(self) -> GeneratorConfig:
        """A copy in which vocab_size is None where it follows from the bits, and num_classes the default where there are none."""
        copied = copy.copy(self)
        if self.tokens == "bits":
            object.__setattr__(copied, "vocab_size", None)
        if self.text is not None:
            object.__setattr__(copied, "num_classes", GeneratorConfig.num_classes)
        return copied

    @property
    def categorical(self) -> bool:
        """Whether the head predicts classes (and not bits)."""
        return self.head != "bernoulli"

    @property
    def positions_per_token(self) -> int:
        """Positions that a token takes in the sequence: S in a masked categorical model, whose sub-codes stand side by side, else 1."""
        return 1 if self.causal else self.num_sub_codes

    @property
    def num_prefix_slots(self) -> int:
        """Positions in front of the image tokens for which the rotary table has rows."""
        return (self.num_cond_tokens if self.text is None else self.text.length) * self.positions_per_token

    @property
    def num_tokens(self) -> int:
        """N."""
        return self.grid_size * self.grid_size

    @property
    def null_class(self) -> int:
        """Index that means "no condition"."""
        return self.num_classes

    @property
    def unconditional(self) -> bool:
        """Whether training never shows a label, so that only the null class means something."""
        return self.class_dropout == 1

    @property
    def middle_layer(self) -> int:
        """0-based index of the middle block, whose outputs are the features unless another is named."""
        return max(self.depth // 2 - 1, 0)

    @property
    def ffn_width(self) -> int:
        """Hidden channels of the feed-forward."""
        return -(-(8 * self.width // 3) // self.ffn_multiple_of) * self.ffn_multiple_of


def check_same_codes(tokenizer: TokenizerConfig | VQTokenizerConfig, generator: GeneratorConfig) -> None:
    """Raise ValueError unless the generator takes the codes that the tokenizer gives."""
    binary = tokenizer if isinstance(tokenizer, TokenizerConfig) else None
    bits = binary is not None
    if bits != (generator.tokens == "bits"):
        given, taken = ("bits", "one index a token") if bits else ("one index a token", "bits")
        raise ValueError(
            f"the tokenizer gives {given}, but the generator has tokens={generator.tokens!r} and takes {taken}; "
            f"give a {'VQ' if bits else 'binary'} tokenizer, or a generator with tokens={'bits' if bits else 'index'!r}."
        )
    if binary is not None and binary.code_dim != generator.code_dim:
        raise ValueError(f"the tokenizer has code_dim={binary.code_dim}, the generator {generator.code_dim}; they must agree.")
    if isinstance(tokenizer, VQTokenizerConfig) and tokenizer.codebook_size != generator.vocab_size:
        raise ValueError(
            f"the tokenizer has codebook_size={tokenizer.codebook_size}, the generator vocab_size={generator.vocab_size}; they must agree."
        )


def _one_softmax(classes: int, given: str, remedy: str) -> None:
    if classes > MAX_CLASSES:
        raise ValueError(
            f"{given} asks for one softmax over {classes:,} classes; its tables and logits do not fit into memory beyond {MAX_CLASSES:,} "
            f"(16 bits): {remedy}."
        )
