"""Settings of an extraction; they load no torch, so that `bigr extract --help` is quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal


@dataclass(frozen=True, kw_only=True)
class ExtractionSettings:
    """What is extracted, from what.

    Parameters
    ----------
    source : str, optional
        Images: "sample:fashion_mnist", a folder or file of parquet, arrow or images, or the id of a data set on the Hub.
    codes : Path, optional
        Cache of codes (bigr encode) in its place, of a BiGR model with the same tokenizer: no image is opened. Ids are those of the codes.
    split : str
        Split of the source.
    limit : int, optional
        Number of images to take, drawn by class, the same ones in every command; by default all.
    labels : bool
        Take labels from class folders or columns; with --no-labels there are none, and images beside class folders count too.
    layers : tuple of int or str, optional
        0-based layers, negative from the end, taps inside a block such as 5.attention and 5.ffn, and head, which is what a model gives its
        classifier (timm's forward_head with pre_logits); all layers by default.
    pooling : tuple of str
        Poolings over the tokens of a layer: some of mean, cls, max, concat and quarters (means over the quarters of the token grid); tokens
        keeps all of them, in float16.
    bits : bool
        Store the tokenizer's bits too (BiGR).
    mask_ratio : float
        Share of tokens hidden, in [0, 1) (BiGR).
    condition : str
        Class condition (BiGR): null (no class), a class index for all images, or label (each image's own label, which
        tells the model the answer: not for measuring how well features predict labels).
    sample_bits : bool
        Draw Bernoulli bits instead of thresholding at 0.5 (BiGR).
    seed : int
        Seed of masks, sampled bits and random weights.
    precision : str
        Precision of the forward pass: fp32, bf16, or auto, the faster one on this machine: bf16 only where features agree with those of
        fp32 (a cosine of at least 0.999 on the first images) and no bits are kept; or int8, the linear layers in 8-bit integers, on a CPU
        only: faster still, and coarser. The store says how near. It keeps the precision it was begun in.
    compile : bool
        Compile the model's blocks (torch.compile, which needs a C++ compiler): half a minute at first, less the next time, and then 5 to
        15 % faster on a CPU, so for tens of thousands of images. fp32 and bf16 only.
    image_size : int, optional
        Side of the inputs in pixels, for models that take any size.
    batch_size : int
        Images per forward pass.
    shard_size : int
        Images per shard; an interrupted run loses one shard at most.
    num_workers : int or str
        Processes that read images ahead; 0 for none, or auto: measured on the first batches, what is faster of reading between the
        batches, in a thread beside the model, or in as many processes as keep it busy.
    """

    former_names: ClassVar[dict[str, str]] = {"dtype": "precision"}

    source: str | None = None
    codes: Path | None = None
    split: str = "train"
    limit: int | None = None
    labels: bool = True
    layers: tuple[int | str, ...] | None = None
    pooling: tuple[str, ...] = ("mean",)
    bits: bool = False
    mask_ratio: float = 0.0
    condition: str = "null"
    sample_bits: bool = False
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    compile: bool = False
    image_size: int | None = None
    batch_size: int = 64
    shard_size: int = 2048
    num_workers: int | Literal["auto"] = "auto"
