"""Settings of the training commands: of all of them, and of each. They load no torch, so that `bigr train --help` is quick."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ..models.config import GeneratorConfig
from ..models.presets import GENERATORS, TOKENIZERS
from ..models.tokenizer_config import TokenizerConfig, VQTokenizerConfig


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How a training runs, whatever it trains. The defaults are those of a tokenizer; a generator has some of its own.

    Parameters
    ----------
    steps : int
        Optimiser steps.
    batch_size : int
        Images per optimiser step, over all processes.
    learning_rate : float
        Step size of AdamW, after the warm-up.
    weight_decay : float
        Weight decay of AdamW; one-dimensional parameters, biases and a generator's denoiser have none.
    warmup_steps : int
        Steps over which the learning rate rises.
    schedule : str
        constant or cosine (down to 0 at the last step), after the warm-up.
    ema_decay : float
        Decay per step of the averaged weights (EMA), which are validated, sampled from and saved.
    validate_every : int
        Steps between validations.
    checkpoint_every : int
        Steps between checkpoints.
    micro_batches : int
        Parts in which each process runs its share of a batch (gradient accumulation).
    max_grad_norm : float
        Norm to which gradients are clipped.
    ema_warmup : bool
        Average over few steps at first (EMA warm-up).
    validation : int, optional
        Number of images of the training split held out for validation; by default a tenth of them, at most 2,000.
    log_every : int
        Steps between lines of the log.
    keep_last : int
        Newest checkpoints that stay, besides the best.
    keep_steps : tuple of int
        Steps whose checkpoints stay for good.
    precision : str
        fp32, bf16 (autocast; weights stay float32), or auto: what is faster here, measured; a resumed run keeps what it was begun with.
    compile : bool
        Use torch.compile.
    tf32 : bool
        On CUDA, multiply float32 matrices in TensorFloat-32: faster, with 10 bits of mantissa.
    trackers : tuple of str
        Where metrics and settings go besides log.jsonl: names that accelerate knows (tensorboard, wandb, ...).
    project : str
        What trackers file the run under.
    device : str
        auto (an accelerator if there is one) or cpu.
    threads : int
        CPU threads per process; 0 for torch's default.
    num_workers : int
        Processes that decode images, for sets too large for memory.
    seed : int
        Seed of the first weights, the order of the images and all draws.
    resume : bool
        Continue the run in `out`, if there is one.
    config : Path, optional
        Settings to start from: a run folder or its config.json.
    """

    steps: int = 8_000
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 200
    schedule: Literal["constant", "cosine"] = "cosine"
    ema_decay: float = 0.999
    validate_every: int = 500
    checkpoint_every: int = 500
    micro_batches: int = 1
    max_grad_norm: float = 1.0
    ema_warmup: bool = True
    validation: int | None = None
    log_every: int = 50
    keep_last: int = 2
    keep_steps: tuple[int, ...] = ()
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    tf32: bool = False
    trackers: tuple[str, ...] = ("tensorboard",)
    project: str = "bigr_features"
    device: str = "auto"
    threads: int = 0
    num_workers: int = 0
    seed: int = 0
    resume: bool = False
    config: Path | None = None


FREE = (
    "config", "resume", "validate_every", "log_every", "checkpoint_every", "keep_last", "keep_steps", "trackers", "project", "device",
    "threads", "num_workers",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainTokenizerConfig(RunSettings):
    """Train a tokenizer (binary or VQ autoencoder) on images.

    Besides these it has the settings of `RunSettings`.

    Parameters
    ----------
    source : str
        Images: "sample:fashion_mnist", a folder or file of parquet, arrow or images, or the id of a data set on the Hub.
    out : Path
        Run folder.
    split : str
        Split of the source to train on. Validation images are held out of it.
    limit : int, optional
        Number of images to take, drawn by class, the same ones in every command; by default all.
    labels : bool
        Take labels from class folders or columns; with --no-labels there are none, and images beside class folders count too.
    preset : str
        Kind and size to start from: the binary tokenizer of bigr_nano, bigr_l, ..., the VQ tokenizer of llamagen_nano or llamagen_l.
        --model.* changes single numbers. Steps, batch and rate follow it: for nano sizes those below, for others the published ones.
    model : TokenizerConfig or VQTokenizerConfig
        Shape of the tokenizer; it says which kind it is.
    l1_weight : float
        Weight of the mean absolute error in the loss, of pixels in [0, 1].
    l2_weight : float
        Weight of the mean squared error in the loss, of pixels in [0, 1]. LlamaGen's tokenizer has l1_weight 0 and l2_weight 4, which is 1
        for its pixels in [-1, 1].
    entropy_weight : float
        Binary tokenizer: weight of 1 minus the entropy (in bits) of each bit's mean over the batch, which keeps bits in use; 0 for none.
    commitment_weight : float
        Binary tokenizer: weight of p (1 - p), p the probability of a bit, which pulls probabilities to 0 and 1; 0 for none.
    codebook_weight : float
        VQ tokenizer: weight of the distance that pulls codes towards latents. Those of commitment and entropy belong to the model.
    dead_after : int
        VQ tokenizer: batches without a choice of a code after which it is dead. The log says how many are used, and warns of dead ones.
    reseed_dead_codes : bool
        VQ tokenizer: every `dead_after` steps, move dead codes onto latents of the batch.
    perceptual : str
        off, vgg16 (torchvision's weights where torch.hub keeps them) or the path of those weights.
    perceptual_weight : float
        Weight of the perceptual distance in the loss; has no effect without --perceptual.
    adversarial_weight : float
        Weight of the hinge PatchGAN term, which is multiplied by the adaptive weight of VQGAN; 0 for none.
    adversarial_start : int
        First step with that term; the discriminator trains from there too.
    discriminator_width : int
        Channels of the discriminator's first layer.
    discriminator_depth : int
        Halvings of the resolution in the discriminator.
    discriminator_learning_rate : float
        Step size of the discriminator's AdamW.
    flip : bool
        Mirror half of the images.
    """

    former_names = {"usage_weight": "entropy_weight", "indecision_weight": "commitment_weight"}  # noqa: RUF012  (no setting)

    source: str
    out: Path
    split: str = "train"
    limit: int | None = None
    labels: bool = True
    preset: str = "bigr_nano"
    model: TokenizerConfig | VQTokenizerConfig = field(default_factory=lambda: TOKENIZERS["bigr_nano"])
    steps: int = 3_500
    batch_size: int = 32
    learning_rate: float = 2e-3
    l1_weight: float = 1.0
    l2_weight: float = 2.0
    entropy_weight: float = 0.0
    commitment_weight: float = 0.0
    codebook_weight: float = 1.0
    dead_after: int = 100
    reseed_dead_codes: bool = False
    perceptual: str = "off"
    perceptual_weight: float = 1.0
    adversarial_weight: float = 0.0
    adversarial_start: int = 20_000
    discriminator_width: int = 64
    discriminator_depth: int = 3
    discriminator_learning_rate: float = 1e-4
    flip: bool = True


@dataclass(frozen=True)
class EncodeConfig:
    """Turn a set of images into a cache of codes for `bigr train`. An interrupted run continues where it stopped.

    Several processes (torchrun, or RANK and WORLD_SIZE set by hand) share the shards and nothing else; the last one finishes the cache.

    Parameters
    ----------
    tokenizer : Path
        Folder of the tokenizer: `model` in the run folder of train-tokenizer.
    source : str
        Images: "sample:fashion_mnist", a folder or file of parquet, arrow or images, or the id of a data set on the Hub.
    out : Path
        Folder of the cache.
    split : str
        Split of the source.
    views : str
        center, flip (and mirror image), ten_crop (five crops and their mirror images), augmented (flip, and eight crops in other colours).
    sample_bits : bool
        Draw Bernoulli bits instead of thresholding at 0.5.
    limit : int, optional
        Number of images to take, drawn by class, the same ones in every command; by default all.
    labels : bool
        Take labels from class folders or columns; with --no-labels there are none, and images beside class folders count too.
    batch_size : int
        Images encoded at a time.
    shard_size : int
        Images per shard.
    num_workers : int
        Processes that decode images, for sets too large for memory.
    device : str
        auto (an accelerator if there is one) or cpu.
    precision : str
        fp32, bf16, or auto: what is faster here, measured; a cache that is continued keeps what it was begun with.
    threads : int
        CPU threads; 0 for torch's default.
    seed : int
        Seed of sampled bits.
    config : Path, optional
        Settings to start from: the config.json of an earlier cache.
    """

    tokenizer: Path
    source: str
    out: Path
    split: str = "train"
    views: Literal["center", "flip", "ten_crop", "augmented"] = "center"
    sample_bits: bool = False
    limit: int | None = None
    labels: bool = True
    batch_size: int = 256
    shard_size: int = 8192
    num_workers: int = 0
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: int = 0
    seed: int = 0
    config: Path | None = None


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunSettings):
    """Train a generator on the codes of a cache (`bigr encode`), or on images that are encoded on the fly.

    Besides these it has the settings of `RunSettings`.

    Parameters
    ----------
    tokenizer : Path
        Folder of the tokenizer: `model` in the run folder of train-tokenizer.
    out : Path
        Run folder.
    codes : Path, optional
        Cache of codes. Give this or --source.
    source : str, optional
        Images, encoded in every step: "sample:fashion_mnist", a folder or file of parquet, arrow or images, or a Hub data set.
    split : str
        Split of the source to train on.
    flip : bool
        Mirror half of the images of --source; a cache has its views instead.
    sample_bits : bool
        Draw Bernoulli bits of the images of --source instead of thresholding at 0.5.
    unconditional : bool
        Train without labels (better features; the paper's Table 4); model.class_dropout then is 1.
    text : str, optional
        Train on captions instead of labels, and how they are read: "words" (a small encoder of the captions' own words, trained along), a
        WordLevel file of the `tokenizers` library with such words, or the name or folder of a T5, UMT5, CLIP or SigLIP encoder.
    captions : str, optional
        Captions of the images of --codes: the source that was encoded, or another with as many images in the same order.
    caption_column : str, optional
        Column of the captions; by default one that is called caption, captions, text, prompt or description.
    caption_cache : Path, optional
        Folder for the features of captions of a frozen encoder; `captions` in the run folder by default.
    sample_prompts : tuple of str
        Prompts of the pictures of generated images, a row each; the first captions of the data by default.
    preset : str
        Size to start from: bigr_nano, bigr_l, ... --model.* changes single numbers. Steps, batch and rate follow it: for nano sizes those
        below (an hour on two CPU cores), for others the published ones.
    model : GeneratorConfig
        Shape of the generator.
    weights : Path, optional
        Folder of a generator whose weights training starts from: `model` in an earlier run folder.
    mask_distribution : str
        How many tokens training hides: cosine, BiGR's, which hides less than half in a third of the steps, or truncated_normal, MAGE's
        (arXiv:2211.09117), which hides at least half. Of masked models.
    bit_flips : float
        Probability that the trunk sees a bit of a visible token turned over (a denoising autoencoder); 0 for none. Of models on bits.
    two_view_weight : float
        Weight of a term that makes pooled features of two of an image's views alike (VICReg, arXiv:2105.04906); 0 for none.
    two_view_layer : int, optional
        0-based block whose features that term sees; the middle block by default. A batch holds half as many images then, each twice.
    timesteps_per_token : int
        Noise levels drawn for every hidden token in a step. BiGR draws one; more make the trunk's gradient less noisy for a little more
        work in the transcoder alone (4 in MAR, arXiv:2406.11838).
    betas : tuple of two floats
        Decay rates of AdamW's two moments, per step.
    sample_every : int
        Steps between pictures of generated images; 0 for none.
    num_samples : int
        Images in such a picture of generated images.
    sample_reveal_steps : int
        Steps in which the tokens of such a picture are revealed.
    sample_denoise_steps : int
        Denoising steps of the transcoder in each of those reveal steps.
    guidance_scale : float
        Guidance scale of those pictures, 1 or more; 1 is no guidance.
    grad_checkpointing : bool
        Compute activations of the trunk again in the backward pass, to save memory.
    fsdp : bool
        Shard parameters, gradients and optimiser state over the processes.
    """

    tokenizer: Path
    out: Path
    codes: Path | None = None
    source: str | None = None
    split: str = "train"
    flip: bool = True
    sample_bits: bool = False
    unconditional: bool = False
    text: str | None = None
    captions: str | None = None
    caption_column: str | None = None
    caption_cache: Path | None = None
    sample_prompts: tuple[str, ...] = ()
    preset: str = "bigr_nano"
    model: GeneratorConfig = field(default_factory=lambda: GENERATORS["bigr_nano"])
    weights: Path | None = None
    mask_distribution: Literal["cosine", "truncated_normal"] = "cosine"
    bit_flips: float = 0.0
    two_view_weight: float = 0.0
    two_view_layer: int | None = None
    timesteps_per_token: int = 1
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.95)
    sample_every: int = 1_000
    num_samples: int = 100
    sample_reveal_steps: int = 10
    sample_denoise_steps: int = 20
    guidance_scale: float = 2.5
    grad_checkpointing: bool = False
    fsdp: bool = False

    def __post_init__(self) -> None:
        if self.unconditional and self.captioned:
            raise ValueError("unconditional trains without labels, but captions were asked for (text); give one of them.")
        if self.unconditional:
            object.__setattr__(self, "model", replace(self.model, class_dropout=1.0))

    @property
    def captioned(self) -> bool:
        """Whether captions are the condition."""
        return self.text is not None or self.model.text is not None


@dataclass(frozen=True)
class ExportConfig:
    """Write the averaged weights of a generator run, and its tokenizer, as two folders that load as one model; or for the Hub.

    Parameters
    ----------
    run : Path
        Run folder of `bigr train`, finished or not.
    out : Path
        Folder to write into: the generator under `name`, the tokenizer as `tokenizer`.
    name : str
        Folder of the generator.
    hub : bool
        Write one folder instead that can be uploaded to the Hugging Face Hub as it is: timm's config.json and model.safetensors, and a
        model card.
    step : int, optional
        Take this checkpoint; by default the finished model, or else the newest checkpoint.
    feature_layer : int, optional
        0-based block that these weights shall take their features from, such as the one that `bigr sweep` chose; the middle one by default.
    dtype : str
        float32, float16 or bfloat16.
    """

    run: Path
    out: Path
    name: str = "model"
    hub: bool = False
    step: int | None = None
    feature_layer: int | None = None
    dtype: Literal["float32", "float16", "bfloat16"] = "float16"
